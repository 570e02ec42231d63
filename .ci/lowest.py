"""Print the lowest version of everything that pyproject.toml names, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for part in (project["dependencies"], *project["optional-dependencies"].values()):
    for name, version in re.findall(r"([\w-]+)>=([\w.]+)", "\n".join(part)):
        print(f"{name}=={version}")
