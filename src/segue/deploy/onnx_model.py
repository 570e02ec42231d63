"""A program as an ONNX model: operations of `numeric` as operators of ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segue.data.extras import need
from segue.deploy.trace import Program

OPSET, OPSET_BITS = 18, 26
"""Version of ONNX's operators; the second where a policy looks at the bits of a number (BitCast)."""
ALIKE = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "negative": "Neg",
    "absolute": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_not": "Not",
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
    "where": "Where",
    "matmul": "MatMul",
}


class _Model:
    """Collects nodes and constants."""

    def __init__(self, program: Program) -> None:
        self.helper = need("onnx", "onnx", "this export").helper
        self.numbers = need("onnx.numpy_helper", "onnx", "this export")
        self.nodes: list[Any] = []
        self.constants = dict(program.constants)
        self.types = program.types | {name: x.dtype.name for name, x in program.constants.items()}
        self.first = program.inputs[0].name
        self.bits = False

    def type(self, name: str) -> int:
        """ONNX's number of a type."""
        return int(self.helper.np_dtype_to_tensor_dtype(np.dtype(name)))

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def sizes(self, shape: Sequence[int]) -> str:
        """A shape as a tensor; -n is n times the batch."""
        if min(shape, default=0) >= 0:
            return self.constant(shape)
        batch = self.node("Shape", [self.first], start=0, end=1)
        parts = [self.constant([n]) if n >= 0 else self.node("Mul", [batch, self.constant([-n])]) for n in shape]
        return self.node("Concat", parts, axis=0)


def _reshape(m: _Model, x: list[str], out: str, o: Mapping[str, Any]) -> None:
    shape = list(o["shape"])
    one = sum(n < 0 for n in shape) == 1 and 0 not in shape
    m.node("Reshape", [x[0], m.constant([max(n, -1) for n in shape]) if one else m.sizes(shape)], out)


def _slice(m: _Model, x: list[str], out: str, o: Mapping[str, Any]) -> None:
    cuts = [(axis, *cut) for axis, cut in enumerate(o["cuts"]) if cut[0] is not None]
    axes, starts, ends, steps = zip(*cuts) if cuts else ((), (), (), ())
    m.node("Slice", [x[0], *map(m.constant, (starts, ends, axes, steps))], out)


def _reduce(operator: str) -> Callable[..., None]:
    def write(m: _Model, x: list[str], out: str, o: Mapping[str, Any]) -> None:
        if m.types[x[0]] != "uint32":
            m.node(operator, [x[0], m.constant(o["axes"])], out, keepdims=0)
            return
        wide = m.node("Cast", x, to=m.type("int64"))  # runtimes lack it for uint32; what is too large is cut off
        found = m.node(operator, [wide, m.constant(o["axes"])], keepdims=0)
        kept = m.node("BitwiseAnd", [found, m.constant(0xFFFFFFFF)])
        m.node("Cast", [kept], out, to=m.type("uint32"))

    return write


def _near_one(operator: str, before: bool) -> Callable[..., None]:
    def write(m: _Model, x: list[str], out: str, o: Mapping[str, Any]) -> None:
        one = m.constant(1, m.types[x[0]])
        if before:
            m.node(operator, [m.node("Add", [x[0], one])], out)
        else:
            m.node("Sub", [m.node(operator, x), one], out)

    return write


def _bitcast(m: _Model, x: list[str], out: str, o: Mapping[str, Any]) -> None:
    m.bits = True
    m.node("BitCast", x, out, to=m.type(o["dtype"]))


WRITERS: dict[str, Callable[..., None]] = {
    **{name: lambda m, x, out, o, op=op: m.node(op, x, out) for name, op in ALIKE.items()},
    "log1p": _near_one("Log", True),
    "expm1": _near_one("Exp", False),
    "not_equal": lambda m, x, out, o: m.node("Not", [m.node("Equal", x)], out),
    "left_shift": lambda m, x, out, o: m.node("BitShift", x, out, direction="LEFT"),
    "right_shift": lambda m, x, out, o: m.node("BitShift", x, out, direction="RIGHT"),
    "cast": lambda m, x, out, o: m.node("Cast", x, out, to=m.type(o["dtype"])),
    "bitcast": _bitcast,
    "reshape": _reshape,
    "broadcast_to": lambda m, x, out, o: m.node("Expand", [x[0], m.sizes(o["shape"])], out),
    "transpose": lambda m, x, out, o: m.node("Transpose", x, out, perm=o["axes"]),
    "concatenate": lambda m, x, out, o: m.node("Concat", x, out, axis=o["axis"]),
    "slice": _slice,
    "sum": _reduce("ReduceSum"),
    "max": _reduce("ReduceMax"),
    "min": _reduce("ReduceMin"),
}


def onnx_bytes(program: Program, shape: tuple[int, ...], about: Mapping[str, Any]) -> bytes:
    """The model: inputs by their names, output `action` (B, *shape), and `about` as its metadata, JSON by name."""
    m = _Model(program)
    for name, inputs, output, options in program.steps:
        WRITERS[name](m, inputs, output, options)
    m.node("Identity", [program.output], "action")
    info = m.helper.make_tensor_value_info
    graph = m.helper.make_graph(
        m.nodes,
        "policy",
        [info(x.name, m.type(x.dtype), ["batch", *x.shape]) for x in program.inputs],
        [info("action", m.type("float32"), ["batch", *shape])],
        [m.numbers.from_array(np.ascontiguousarray(x).reshape(x.shape), name) for name, x in m.constants.items()],
    )
    version = OPSET_BITS if m.bits else OPSET
    model = m.helper.make_model(
        graph,
        producer_name="segue",
        opset_imports=[m.helper.make_opsetid("", version)],
        ir_version=13 if m.bits else 8,  # the oldest that the version of the operators goes with
    )
    m.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    need("onnx.checker", "onnx", "this export").check_model(model, full_check=True)
    return bytes(model.SerializeToString())
