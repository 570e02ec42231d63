"""A policy that was exported by Segue; NumPy is all it needs.

    from policy import load

    act = load("policy.npz")
    action = act(observation)  # raw observation in, action within the environment's bounds out

`act` takes one observation or a batch of them (or a dictionary with the keys of the task's observation) and returns
float32, (A,) or (B, A); for a policy that plans several actions at once, (n, A) or (B, n, A).  `act.about` says which
policy it is.  It is the greedy policy of `segue.load(run).plan(observation)`.
"""

import json
from typing import Any

import numpy as np

SAME = "add subtract multiply divide power maximum minimum negative absolute sign floor ceil exp expm1 log log1p sqrt"
SAME += " tanh sin cos equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not"
SAME += " bitwise_and bitwise_or bitwise_xor left_shift right_shift where matmul transpose broadcast_to"
OPERATIONS = {name: getattr(np, name) for name in SAME.split()} | {
    "cast": lambda x, dtype: x.astype(dtype),
    "bitcast": lambda x, dtype: np.ascontiguousarray(x).view(dtype),
    "reshape": lambda x, shape: x.reshape(shape),
    "concatenate": lambda *x, axis: np.concatenate(x, axis),
    "slice": lambda x, cuts: x[tuple(slice(*cut) for cut in cuts)],
    "sum": lambda x, axes: np.sum(x, tuple(axes), x.dtype),
    "max": lambda x, axes: np.max(x, tuple(axes)),
    "min": lambda x, axes: np.min(x, tuple(axes)),
}


def run(steps: Any, values: dict[str, Any], batch: int, operations: Any = OPERATIONS) -> None:
    """Do the steps [operation, inputs, output, options]; a size -n in a shape is n times the batch."""
    for name, inputs, output, options in steps:
        if "shape" in options:
            options = {**options, "shape": [n if n >= 0 else -n * batch for n in options["shape"]]}
        values[output] = operations[name](*[values[x] for x in inputs], **options)


def load(path: Any) -> Any:
    """Return the policy in a file as a function."""
    with np.load(path) as file:
        constants = {name: file[name] for name in file.files}
    program = json.loads(str(constants.pop("program")))

    def act(observation: Any) -> Any:
        """Return the action of one observation, or the actions of a batch."""
        if isinstance(observation, dict) and program["keys"]:
            observation = {"observation": np.concatenate([np.ravel(observation[k]) for k in program["keys"]])}
        given = observation if isinstance(observation, dict) else {"observation": observation}
        values = dict(constants)
        for name, shape, dtype in program["inputs"]:
            values[name] = np.asarray(given[name], dtype)
            single = values[name].ndim == len(shape)
            values[name] = values[name][None] if single else values[name]
            if list(values[name].shape[1:]) != shape or not np.isfinite(values[name]).all():
                raise ValueError(f"{name}: must be {dtype} {shape}, or a batch of these, and finite")
        with np.errstate(all="ignore"):
            run(program["steps"], values, len(values[name]))
        return values[program["output"]][0] if single else values[program["output"]]

    act.about = program["about"]  # type: ignore[attr-defined]
    return act
