"""FQL and best-of-N (with chunks: QC) as flat updates in JAX that know one method each and nothing else.

The shape of single-file implementations: a batch of NumPy arrays for each call, one loss for all networks, one Adam,
the flow's ten Euler steps written out one after the other.  `flows.py` runs them beside Segue.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTHS, RATE, DISCOUNT, TARGET_RATE, STEPS, WEIGHT = (512, 512, 512, 512), 3e-4, 0.99, 0.005, 10, 300.0
ADAM = optax.adam(RATE)


def network(key: Any, sizes: tuple[int, ...], norm: bool = False) -> list[Any]:
    made = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
    keys, scale = jax.random.split(key, len(sizes) - 1), (lambda n: (jnp.ones(n), jnp.zeros(n))) if norm else None
    return [(made(k, s), jnp.zeros(s[1]), scale(s[1]) if scale else None) for k, s in zip(keys, pairwise(sizes))]


def forward(layers: list[Any], *parts: Any) -> Any:
    x = jnp.concatenate(parts, axis=-1)
    for weight, bias, scale in layers[:-1]:
        x = jax.nn.gelu(x @ weight + bias)
        if scale is not None:
            x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale[0] + scale[1]
    return x @ layers[-1][0] + layers[-1][1]


def euler(flow: Any, seen: Any, x: Any) -> Any:
    for i in range(STEPS):
        x = x + forward(flow, seen, x, jnp.full((*x.shape[:-1], 1), i / STEPS)) / STEPS
    return jnp.clip(x, -1.0, 1.0)


def critics(pair: Any, seen: Any, action: Any) -> Any:
    return jnp.stack([forward(one, seen, action)[..., 0] for one in pair])


class Flat:
    """One seed of FQL, or with `samples` of best-of-N."""

    def __init__(self, observation: int, action: int, samples: int = 0) -> None:
        keys = jax.random.split(jax.random.key(0), 4)
        both = (observation + action, *WIDTHS)
        self.nets: dict[str, Any] = {"flow": network(keys[0], (observation + action + 1, *WIDTHS, action))}
        self.nets["critic"] = [network(k, (*both, 1), True) for k in keys[1:3]]
        if not samples:
            self.nets["actor"] = network(keys[3], (*both, action))
        self.target, self.moments = self.nets["critic"], ADAM.init(self.nets)
        self.samples, self.key = samples, jax.random.key(1)
        self.update = jax.jit(self._update)

    def _update(self, nets: Any, target: Any, moments: Any, batch: Any, key: Any) -> Any:
        seen, action, reward, weight, then, valid = batch
        k_next, k_flow, k_time, k_actor = jax.random.split(key, 4)
        if self.samples:
            many = jnp.repeat(then[:, None], self.samples, 1)
            proposed = euler(nets["flow"], many, jax.random.normal(k_next, (*many.shape[:2], action.shape[1])))
            best = jnp.argmax(critics(nets["critic"], many, proposed).mean(0), axis=1)
            following = jnp.take_along_axis(proposed, best[:, None, None], 1)[:, 0]
        else:
            following = jnp.clip(forward(nets["actor"], then, jax.random.normal(k_next, action.shape)), -1.0, 1.0)
        wanted = reward + weight * critics(target, then, following).mean(0)
        noise, time = jax.random.normal(k_flow, action.shape), jax.random.uniform(k_time, (len(action), 1))
        z = jax.random.normal(k_actor, action.shape)

        def loss(nets: Any) -> Any:
            q = critics(nets["critic"], seen, action)
            between = (1.0 - time) * noise + time * action
            error = jnp.square(forward(nets["flow"], seen, between, time) - (action - noise))
            total = jnp.mean(jnp.square(q - wanted)) + jnp.mean(error.reshape(*valid.shape, -1) * valid[..., None])
            if not self.samples:
                arrived = jax.lax.stop_gradient(euler(nets["flow"], seen, z))
                chosen = forward(nets["actor"], seen, z)
                climbed = critics(jax.lax.stop_gradient(nets["critic"]), seen, jnp.clip(chosen, -1.0, 1.0)).mean(0)
                total += WEIGHT * jnp.mean(jnp.square(chosen - arrived)) - jnp.mean(climbed)
            return total

        step, moments = ADAM.update(jax.grad(loss)(nets), moments, nets)
        moved = optax.apply_updates(nets, step)
        return moved, optax.incremental_update(nets["critic"], target, TARGET_RATE), moments

    def learn(self, rows: dict[str, np.ndarray], chunk: int, batch: int, rng: np.random.Generator) -> Any:
        """One update on windows that are drawn here, from columns of rows in the order of time."""
        start = rng.integers(0, len(rows["reward"]) - chunk + 1, batch)
        window = start[:, None] + np.arange(chunk)
        over = rows["terminated"][window] | rows["truncated"][window]
        ended = np.cumsum(over, axis=1) - over
        valid, last = (ended == 0).astype(np.float32), window[:, -1]
        reward = (rows["reward"][window] * DISCOUNT ** np.arange(chunk) * valid).sum(1).astype(np.float32)
        weight = (DISCOUNT**chunk * ~rows["terminated"][last]).astype(np.float32)
        actions = rows["action"][window].reshape(batch, -1)
        drawn = rows["observation"][start], actions, reward, weight, rows["next_observation"][last], valid
        self.key, key = jax.random.split(self.key)
        self.nets, self.target, self.moments = self.update(self.nets, self.target, self.moments, drawn, key)
        return self.nets
