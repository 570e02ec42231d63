"""Time of an update of every agent, beside d3rlpy's in the same run.

    python benchmarks/agents.py                               Segue alone, 1 and 8 seeds
    python benchmarks/agents.py --setup-peer FOLDER           makes a virtual environment with d3rlpy, once
    python benchmarks/agents.py --peer FOLDER                 compares
    python benchmarks/agents.py --peer FOLDER --peer-compile  compares with a compiled d3rlpy
    python benchmarks/agents.py --agents IQL antmaze/Cal-QL   these only

The setting of the literature: 17 observations, 6 actions, networks 256 x 2, two critics, batches of 256.  CQL and
Cal-QL also run at the AntMaze setting: 29 observations, 8 actions, critics 256 x 4, actor 256 x 2, 10 sampled
actions, max-target backup, a learned multiplier.  Sampling from a dataset of 100,000 rows in episodes of 1,000 is
included on both sides, compilation on neither.  What else d3rlpy does differently is in peer_d3rlpy.py.

- ReBRAC's critics have layer normalisation, a part of the method, at the common size; Segue's defaults for it, CORL's
  three layers of 256, are a row of their own.
- RLPD does 20 updates of its 10 critics on 256 rows each and then one of the actor; the second row of it is per
  update of the critics.  SPOT's density, and VAE, which trains it, have 750 x 2 units, as in SPOT's code.

All measurements take turns; times are medians, per update and seed, and a ratio is the median of the ratios within
turns.  d3rlpy learns one seed at a time.  It stands there twice: one process with torch's own choice of threads; and,
beside several seeds, as many processes as the machine has cores with one thread each, which is what gets most updates
out of a machine (time divided by the number of processes).

The share of the matrix rate counts the update's matrix products beside those of a 2048 x 2048 product in the same turn.

Nothing else may run meanwhile: torch's threads wait for each other by spinning, so that a busy machine slows d3rlpy
down many times more than Segue, turns or not.

The environment of `--setup-peer` has pinned versions of d3rlpy and of what its speed depends on; d3rlpy itself pins a
Gymnasium older than Segue's, hence an environment of its own.  Packages come from where pip is configured to look.  A
CPU build of torch is what is wanted (1.2 GB in all, installed); where pip knows only torch's default build for Linux,
name the index of CPU builds from PyTorch's installation page in PIP_EXTRA_INDEX_URL, or CUDA's libraries come along,
without which that build does not import.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from common import Run, dataset, finite, matrix_rate, measure, seconds, updates
from peer_d3rlpy import Case
from segue.agents import AGENTS, AWAC, CQL, IQL, RLPD, SAC, SPOT, TD3, TD3BC, VAE, CalQL, ReBRAC
from segue.core.optim import Trained
from segue.core.options import assign, reachable
from segue.core.replay import Replay
from segue.core.scaling import Scaling
from segue.core.types import Spec
from segue.engine.phase import Phase
from segue.samplers.uniform import Mix

PEER = ("d3rlpy==2.8.1", "torch==2.13.0", "numpy==2.4.6")
LITERATURE, ANTMAZE = (17, 6), (29, 8)
EXTRA = 2  # parameters that only Segue's TanhGaussian has: factor and offset of the log standard deviation


@dataclasses.dataclass(frozen=True)
class Entry:
    """An agent at a setting, and what d3rlpy calls it (None: d3rlpy does not have it)."""

    name: str
    learner: Any
    peer: Case | None
    shape: tuple[int, int] = LITERATURE
    rows: int = 256
    parts: int = 1
    """Updates of the critics in an update."""


def entries(hidden: tuple[int, ...], batch: int, rows: int, episode: int) -> list[Entry]:
    """All agents; sizes are those of the setting of the literature, and of the dataset."""
    nets: dict[str, Any] = {"actor_hidden": hidden, "critic_hidden": hidden}
    td3 = TD3(**nets)
    own = ReBRAC()
    rebrac = replace(own, base=replace(own.base, **nets))
    # One bootstrap action, no multiplier: CQL as it is run on locomotion.
    cql = CQL(base=SAC(**nets), lagrange=False)
    antmaze = CQL()
    rlpd = RLPD(**nets)

    def peer(agent: str, shape: tuple[int, int] = LITERATURE, **changes: Any) -> Case:
        sizes: dict[str, Any] = {"actor_hidden": hidden, "critic_hidden": hidden, "critics": 2, "batch": batch}
        sizes |= changes
        return Case(agent, *shape, rows=rows, episode=episode, **sizes)

    wide: dict[str, Any] = {
        "actor_hidden": antmaze.base.actor_hidden,
        "critic_hidden": antmaze.base.critic_hidden,
        "samples": antmaze.samples,
        "max_backup": True,
        "gap": antmaze.gap,
    }
    three: dict[str, Any] = {"actor_hidden": own.base.actor_hidden, "critic_hidden": own.base.critic_hidden}
    found = [
        Entry("TD3", td3, peer("TD3")),
        Entry("TD3BC", TD3BC(base=td3), peer("TD3PlusBC")),
        Entry("ReBRAC", rebrac, peer("ReBRAC", layer_norm=True)),
        Entry("ReBRAC, 256 x 3", own, peer("ReBRAC", layer_norm=True, **three)),
        Entry("IQL", IQL(**nets), peer("IQL")),
        Entry("AWAC", AWAC(**nets), peer("AWAC")),
        Entry("SAC", SAC(backup_entropy=True, **nets), peer("SAC")),
        Entry("CQL", cql, peer("CQL")),
        Entry("Cal-QL", CalQL(cql), peer("CalQL")),
        Entry("SPOT", SPOT(base=td3), None),
        Entry("VAE", VAE(), None),
        Entry("RLPD", rlpd, None, rows=batch * rlpd.critic_updates, parts=rlpd.critic_updates),
        Entry("antmaze/CQL", antmaze, peer("CQL", ANTMAZE, **wide), ANTMAZE),
        Entry("antmaze/Cal-QL", CalQL(antmaze), peer("CalQL", ANTMAZE, **wide), ANTMAZE),
    ]
    for name, known in AGENTS.items():  # every other agent that is registered, with the same sizes
        if not any(isinstance(e.learner, known.agent) for e in found):
            found.append(Entry(name, sized(known.agent(), nets), None))
    return [e if e.parts > 1 else replace(e, rows=batch) for e in found]


def sized(learner: Any, sizes: dict[str, Any]) -> Any:
    """Return a learner with those of the options that it has, at any depth."""
    for option, value in sizes.items():
        if option in reachable(learner):
            learner, _ = assign(learner, [option], value, option)
    return learner


# -- Segue ---------------------------------------------------------------------------------------------------------


def parameters(learner: Any, shape: tuple[int, int]) -> dict[str, int]:
    """Parameters of a learner's networks by name."""
    observation, action = shape
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), Spec((observation,), action)))
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda x: isinstance(x, Trained))
    trained = {path[-1].name: part for path, part in found if isinstance(part, Trained)}
    return {name: sum(x.size for x in jax.tree.leaves(part.params)) for name, part in trained.items()}


# -- d3rlpy --------------------------------------------------------------------------------------------------------


def set_up(folder: Path) -> None:
    """Make d3rlpy's virtual environment."""
    venv.create(folder, with_pip=True)
    subprocess.run([python(folder), "-m", "pip", "install", *PEER], check=True)


def python(folder: Path) -> str:
    """Interpreter of a virtual environment."""
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


class Workers:
    """Processes of d3rlpy that do the same at the same time."""

    def __init__(self, folder: Path, processes: int, threads: int | None, compiled: bool) -> None:
        command = [python(folder), str(Path(__file__).with_name("peer_d3rlpy.py"))]
        command += ["--threads", str(threads)] * bool(threads) + ["--compile"] * compiled
        # What finds Segue's packages must not find them for the peer.
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        start = lambda: subprocess.Popen(  # noqa: E731
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean
        )
        self.processes = [start() for _ in range(processes)]

    def ask(self, **request: Any) -> list[dict[str, Any]]:
        """Answers of all processes."""
        for process in self.processes:
            assert process.stdin is not None
            print(json.dumps(request), file=process.stdin, flush=True)
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("a process of the peer ended; what it wrote is above")
            answers.append(json.loads(line))
        return answers

    def clock(self, entry: Entry, at_least: float) -> Callable[[], float]:
        """A function that measures seconds per update and process once, after what happens only once."""
        self.ask(case=entry.name, updates=4)
        once = self.spent(entry, 4) / 4
        count = max(2, 2 * round(0.5 * at_least / once))  # even: TD3's actor moves in every second update
        return lambda: self.spent(entry, count) / (count * len(self.processes))

    def spent(self, entry: Entry, count: int) -> float:
        """Seconds that the slowest process took for `count` updates."""
        answers = self.ask(case=entry.name, updates=count)
        if not all(x["finite"] for x in answers):
            raise SystemExit(f"d3rlpy's losses of {entry.name} are not finite any more; its time would mean nothing")
        return max(x["seconds"] for x in answers)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.communicate()


# -- both ----------------------------------------------------------------------------------------------------------


ONE, MANY = "one process", "a process per core"  # of d3rlpy


@dataclasses.dataclass
class Row:
    """One agent: what measures it, by number of seeds and by arrangement of d3rlpy, and seconds that it took."""

    entry: Entry
    gflop: float
    clocks: dict[int | str, Callable[[], float]]
    runs: list[Run]
    seconds: dict[int | str, list[float]] = dataclasses.field(default_factory=dict)

    def take_turn(self) -> None:
        """Measure everything once."""
        for name, clock in self.clocks.items():
            self.seconds.setdefault(name, []).append(clock())

    def ms(self, name: int | str) -> float:
        """Median time of an update and seed."""
        return 1e3 * statistics.median(self.seconds[name])

    def faster(self, seeds: int, peer: str) -> float:
        """How many times faster Segue is."""
        return statistics.median(b / a for a, b in zip(self.seconds[seeds], self.seconds[peer]))

    def share(self, seeds: int, rates: Sequence[float]) -> float:
        """Share of the matrix-product rate that the update's own products reach."""
        return statistics.median(self.gflop / t / r for t, r in zip(self.seconds[seeds], rates))


def prepare(
    chosen: Sequence[Entry], options: argparse.Namespace, workers: dict[str, Workers]
) -> tuple[list[Row], dict[str, Any]]:
    """Compile and build everything, and compare the networks of both sides."""
    scaling, offline = Scaling(), dict[tuple[int, int], Replay]()
    rows, networks = list[Row](), dict[str, Any]()
    for entry in chosen:
        if entry.shape not in offline:
            offline[entry.shape] = dataset(*entry.shape, scaling, options.rows, options.episode)
        ours = parameters(entry.learner, entry.shape)
        networks[entry.name] = {"segue": ours}
        phase = Phase(entry.name, entry.learner, gradient_steps=1, batch=Mix(entry.rows))
        row = Row(entry, 0.0, {}, [])
        rows.append(row)
        for seeds in options.seeds:
            spec = Spec((entry.shape[0],), entry.shape[1])
            run, row.gflop = updates(phase, scaling, spec, offline[entry.shape], seeds)
            compiled = seconds(partial(run, 1))
            print(f"  {entry.name}, {seeds} seeds: compiled in {compiled:.1f} s", file=sys.stderr, flush=True)
            row.clocks[seeds] = measure(run, seeds, options.seconds)
            row.runs.append(run)
        if entry.peer is None:
            continue
        for name, pool in workers.items():
            theirs = pool.ask(case=entry.name, **dataclasses.asdict(entry.peer))[0]
            if any(not 0 <= ours[part] - size <= EXTRA for part, size in theirs.items()):
                raise SystemExit(f"{entry.name}: networks differ, ours {ours}, theirs {theirs}")
            networks[entry.name]["d3rlpy"] = theirs
            row.clocks[name] = pool.clock(entry, options.seconds)
    return rows, networks


def take_turns(rows: Sequence[Row], rounds: int) -> list[float]:
    """Measure everything in turn, so that a slow minute falls on all, and the matrix-product rate once a turn."""
    rates = []
    for turn in range(rounds):
        rates.append(matrix_rate())
        for row in rows:
            row.take_turn()
        print(f"  turn {turn + 1} of {rounds} done", file=sys.stderr, flush=True)
    for row in rows:
        if not all(finite(run(1)) for run in row.runs):
            raise SystemExit(f"{row.entry.name} has numbers that are not finite; its time means nothing")
    return rates


def table(rows: Sequence[Row], rates: Sequence[float]) -> str:
    """Medians and ratios as Markdown."""
    peers = [name for name in (ONE, MANY) if any(name in row.clocks for row in rows)]
    head = ["agent", "seeds", "ms", "share of the matrix rate"]
    head += [title for name in peers for title in (f"d3rlpy, {name}: ms", "times faster")]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        for seeds in (name for name in row.clocks if isinstance(name, int)):
            share = f"{100 * row.share(seeds, rates):.0f} %"
            line = [row.entry.name, str(seeds), f"{row.ms(seeds):.3f}", share]
            for peer in peers:
                there = peer in row.clocks and (peer == ONE or seeds > 1)
                line += [f"{row.ms(peer):.2f}", f"{row.faster(seeds, peer):.2f}"] if there else ["", ""]
            lines.append(line)
            if (parts := row.entry.parts) > 1:
                part = [f"{row.entry.name}, per critic update", str(seeds), f"{row.ms(seeds) / parts:.3f}", share]
                lines.append(part + [""] * (len(head) - len(part)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", metavar="NAME", help="rows to measure; all unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a measurement, at least")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256], help="at the setting of the literature")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rows", type=int, default=100_000, help="of the dataset")
    parser.add_argument("--episode", type=int, default=1000, help="steps of an episode of the dataset")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="d3rlpy's virtual environment")
    parser.add_argument("--peer-compile", action="store_true", help="torch.compile d3rlpy's losses and gradients")
    parser.add_argument("--peer-threads", type=int, help="of d3rlpy's single process; torch decides unless given")
    parser.add_argument("--peer-processes", type=int, default=os.cpu_count(), help="beside several seeds")
    parser.add_argument("--setup-peer", type=Path, metavar="FOLDER", help="make that environment, and do nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every measurement")
    options = parser.parse_args(arguments)
    if options.setup_peer:
        set_up(options.setup_peer)
        return
    if options.peer and jax.default_backend() != "cpu":
        parser.error("d3rlpy is measured on the CPU; set JAX_PLATFORMS=cpu to compare")
    known = entries(tuple(options.hidden), options.batch, options.rows, options.episode)
    names = options.agents or [e.name for e in known]
    if unknown := set(names) - {e.name for e in known}:
        parser.error(f"no row {', '.join(sorted(unknown))}; known: {', '.join(e.name for e in known)}")

    workers: dict[str, Workers] = {}
    if options.peer:
        workers[ONE] = Workers(options.peer, 1, options.peer_threads, options.peer_compile)
        if max(options.seeds) > 1:
            workers[MANY] = Workers(options.peer, options.peer_processes, 1, options.peer_compile)
    try:
        peers = [pool.ask()[0] | {"processes": len(pool.processes)} for pool in workers.values()]
        rows, networks = prepare([e for e in known if e.name in names], options, workers)
        rates = take_turns(rows, options.rounds)
    finally:
        for pool in workers.values():
            pool.close()

    print(f"JAX {jax.__version__} on {jax.default_backend()}, {os.cpu_count()} cores; ", end="")
    print(f"matrix products run at {statistics.median(rates):.0f} GFLOP/s")
    for about in peers:
        compiled = "compiled" if options.peer_compile else "not compiled"
        print(
            f"d3rlpy {about['d3rlpy']} with torch {about['torch']}, {compiled}: processes {about['processes']}, "
            f"threads of each {about['threads']}"
        )
    print(f"\n{table(rows, rates)}\n\nParameters of the networks that learn (Segue / d3rlpy):\n")
    for name, sides in networks.items():
        theirs = {part: f" / {size:,}" for part, size in sides.get("d3rlpy", {}).items()}
        print(f"- {name}: " + ", ".join(f"{part} {n:,}{theirs.get(part, '')}" for part, n in sides["segue"].items()))
    if options.json:
        found = [{"agent": r.entry.name, "parts": r.entry.parts, "gflop": r.gflop, "seconds": r.seconds} for r in rows]
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if "peer" not in k}
        about = {"jax": jax.__version__, "backend": jax.default_backend(), "cores": os.cpu_count(), "peers": peers}
        written = about | {"settings": settings, "matrix_gflops": rates, "networks": networks, "rows": found}
        options.json.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
