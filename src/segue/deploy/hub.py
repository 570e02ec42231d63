"""Policy bundles on the Hugging Face Hub, or on a server that speaks its language (the variable HF_ENDPOINT).

What travels is `policy.json` and `weights.safetensors` of all seeds, and a README.md that says what they are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segue.core import files
from segue.core.types import SegueError
from segue.data.extras import need
from segue.runs.policy import read_bundle

BUNDLE = ("policy.json", "weights.safetensors")
CARD = "README.md"


def push(run: str | os.PathLike[str], repo: str, public: bool = False) -> str:
    """Send the bundle of a run ("RUN@PHASE": at the end of a phase), or a bundle's folder, to a repository OWNER/NAME.

    The repository is made if it is not there, private unless `public`; one that is there stays as visible as it was.
    Return the address of the commit.  Raises `SegueError` where the bundle is damaged or the server refuses.
    """
    folder, described, _ = read_bundle(run)
    hub = need("huggingface_hub", "hub", "segue push")
    with _refusals(hub, f"segue push {repo}"), tempfile.TemporaryDirectory() as name:
        for part in BUNDLE:
            shutil.copyfile(folder / part, Path(name) / part)
        (Path(name) / CARD).write_text(card(repo, described), "utf-8")
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(repo, private=not public, exist_ok=True)
        sent = api.upload_folder(repo_id=repo, folder_path=name, commit_message=f"Policy for {described.get('task')}")
    return str(sent.commit_url)


def pull(repo: str, out: str | os.PathLike[str]) -> list[str]:
    """Fetch a bundle from a repository OWNER/NAME, or OWNER/NAME@REVISION, into a new folder for `segue.load`.

    Return the parts of somebody's own, module:name, that loading it would import; nothing is imported here.  Raises
    `SegueError` where the folder exists, the server refuses, or what came is no whole bundle: then nothing stays.
    """
    folder = Path(out)
    if folder.exists():
        raise SegueError(f"{folder} exists; remove it, or give another --out")
    hub = need("huggingface_hub", "hub", "segue pull")
    name, _, revision = repo.partition("@")
    with _refusals(hub, f"segue pull {repo}"), tempfile.TemporaryDirectory() as place:
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.snapshot_download(name, revision=revision or None, local_dir=place, allow_patterns=[*BUNDLE, CARD])
        try:
            _, described, _ = read_bundle(place)
        except SegueError as error:
            raise SegueError(str(error).replace(place, repo)) from error
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f".{folder.name}")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for part in (*BUNDLE, CARD):
            if (Path(place) / part).exists():
                shutil.copyfile(Path(place) / part, new / part)
        files.swap(new, folder)
    return sorted(set(own_parts(described["agent"])))


def own_parts(described: Any) -> Iterator[str]:
    """The parts module:name of an agent's description, at any depth."""
    if isinstance(described, Mapping):
        described = list(described.values())
    if isinstance(described, str) and ":" in described:
        yield described
    elif isinstance(described, list):
        for value in described:
            yield from own_parts(value)


def card(repo: str, described: Mapping[str, Any]) -> str:
    """The page that the Hub shows for a bundle."""
    trained = described.get("trained") or {}
    seeds = ", ".join(map(str, described["seeds"]))
    return f"""---
library_name: segue
pipeline_tag: reinforcement-learning
tags:
- segue
- reinforcement-learning
- offline-to-online
---

# {described["agent"]["type"]} for {described.get("task")}

A policy of Segue's: phase '{trained.get("phase")}', environment step {trained.get("environment_step")}, update
{trained.get("update")}; seeds {seeds}.

```sh
pip install "segue[hub]"
segue pull {repo} --out policy
```

```python
import segue

policy = segue.load("policy", seed={described["seeds"][0]})
action = policy.act(observation)
```

`segue export policy --to onnx` makes a file that acts without Segue.
"""


@contextmanager
def _refusals(hub: Any, what: str) -> Iterator[None]:
    """What the server or the network says, in one line."""
    try:
        yield
    except SegueError:
        raise
    except (hub.errors.HTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        refused = isinstance(error, hub.errors.HfHubHTTPError) and error.response.status_code in (401, 403)
        cure = "; sign in with `hf auth login`, or set HF_TOKEN" if refused else ""
        raise SegueError(f"{what}: {type(error).__name__}: {said}{cure}") from error
