"""`segue export`, `segue push` and `segue pull`: a policy leaves Segue, or comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from segue.cli.app import app

RunName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN[@PHASE]")]]
Bundle = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN[@PHASE]|FOLDER")]]
Repo = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")]]

# Nothing above imports JAX: help answers at once.


@app.command(name="export")
def export_command(
    run: RunName, /, to: Literal["onnx", "stablehlo", "numpy"], out: Path | None = None, seed: int | None = None
) -> None:
    """Write a policy as files that act without Segue: raw observation in, action in the environment's bounds out.

    The files are compared with the policy on 1,000 random observations first, and refused if an action differs.

    Args:
        run: Folder of a run, at its end or @PHASE; or the folder of a policy.
        to: onnx, for onnxruntime and other runtimes; numpy, for NumPy alone; stablehlo, for XLA.
        out: Folder to write into; RUN/export by default.
        seed: The seed whose policy it is; the first one of the run by default.
    """
    from segue.cli.compiled import prepare
    from segue.deploy.compare import OBSERVATIONS
    from segue.deploy.export import NAMES, export

    prepare()
    done = export(run, to, out, seed)
    print(
        f"seed {done.seed}: of {OBSERVATIONS:,} random observations, actions differ from Segue's by at most "
        f"{done.difference:.1g} of half their range"
    )
    if done.left_out:
        print(f"{done.left_out} of them are left out: there the policy's own action hangs on rounding (docs/export.md)")
    for name in NAMES[to]:
        print(f"wrote {done.file.with_name(name)}")


@app.command(name="push")
def push_command(run: Bundle, repo: Repo, /, public: bool = False) -> None:
    """Send a policy to the Hugging Face Hub, into a private repository.

    Args:
        run: Folder of a run, at its end or @PHASE; or the folder of a policy.
        repo: Repository on the Hub; it is made if it is not there.
        public: Let everybody see a repository that is made.
    """
    from segue.deploy.hub import push

    print(f"sent: {push(run, repo, public)}")


@app.command(name="pull")
def pull_command(repo: Repo, /, out: Path) -> None:
    """Fetch a policy from the Hugging Face Hub, for `segue.load`.

    Args:
        repo: Repository on the Hub, or OWNER/NAME@REVISION.
        out: Folder to make.
    """
    from segue.deploy.hub import pull

    own = pull(repo, out)
    print(f"policy: {out}")
    if own:
        print(f"loading it imports {', '.join(own)}: read these modules first")
