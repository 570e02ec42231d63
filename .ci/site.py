"""What the site has beside docs/: README and others as pages, the commands' help, and links to source files.

A hook of MkDocs, see mkdocs.yml.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
COMMANDS = "reference/commands.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere in the repository, and those that are made."""
    made = {place: (ROOT / page).read_text() for page, place in PAGES.items()} | {COMMANDS: commands()}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links out of docs/ to where they are on the site, or to the code's host."""
    place = page.file.src_uri
    origin = ROOT if place in PAGES.values() else (DOCS / place).parent

    def led(found: re.Match[str]) -> str:
        picture, label, link = found.groups()
        path, _, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        target = (origin / path).resolve()
        name = target.relative_to(ROOT).as_posix()
        if name in PAGES or target.is_relative_to(DOCS):
            inside = PAGES[name] if name in PAGES else target.relative_to(DOCS).as_posix()
            path = os.path.relpath(inside, Path(place).parent)
        elif config.repo_url:
            path = f"{config.repo_url.rstrip('/')}/blob/main/{name}"
        else:
            return (
                label if label.startswith("`") else f"{label} (`{name}`)" if label != Path(name).name else f"`{name}`"
            )
        return f"{picture}[{label}]({path}{'#' + anchor if anchor else ''})"

    return "".join(x if x.startswith("```") else LINK.sub(led, x) for x in FENCE.split(markdown))


def commands() -> str:
    """Return the page with the help of every command, as this version prints it."""
    from segue.cli.main import APART
    from segue.cli.main import COMMANDS as names

    parts = [
        "# Commands\n\nWhat `segue COMMAND --help` prints.  [The command line](../command-line.md) shows examples.\n"
    ]
    for name in names:
        parts += [f"## segue {name}\n\n```text\n{said(name)}\n```\n"]
        inner = re.findall(r"\w+", re.findall(r"\{(.*?)\}", said(name))[0]) if name in APART else []
        parts += [f"### segue {name} {word}\n\n```text\n{said(name, word)}\n```\n" for word in inner]
    return "\n".join(parts)


def said(*words: str) -> str:
    """Return the help of a command."""
    plain = {**os.environ, "COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    process = [sys.executable, "-m", "segue", *words, "--help"]
    return subprocess.run(process, env=plain, capture_output=True, text=True, check=True).stdout.strip()
