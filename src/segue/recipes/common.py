"""Numbers that several recipes share: sizes of PointMaze's runs, and phases of ordinary length."""

from __future__ import annotations

from collections.abc import Mapping

Settings = Mapping[str, object]
"""Options by path."""

# Of tasks of one's own.
SHORT: dict[str, object] = {
    "offline.gradient_steps": 20_000,
    "online.environment_steps": 20_000,
    "offline.evaluate_every": 5_000,
}

# As CORL evaluates: 20 episodes every 5,000 steps would be up to four steps of evaluation for each of training.
ANTMAZE: dict[str, object] = {"evaluation.episodes": 100, "online.evaluate_every": 50_000}

# Default of ours: a laptop's networks, batches and budgets, those of Cal-QL's preset.
_LAPTOP = {
    "scaling.reward_scale": 10.0,
    "agent.actor_hidden": (128, 128),
    "agent.critic_hidden": (128, 128),
    "agent.critic_learning_rate": 1e-3,
    "agent.target_rate": 0.02,
    "online.environment_steps": 3_000,
    "online.evaluate_every": 250,
    "online.log_every": 100,
    "evaluation.episodes": 10,
}
_OFFLINE = {
    "offline.gradient_steps": 4_000,
    "offline.evaluate_every": 500,
    "offline.log_every": 100,
    "offline.batch.offline": 128,
}
# For every recipe: an encoder for pictures of 32 x 32 (default of ours).
ENCODERS: dict[str, Settings] = {
    "pointmaze-pixels": {"agent.encoder.channels": (16, 32, 32), "agent.encoder.strides": (2, 2, 2)}
}
IMAGE_SHIFT = 4  # pixels (DrQ: Kostrikov et al. 2021, arXiv 2004.13649)
IMAGE_SHIFTS = {"pointmaze-pixels": 2}  # default of ours: its mass is two pixels wide, and a shift must not hide it
_MEDIUM = {"online.environment_steps": 6_000, "online.evaluate_every": 500}
_LARGE = {"online.environment_steps": 40_000, "online.evaluate_every": 2_000}


def pointmaze(changes: Settings, offline: bool = True, medium: Settings | None = None) -> dict[str, Settings]:
    """Return PointMaze's presets: shared sizes (without those of an offline phase for `offline=False`), and changes.

    `medium` holds what differs in the medium maze alone.
    """
    umaze = _LAPTOP | (_OFFLINE if offline else {}) | dict(changes)
    offline_updates = {"offline.gradient_steps": 20_000, "offline.evaluate_every": 2_500} if offline else {}
    large = _LARGE | ({"offline.gradient_steps": 20_000, "offline.evaluate_every": 4_000} if offline else {})
    return {
        "pointmaze": umaze,
        "pointmaze-medium": _MEDIUM | offline_updates | dict(medium or {}),
        "pointmaze-large": large,
        "pointmaze-pixels": umaze,
    }
