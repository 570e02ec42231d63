"""A policy as a short program over arrays: what JAX traces, in the operations of `numeric`.

An agent is traced and not described, so that every agent is covered whose networks are made of the primitives in the
tables below and in `expand`.  The size of the batch is a symbol: one program serves any number of observations.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, Literal

from segue.core.types import SegueError
from segue.deploy import numeric
from segue.deploy.expand import EXPANDED

Shape = tuple[int, ...]
"""Sizes; -n is n times the batch."""
Step = tuple[str, list[str], str, dict[str, Any]]
"""Operation of `numeric`, names of its inputs, name of its output, options."""


@dataclass(frozen=True)
class Input:
    """An array that a program is given, with a batch in front of its shape."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def aval(self, batch: Any) -> jax.ShapeDtypeStruct:
        """As JAX takes it for tracing."""
        return jax.ShapeDtypeStruct((batch, *self.shape), self.dtype)


@dataclass(eq=False)
class Value:
    """An array in a program, and its name once a step needs it."""

    shape: Shape
    dtype: str
    name: str = ""
    known: np.ndarray | None = None
    thin: Value | None = None
    """The array that this one is broadcast from; in an operation element by element it serves as well."""


@dataclass(frozen=True)
class Program:
    """Steps from inputs and constants to one output."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    constants: dict[str, np.ndarray]
    types: dict[str, str]
    """Type of each value that is no constant."""
    output: str


def traced(function: Callable[..., Any], inputs: Sequence[Input]) -> Program:
    """Trace a function of arrays (B, ...) that returns one; `SegueError` for a primitive that is not covered."""
    (batch,) = export.symbolic_shape("b")
    closed = jax.make_jaxpr(function)(*(x.aval(batch) for x in inputs))
    writer = Writer({x.name: x.dtype for x in inputs})
    given = [Value((-1, *x.shape), x.dtype, x.name) for x in inputs]
    (result,) = writer.inline(closed.jaxpr, [_known(c) for c in closed.consts], given)
    output = writer.named(result)
    wanted, steps = {output}, []
    for step in reversed(writer.steps):  # what nothing needs goes: the standard deviation of a greedy policy
        if step[2] in wanted:
            steps.append(step)
            wanted.update(step[1])
    constants = {name: x for name, x in writer.constants.items() if name in wanted}
    return Program(tuple(inputs), tuple(reversed(steps)), constants, writer.types, output)


@dataclass
class Writer:
    """Writes steps; what is made of constants alone is computed at once."""

    types: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[Any, str] = field(default_factory=dict)
    """Names of constants; that of a single number serves wherever it stands."""

    def named(self, value: Value) -> str:
        """The name of a value; one that had none becomes a constant or a step."""
        if not value.name and value.known is not None:
            number = (value.dtype, value.shape, value.known.tobytes() if value.known.size == 1 else len(self.constants))
            value.name = self.numbers.setdefault(number, f"c{len(self.constants)}")
            self.constants[value.name] = value.known
        elif not value.name and value.thin is not None:
            value.name = self.named(self.wide(value.thin, value.shape))
        return value.name

    def wide(self, value: Value, shape: Shape) -> Value:
        """A value broadcast to a shape of as many axes."""
        return self.step("broadcast_to", [value], shape, value.dtype, shape=[*shape])

    def step(self, name: str, inputs: Sequence[Value], shape: Shape, dtype: str, /, **options: Any) -> Value:
        """Do one operation of `numeric`."""
        known = {str(n): x.known for n, x in enumerate(inputs) if x.known is not None}
        if len(known) == len(inputs) and min(shape, default=0) >= 0:
            with np.errstate(all="ignore"):
                numeric.run([(name, [*known], "out", options)], known, 0)
            return Value(shape, dtype, known=np.asarray(known["out"]))
        names = [self.named(x) for x in inputs]
        output = f"v{len(self.types)}"
        self.steps.append((name, names, output, options))
        self.types[output] = dtype
        return Value(shape, dtype, output)

    def each(self, name: str, inputs: Sequence[Value], shape: Shape, dtype: str) -> Value:
        """Do one operation element by element: inputs stay as small as they are."""
        slim = [x if x.thin is None else x.thin for x in inputs]
        seen = _together([x.shape for x in slim])
        if seen != shape and len(seen) == len(shape):
            small = self.step(name, slim, seen, dtype)
            known = None if small.known is None or min(shape) < 0 else self.wide(small, shape).known
            return Value(shape, dtype, known=known, thin=small)
        return self.step(name, slim if seen == shape else inputs, shape, dtype)

    def inline(self, jaxpr: Any, constants: Sequence[Value], given: Sequence[Value]) -> list[Value]:
        """Write all equations of a jaxpr; return its results."""
        here = dict(zip(jaxpr.constvars, constants)) | dict(zip(jaxpr.invars, given))
        read = lambda x: _known(np.asarray(x.val, _facts(x.aval)[1])) if isinstance(x, Literal) else here[x]  # noqa: E731
        for equation in jaxpr.eqns:
            inputs = [read(x) for x in equation.invars]
            here.update(zip(equation.outvars, self.equation(equation, inputs)))
        return [read(x) for x in jaxpr.outvars]

    def equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        """Write one equation."""
        name, options = equation.primitive.name, equation.params
        if name in CALLS:
            inner = options["jaxpr" if "jaxpr" in options else "call_jaxpr"]
            if not isinstance(inner, ClosedJaxpr):
                return self.inline(inner, [], inputs)
            return self.inline(inner.jaxpr, [_known(c) for c in inner.consts], inputs)
        shape, dtype = _facts(equation.outvars[0].aval)
        if name in EACH:
            logical = dtype == "bool" and name in LOGICAL
            return [self.each(LOGICAL[name] if logical else EACH[name], inputs, shape, dtype)]
        if name in RULES:
            return RULES[name](self, options, inputs, shape, dtype)
        if name in EXPANDED:
            return self.expand(partial(EXPANDED[name], **options), inputs)
        raise SegueError(
            f"this policy cannot be exported for numpy or onnx: it uses JAX's '{name}', which is not among the "
            "operations of these forms; export it --to stablehlo"
        )

    def expand(self, function: Callable[..., Any], inputs: Sequence[Value]) -> list[Value]:
        """Write a function of arrays."""
        (batch,) = export.symbolic_shape("b")
        real = [tuple(n if n >= 0 else -n * batch for n in x.shape) for x in inputs]
        closed = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(n, x.dtype) for n, x in zip(real, inputs)))
        return self.inline(closed.jaxpr, [_known(c) for c in closed.consts], inputs)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """The same numbers in another shape."""
        return value if value.shape == shape else self.step("reshape", [value], shape, value.dtype, shape=[*shape])


def _known(value: Any) -> Value:
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    return Value(array.shape, array.dtype.name, known=array)


def _facts(aval: Any) -> tuple[Shape, str]:
    """Shape and type of a result; keys are pairs of numbers."""
    shape = tuple(map(_size, aval.shape))
    return ((*shape, 2), "uint32") if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key) else (shape, aval.dtype.name)


def _size(size: Any) -> int:
    if (found := re.fullmatch(r"(?:(\d+)\*)?b", str(size))) is not None:
        return -int(found[1] or 1)
    if not str(size).isdecimal():
        raise SegueError(f"this policy has an array with {size} rows for b observations; export it --to stablehlo")
    return int(size)


def _together(shapes: Sequence[Shape]) -> Shape:
    """The shape that arrays are broadcast to."""
    rows = itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    return tuple(next((n for n in row if n != 1), 1) for row in rows)[::-1]


# -- one rule for each primitive: (writer, parameters, inputs, shape and type of its first result) -> results -------

Rule = Callable[[Writer, dict[str, Any], list[Value], Shape, str], list[Value]]


def _broadcast(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    at = [*o["broadcast_dimensions"], *range(len(o["shape"]), len(shape))]  # a key's two numbers stay behind
    small = w.reshaped(x[0], tuple(x[0].shape[at.index(n)] if n in at else 1 for n in range(len(shape))))
    if small.shape == shape:
        return [small]
    known = None if small.known is None or min(shape) < 0 else w.wide(small, shape).known
    return [Value(shape, dtype, known=known, thin=small)]


def _slice(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    steps = o["strides"] or [1] * len(o["start_indices"])
    ends = zip(map(_size, o["start_indices"]), map(_size, o["limit_indices"]), map(int, steps), x[0].shape)
    cuts = [[None, None, None] if (a, b, s) == (0, n, 1) else [a, b, s] for a, b, s, n in ends]
    return [w.step("slice", x, shape, dtype, cuts=cuts)]


def _split(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    ends, axis = list(itertools.accumulate(map(int, o["sizes"]), initial=0)), o["axis"]
    found = []
    for a, b in itertools.pairwise(ends):
        cuts = [[None, None, None]] * axis + [[a, b, 1]]
        found.append(w.step("slice", x, (*shape[:axis], b - a, *shape[axis + 1 :]), dtype, cuts=cuts))
    return found


def _gather(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    """One piece at a place that is known; other gathers are refused."""
    numbers, at = o["dimension_numbers"], x[1].known
    if at is None or at.ndim != 1 or len(numbers.offset_dims) != len(shape):
        raise SegueError("this policy looks up numbers at places that it computes; export it --to stablehlo")
    sizes = list(map(_size, o["slice_sizes"]))
    starts = dict(zip(numbers.start_index_map, at.tolist()))
    cuts = [
        [None, None, None] if size == whole else [starts.get(n, 0), starts.get(n, 0) + size, 1]
        for n, (size, whole) in enumerate(zip(sizes, x[0].shape))
    ]
    return [w.reshaped(w.step("slice", x[:1], tuple(sizes), dtype, cuts=cuts), shape)]


def _product(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    """A product of matrices, the axes that are shared first and those that are summed last or first."""
    summed, shared = o["dimension_numbers"]
    sides: list[Value] = []
    for value, over, along in zip(x, summed, shared):
        free = [n for n in range(len(value.shape)) if n not in (*over, *along)]
        left = not sides
        order = [*along, *free, *over] if left else [*along, *over, *free]
        if order != sorted(order):
            sizes = tuple(value.shape[n] for n in order)
            value = w.step("transpose", [value], sizes, value.dtype, axes=order)
        inner, outer = (tuple(value.shape[order.index(n)] for n in axes) for axes in (over, free))
        head = tuple(value.shape[: len(along)])
        whole = len(over) == 1 and (len(free) == 1 or (left and free and not along))
        if not whole:
            inner, outer = (_all(inner),), (_all(outer),)
        sides.append(w.reshaped(value, (*head, *outer, *inner) if left else (*head, *inner, *outer)))
    seen = (*sides[0].shape[:-1], sides[1].shape[-1])
    return [w.reshaped(w.step("matmul", sides, seen, dtype), shape)]


def _all(sizes: Shape) -> int:
    """Product of sizes, at most one of which is of the batch."""
    return int(np.prod(sizes, dtype=np.int64))


def _divide(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    """XLA multiplies by the reciprocal of a constant, so that its last bit is that of a product."""
    small = x[1] if x[1].thin is None else x[1].thin
    if small.known is None or dtype != "float32":
        return [w.each("divide", x, shape, dtype)]
    with np.errstate(all="ignore"):
        turned = Value(small.shape, dtype, known=np.float32(1.0) / small.known)
    wide = turned if small is x[1] else Value(x[1].shape, dtype, thin=turned)
    return [w.each("multiply", [x[0], wide], shape, dtype)]


def _iota(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    at = o["dimension"]
    if shape[at] < 0:
        raise SegueError("this policy counts the observations of a batch; export it --to stablehlo")
    sizes = tuple(n if i == at else 1 for i, n in enumerate(shape))
    count = _known(np.arange(shape[at], dtype=dtype).reshape(sizes))
    return [count if sizes == shape else Value(shape, dtype, thin=count)]


def _bitcast(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    if np.dtype(dtype).itemsize != np.dtype(x[0].dtype).itemsize:
        raise SegueError("this policy takes numbers apart into bytes; export it --to stablehlo")
    return [w.step("bitcast", x, shape, dtype, dtype=dtype)]


def _stack(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    layer = tuple(1 if n == o["axis"] else size for n, size in enumerate(shape))
    return [w.step("concatenate", [w.reshaped(v, layer) for v in x], shape, dtype, axis=o["axis"])]


def _number(value: Value) -> int:
    if value.known is None:
        raise SegueError("this policy makes the seed of random numbers from its observation; export it --to stablehlo")
    return int(value.known)


def _reduce(name: str) -> Rule:
    return lambda w, o, x, shape, dtype: [w.step(name, x, shape, dtype, axes=[*map(int, o["axes"])])]


def _same(w: Writer, o: dict[str, Any], x: list[Value], shape: Shape, dtype: str) -> list[Value]:
    return x


CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2")
"""Primitives that hold a jaxpr of their own."""
EACH = {
    **{name: name for name in ("sign", "floor", "ceil", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos")},
    "add": "add",
    "add_any": "add",
    "sub": "subtract",
    "mul": "multiply",
    "pow": "power",
    "neg": "negative",
    "max": "maximum",
    "min": "minimum",
    "abs": "absolute",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "shift_left": "left_shift",
    "shift_right_logical": "right_shift",
    "not": "logical_not",
}
"""Operations element by element; `shift_right_logical` is of numbers without a sign, `not` of truth values."""
LOGICAL = {"and": "logical_and", "or": "logical_or", "xor": "not_equal", "not": "logical_not"}
RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "clamp": lambda w, o, x, s, d: [w.each("minimum", [w.each("maximum", [x[1], x[0]], s, d), x[2]], s, d)],
    "select_n": lambda w, o, x, s, d: [w.each("where", [x[0], x[2], x[1]], s, d)],
    "convert_element_type": lambda w, o, x, s, d: [w.step("cast", x, s, d, dtype=d)] if x[0].dtype != d else x,
    "bitcast_convert_type": _bitcast,
    "concatenate": lambda w, o, x, s, d: [w.step("concatenate", x, s, d, axis=o["dimension"])],
    "transpose": lambda w, o, x, s, d: [w.step("transpose", x, s, d, axes=[*map(int, o["permutation"])])],
    "random_seed": lambda w, o, x, s, d: [_known(jax.random.key(_number(x[0])))],
    "dot_general": _product,
    "div": _divide,
    "gather": _gather,
    "iota": _iota,
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    **{f"reduce_{name}": _reduce(name) for name in ("sum", "max", "min")},
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), lambda w, o, x, s, d: [w.reshaped(x[0], s)]),
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "optimization_barrier", "random_wrap", "random_unwrap"), _same),
}
