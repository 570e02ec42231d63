"""TD3 as one flat loop in JAX: what an online loop costs that knows one agent and one environment and nothing else.

The shape of the single-file implementations: a replay of NumPy arrays, a call for the action, a call for the critics,
and a call for the actor and the targets after every second one.  `online.py` runs it beside Segue.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTH, BATCH, RATE, DISCOUNT, TARGET_RATE = 256, 256, 3e-4, 0.99, 0.005
ADAM = optax.adam(RATE)


def network(key: Any, sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.nn.initializers.lecun_normal()(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, pairwise(sizes))
    ]


def forward(layers: list[tuple[Any, Any]], x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def value(layers: list[tuple[Any, Any]], seen: Any, action: Any) -> Any:
    return forward(layers, jnp.concatenate([seen, action], axis=-1))[..., 0]


@jax.jit
def act(actor: Any, seen: Any) -> Any:
    return jnp.tanh(forward(actor, seen))


@jax.jit
def learn_critics(critics: Any, moments: Any, targets: Any, old_actor: Any, batch: Any, key: Any) -> Any:
    seen, action, reward, over, then = batch
    noise = jnp.clip(0.2 * jax.random.normal(key, action.shape), -0.5, 0.5)
    following = jnp.clip(jnp.tanh(forward(old_actor, then)) + noise, -1.0, 1.0)
    least = jnp.minimum(*(value(target, then, following) for target in targets))
    wanted = reward + DISCOUNT * (1.0 - over) * least

    def loss(critic: Any) -> Any:
        return jnp.mean(jnp.square(value(critic, seen, action) - wanted))

    losses, gradients = zip(*(jax.value_and_grad(loss)(critic) for critic in critics))
    steps, moments = zip(*(ADAM.update(g, m, c) for g, m, c in zip(gradients, moments, critics)))
    return tuple(optax.apply_updates(c, s) for c, s in zip(critics, steps)), tuple(moments), losses


@jax.jit
def learn_actor(actor: Any, moments: Any, critics: Any, targets: Any, old_actor: Any, seen: Any) -> Any:
    def loss(actor: Any) -> Any:
        return -jnp.mean(value(critics[0], seen, jnp.tanh(forward(actor, seen))))

    step, moments = ADAM.update(jax.grad(loss)(actor), moments, actor)
    actor = optax.apply_updates(actor, step)
    slow = partial(optax.incremental_update, step_size=TARGET_RATE)
    return actor, moments, tuple(slow(c, t) for c, t in zip(critics, targets)), slow(actor, old_actor)


class Seed:
    """One seed: networks, replay, simulator."""

    def __init__(self, env: str, seed: int, capacity: int) -> None:
        self.env, self.rng = gymnasium.make(env), np.random.default_rng(seed)
        self.seen, _ = self.env.reset(seed=seed)
        o, a = self.seen.shape[0], self.env.action_space.shape[0]
        self.key, k_actor, *k_critics = jax.random.split(jax.random.key(seed), 4)
        self.actor = self.old_actor = network(k_actor, (o, WIDTH, WIDTH, a))
        self.critics = self.targets = tuple(network(k, (o + a, WIDTH, WIDTH, 1)) for k in k_critics)
        self.moments = ADAM.init(self.actor), tuple(ADAM.init(c) for c in self.critics)
        shapes = (o,), (a,), (), (), (o,)
        self.rows = [np.zeros((capacity, *shape), np.float32) for shape in shapes]
        self.count = 0

    def step(self, learns: bool) -> None:
        size = self.rows[1].shape[1]
        if learns:
            action = np.asarray(act(self.actor, self.seen.astype(np.float32)))
            action = np.clip(action + self.rng.normal(0.0, 0.1, size), -1.0, 1.0).astype(np.float32)
        else:
            action = self.rng.uniform(-1.0, 1.0, size).astype(np.float32)
        then, reward, terminated, truncated, _ = self.env.step(action)
        for column, x in zip(self.rows, (self.seen, action, reward, terminated, then)):
            column[self.count] = x
        self.count += 1
        self.seen = self.env.reset()[0] if terminated or truncated else then
        if not learns:
            return
        chosen = self.rng.integers(0, self.count, BATCH)
        batch = tuple(column[chosen] for column in self.rows)
        self.key, key = jax.random.split(self.key)
        of_actor, of_critics = self.moments
        self.critics, of_critics, _ = learn_critics(self.critics, of_critics, self.targets, self.old_actor, batch, key)
        if self.count % 2 == 0:
            self.actor, of_actor, self.targets, self.old_actor = learn_actor(
                self.actor, of_actor, self.critics, self.targets, self.old_actor, batch[0]
            )
        self.moments = of_actor, of_critics


def rate(env: str, seeds: list[int], before: int, steps: int) -> float:
    """Environment steps a second of all seeds together, each with an update, after so many steps before."""
    each = [Seed(env, seed, before + steps + 1_000) for seed in seeds]
    for one in each:
        for _ in range(before):
            one.step(False)
        for _ in range(1_000):
            one.step(True)
    began = time.perf_counter()
    for _ in range(steps):
        for one in each:
            one.step(True)
    jax.block_until_ready([one.critics for one in each])
    return len(seeds) * steps / (time.perf_counter() - began)
