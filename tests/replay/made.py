"""Views over rows that say who they are: observation = (row number, 0 logged or 1 own), action = row number / 1000."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import replay
from segue.core.experience import Experience, Step
from segue.core.indices import gather
from segue.core.log import Data
from segue.core.replay import Rows, View
from segue.core.scaling import Scaling
from segue.core.types import Handover, Spec

SPEC = Spec((2,), 1)


def rows(count: int, own: bool, reward: Sequence[float] | None, ended: Sequence[int]) -> Data:
    """Rows in the order of time; `ended` names the last rows of episodes."""
    number = np.arange(count, dtype=np.float32)
    observation = np.stack([number, np.full(count, float(own), np.float32)], axis=1)
    flags = np.zeros(count, bool)
    flags[list(ended)] = True
    raw = np.zeros(count, np.float32) if reward is None else np.asarray(reward, np.float32)
    return Data(observation, number[:, None] / 1000, raw, np.zeros(count, bool), flags, observation + 1)


def logged(count: int, reward: Sequence[float] | None = None, ended: Sequence[int] = ()) -> View:
    """A dataset."""
    return View(replay.from_data(rows(count, False, reward, ended), Scaling()), jnp.int32(0), 0.0)


def own(
    count: int,
    capacity: int,
    reward: Sequence[float] | None = None,
    ended: Sequence[int] = (),
    lanes: int = 1,
) -> View:
    """Own experience of which `count` rows were written: a ring that holds the newest, the same in all worlds."""
    data = rows(count, True, reward, ended)
    ring = Experience(lanes, capacity, SPEC)

    wide = lambda values: np.repeat(values[:, None], lanes, axis=1)  # noqa: E731
    columns = data.observation, data.action, data.reward, data.terminated, data.truncated, data.next_observation
    ring.extend(Step(*map(wide, columns)))
    ring.reopen()
    ring.rewrite(Scaling())
    return View(ring.replay, jnp.int32(0), 1.0)


def handover(offline: View, online: View) -> Handover:
    """A phase's hand-over."""
    return Handover(SPEC, {}, offline, online, Scaling(), "agent")


@partial(jax.jit, static_argnums=0)
def start(sampler: Any, key: jax.Array, offline: View, online: View) -> Any:
    """The sampler's state when the phase begins."""
    return sampler.init(key, handover(offline, online))


@partial(jax.jit, static_argnums=0)
def sample(sampler: Any, state: Any, key: jax.Array, offline: View, online: View) -> Any:
    """What the sampler's `sample` returns, with the rows at its indices: state, rows, metrics."""
    state, indices, metrics = sampler.sample(state, key, offline, online)
    return state, gather(indices), metrics


def numbers(batch: Rows, of_own: bool) -> np.ndarray:
    """Row numbers of the batch's logged or own rows, in order."""
    seen = np.asarray(batch.observation)
    np.testing.assert_array_equal(seen[:, 1], np.asarray(batch.online))
    return seen[seen[:, 1] == of_own, 0].astype(int)
