"""Draw good rows more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.indices import Indices, either, online_share
from segue.core.options import option, require, tunable
from segue.core.types import Array, Handover, Key, Metrics, Sampler, SegueError, State
from segue.samplers import sum_tree
from segue.samplers.subset import Own, Shown, SubsetView
from segue.samplers.sum_tree import CHUNK, Tree
from segue.samplers.uniform import Mix, Union, Visible, at_leaves, drawable


class Favours(NamedTuple):
    """State of `Oversample`.  The tree's leaves are the dataset's rows, then the ring of own experience."""

    beside: State
    tree: Tree
    origin: Array  # reward that success is measured from, or the return that weighs 1
    width: Array  # of returns
    written: Array  # own rows whose place in the ring the tree knows of
    weighed: Array  # own rows (or starts of chunks, by="reward") that have their weight


@dataclass(frozen=True)
class Oversample:
    """The batch of the sampler `beside`, then `rows` more rows from the better part of dataset and own experience.

    `by="reward"`: uniform over the rows whose raw reward is a success; `by="success"`: uniform over all rows of the
    episodes with such a row; `by="return"`: a row's probability is proportional to
    exp(R / (temperature * width)), R the raw undiscounted return of its episode.

    OOO's exploiters do this (default: the IQL variant on kitchen, 8 of 256 from episodes with a success;
    on AntMaze it is by="reward"; its Cal-QL variant adds 32 to 256).  A success is a raw reward of at least
    `threshold`; None means any reward above the dataset's lowest, which in sparse tasks is the reward of failing
    (default of ours; for kitchen set 4).  Weighing by return with temperature 0.1 is Hong et al. 2023
    (arXiv 2306.13085) for a dataset; here `width` is the range of the dataset's returns, and own experience is
    weighed by the same rule (both ours).  With `own_only`, when own experience is the dataset (Su, Luo and Zhang 2025),
    it is the range of the returns of own episodes at the beginning of the phase.

    Own episodes get their weight when they end, from the rows that are still in the ring.  Single rows get it at once,
    or with `visible="closed"` when their episode ends.  While no row has a weight, rows are uniform over dataset and
    own experience.
    """

    rows: int = tunable(8, rows=1)
    beside: Sampler | None = Union(248)
    by: Literal["reward", "success", "return"] = "success"
    threshold: float | None = option(None, when=lambda o: o.by != "return", why='by="reward" or by="success"')
    temperature: float = option(0.1, when=lambda o: o.by == "return", why='by="return"')
    width: float | None = option(None, when=lambda o: o.by == "return", why='by="return"')
    visible: Visible = option(
        "all", when=lambda o: o.by == "reward", why='by="reward"; episodes are weighed at their end'
    )
    own_only: bool = False
    """Draw rows of own experience only; a dataset then only gives the reward of failing."""

    def __post_init__(self) -> None:
        require(
            self,
            rows=self.rows >= (self.beside is None),
            temperature=self.temperature > 0,
            width=self.width is None or self.width > 0,
        )

    def init(self, key: Key, handover: Handover) -> State:
        """Weigh the dataset; own rows follow at the first update."""
        if isinstance(handover.offline, SubsetView):
            raise SegueError("Oversample needs whole episodes; put Retain inside it: Oversample(n, Retain(share, ...))")
        replay, lane = handover.offline.replay, handover.offline.lane
        reward, ended = replay.reward[lane], replay.ended[lane]
        logged = jnp.arange(len(reward)) < replay.written[lane]
        value = reward if self.by == "reward" else self.of_episodes(reward, jnp.cumsum(ended) - ended)
        least = lambda of: jnp.min(jnp.where(logged, of, jnp.inf))  # noqa: E731
        width = jnp.float32(1.0)
        if self.by == "return":
            if self.own_only:
                value, logged = self.own_returns(handover.online)
            low, best = least(value), -least(-value)
            # Where all returns are equal any width will do.
            width = jnp.where(best > low, best - low, width) if self.width is None else jnp.float32(self.width)
            origin = jnp.where(jnp.isfinite(best), best, 0.0)
        else:
            origin = least(reward) if self.threshold is None else jnp.float32(self.threshold)
        weights = jnp.zeros(len(reward))
        if not self.own_only:
            weights = jnp.where(drawable(handover.offline), self.weight(value, origin, width), 0.0)
        tree = sum_tree.make(jnp.concatenate([weights, jnp.zeros(handover.online.room)]))
        beside = () if self.beside is None else self.beside.init(key, handover)
        return Favours(beside, tree, origin, width, jnp.int32(0), jnp.int32(0))

    def own_returns(self, online: Own) -> tuple[Array, Array]:
        """Return of each own row's episode (N,), one simulator's after the other's, and whether it has ended."""
        oldest, size = online.rows(False)
        at = jnp.arange(online.replay.capacity)
        at = at[jnp.argsort((oldest + at) % online.stride, stable=True)]
        place, there = (online.lane, (oldest + at) % online.replay.capacity), at < size
        reward, ended = (jnp.where(there, part[place], 0) for part in (online.replay.reward, online.replay.ended))
        # A simulator's last episode may be open, and then the next one's first has another number all the same.
        episode = jnp.cumsum(ended) - ended + (oldest + at) % online.stride
        closed = jnp.zeros(len(at) + online.stride, jnp.bool_).at[episode].max(ended.astype(jnp.bool_))
        return self.of_episodes(reward, episode), there & closed[episode]

    def of_episodes(self, reward: Array, episode: Array) -> Array:
        """Highest reward, or return, of each row's episode (N,); episodes (N,) have ascending numbers."""
        reduce = jax.ops.segment_sum if self.by == "return" else jax.ops.segment_max
        # Each simulator's episodes begin with a number of their own, which no row may have.
        return reduce(reward, episode, num_segments=2 * len(reward), indices_are_sorted=True)[episode]

    def weight(self, value: Array, origin: Array, width: Array) -> Array:
        """Weight of a row by what its reward or its episode is worth; float32 holds exp(60) a million times."""
        if self.by == "return":
            return jnp.exp(jnp.minimum((value - origin) / (self.temperature * width), 60.0))
        return jnp.where(value > origin if self.threshold is None else value >= origin, 1.0, 0.0)

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Rows: those of `beside` first, then (rows, ...); `rows=0` leaves those of `beside` alone."""
        if not self.rows and self.beside is not None:
            beside, first, said = self.beside.sample(state.beside, key, offline, online)
            return state._replace(beside=beside), first, said
        k_beside, k_rows, k_instead = jax.random.split(key, 3)
        state = self.follow(state, offline.room, online)
        leaves = sum_tree.draw(state.tree, k_rows, self.rows, stratified=False)
        _, instead, _ = self.union().sample((), k_instead, offline, online)
        weighed = sum_tree.total(state.tree) > 0
        rows = either(weighed, at_leaves(offline, online, leaves), instead)
        metrics: Metrics = {}
        if self.beside is not None:
            beside, first, metrics = self.beside.sample(state.beside, k_beside, offline, online)
            state, rows = state._replace(beside=beside), (*first, *rows)
        online_rows = online_share(rows)
        share = jnp.mean(1.0 - online_rows)
        return state, rows, metrics | {"offline_share": share, "oversampled": weighed * self.rows / len(online_rows)}

    def follow(self, state: Favours, first: int, online: Own) -> Favours:
        """Weigh what was written, or has ended, since the last call; a row that was overwritten loses its weight."""
        replay, lane, capacity = online.replay, online.lane, online.replay.capacity
        oldest, size = online.span(self.closed()) if self.by == "reward" else online.rows(False)
        start, stop, written = jnp.maximum(state.weighed, oldest), oldest + size, replay.written[lane]
        if self.by != "reward" and replay.starts is not None and online.stride > 1:
            stop = stop - (replay.starts.length - 1) * online.stride  # later windows may wait for their place
        tree = state.tree
        if self.closed() or replay.starts is not None:
            none = lambda count: jnp.zeros(count.shape)  # noqa: E731
            tree = sum_tree.write_ring(tree, first, capacity, state.written, written, none)
        if self.by == "reward":
            single = lambda count: self.weight(replay.reward[lane, count % capacity], state.origin, state.width)  # noqa: E731
            tree = sum_tree.write_ring(tree, first, capacity, start, stop, single, online.at)
        else:
            tree = self.episodes(state._replace(tree=tree), first, online, start, stop)
        return state._replace(tree=tree, written=written, weighed=jnp.maximum(state.weighed, stop))

    def episodes(self, state: Favours, first: int, online: Own, start: Array, stop: Array) -> Tree:
        """Weigh the own episodes that ended between two absolute counts, one after the other."""
        replay, lane, capacity, stride = online.replay, online.lane, online.replay.capacity, online.stride
        oldest, _ = online.rows(False)
        nothing = 0.0 if self.by == "return" else -jnp.inf
        several, zero = jnp.arange(CHUNK), jnp.zeros_like(start)
        ended = lambda count: replay.ended[lane, count % capacity]  # noqa: E731

        def last(at: Array) -> Array:
            """The first last row of an episode from a row on, or `stop`."""
            ends = lambda at: ended(at + several) & (at + several < stop)  # noqa: E731
            none = lambda at: (at < stop) & ~jnp.any(ends(at))  # noqa: E731
            at = jax.lax.while_loop(none, lambda at: at + CHUNK, at)
            return jnp.minimum(at + jnp.argmax(ends(at)).astype(at.dtype), stop)

        def length(end: Array) -> Array:
            """How many rows of an episode are there, from its last one back."""
            before = lambda n: end - stride * (n + 1 + several)  # noqa: E731
            other = lambda n: (before(n) < oldest) | ended(before(n))  # noqa: E731
            n = jax.lax.while_loop(lambda n: ~jnp.any(other(n)), lambda n: n + CHUNK, zero)
            return n + 1 + jnp.argmax(other(n)).astype(n.dtype)

        def episode(carry: tuple[Tree, Array]) -> tuple[Tree, Array]:
            tree, at = carry
            end = last(at)
            rows = jnp.where(end < stop, length(end), 0)
            row = lambda n: end - stride * (rows - 1 - n)  # noqa: E731

            def more(carry: tuple[Array, Array]) -> tuple[Array, Array]:
                n, value = carry
                reward = jnp.where(n + several < rows, replay.reward[lane, row(n + several) % capacity], nothing)
                value = value + jnp.sum(reward) if self.by == "return" else jnp.maximum(value, jnp.max(reward))
                return n + CHUNK, value

            _, value = jax.lax.while_loop(lambda c: c[0] < rows, more, (zero, jnp.float32(nothing)))
            weight = self.weight(value, state.origin, state.width)
            same = lambda count: jnp.where(replay.begins(lane, count), weight, 0.0)  # noqa: E731
            return sum_tree.write_ring(tree, first, capacity, zero, rows, same, row), end + 1

        return jax.lax.while_loop(lambda c: c[1] < stop, episode, (state.tree, start))[0]

    def closed(self) -> bool:
        """Whether own rows count from the end of their episode on."""
        return self.by != "reward" or self.visible == "closed"

    def union(self) -> Sampler:
        """What serves while nothing has a weight."""
        visible: Visible = "closed" if self.closed() else "all"
        return Mix(0, self.rows, visible) if self.own_only else Union(self.rows, visible)

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        problem = None if self.beside is None else self.beside.validate(offline, written, closed)
        if problem:
            return problem
        if not offline and self.by == "return" and self.width is None and not self.own_only:
            return "it scales returns by the range of the dataset's, but the task has no dataset; set own_only or width"
        if not offline and self.by != "return" and self.threshold is None:
            return "it compares rewards with the dataset's lowest reward, but the task has no dataset; set threshold"
        return self.union().validate(offline, written, closed)
