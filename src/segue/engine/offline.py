"""The dataset as programs read it."""

from __future__ import annotations

import jax.numpy as jnp

from segue.core import replay
from segue.core.groups import Groups
from segue.core.log import Data
from segue.core.scaling import Scaling
from segue.core.types import Spec


class Offline:
    """The dataset on the devices, its returns written in the scaling asked for last."""

    def __init__(self, data: Data | None, spec: Spec, groups: Groups) -> None:
        self.data, self.spec, self.groups = data, spec, groups
        self.scaling: Scaling | None = None
        self.chunk = 1
        self.replay = replay.empty(1, 0, spec.observation, spec.action, spec.dtype)
        self.given = [self.replay for _ in groups.members]
        """What the programs of each group read."""

    def within(self, scaling: Scaling, chunk: int) -> None:
        """Prepare the dataset with its returns, and its whole windows of `chunk` rows, for a phase."""
        if self.data is not None and self.scaling is None:
            self.replay = replay.from_data(self.data, scaling)
        elif self.data is not None and scaling != self.scaling:
            self.replay = self.replay._replace(mc_return=jnp.asarray(self.data.mc_returns(scaling))[None])
        if chunk != self.chunk:
            self.replay = self.replay._replace(starts=replay.starts_of(self.data, chunk))
        self.scaling, self.chunk = scaling, chunk
        self.given = [group.place(self.replay) for group in self.groups.members]
