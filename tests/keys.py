"""Finds random keys that are used twice: in a traced program, by value, whatever way they were derived.

A key may be split or folded any number of times with different numbers, and drawn from once.  It is used twice where
two draws are made with the same key, or where a key that is drawn from is split or folded too.  `split` and `fold_in`
with small numbers give the same keys (the i-th of a split is fold_in(key, i)), so that values are compared and not
names: programs are walked with real keys, and nothing else of them is computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

Lazy = Callable[[], Any]
DRAWS, DERIVES = "random_bits", ("random_split", "random_fold_in")


def once(compute: Callable[[], Any]) -> Lazy:
    """The value of a function, computed when it is first asked for."""
    known: list[Any] = []

    def value() -> Any:
        if not known:
            known.append(compute())
        return known[0]

    return value


class Audit:
    """Uses of keys (bytes of their data) in traced programs, each with the functions that it is in."""

    def __init__(self) -> None:
        self.drawn: dict[bytes, list[str]] = defaultdict(list)
        self.derived: dict[bytes, list[str]] = defaultdict(list)

    def twice(self) -> list[str]:
        """What is used twice, in words."""
        again = [f"drawn from at {' and '.join(places)}" for places in self.drawn.values() if len(places) > 1]
        return again + [
            f"drawn from at {self.drawn[key][0]} and split at {self.derived[key][0]}"
            for key in self.drawn.keys() & self.derived.keys()
        ]

    def walk(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Trace a function and note what it does with the keys among `arguments`; other arguments may be shapes.

        Returns the shapes of what the function returns.
        """
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments, **named)
        given = [once(lambda x=x: x) for x in jax.tree.leaves((arguments, named))]
        self._jaxpr(closed.jaxpr, [once(lambda x=x: x) for x in closed.consts], given, "")
        return shapes

    def _jaxpr(self, jaxpr: Any, consts: list[Lazy], given: list[Lazy], where: str) -> list[Lazy]:
        known: dict[Any, Lazy] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))
        read = lambda v: once(lambda: v.val) if isinstance(v, core.Literal) else known[v]  # noqa: E731
        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(v) for v in equation.invars], where)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Lazy], where: str) -> list[Lazy]:
        name, params = equation.primitive.name, equation.params
        if name == DRAWS:
            self._note(self.drawn, given[0](), f"{where} {params['shape']}")
        elif name in DERIVES:
            self._note(self.derived, given[0](), where)
        if name == "scan":
            return self._scan(params, given, where)
        if name == "while":
            constants = given[params["cond_nconsts"] :]
            return self._closed(params["body_jaxpr"], constants, where)
        if name == "cond":
            return [self._closed(branch, given[1:], where) for branch in params["branches"]][-1]
        inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
        if inner is not None:
            return self._closed(inner, given, f"{where}/{params['name']}" if "name" in params else where)

        def compute() -> list[Any]:
            out = equation.primitive.bind(*(x() for x in given), **params)
            return list(out) if equation.primitive.multiple_results else [out]

        values = once(compute)
        return [once(lambda n=n: values()[n]) for n in range(len(equation.outvars))]

    def _closed(self, jaxpr: Any, given: list[Lazy], where: str) -> list[Lazy]:
        if isinstance(jaxpr, core.ClosedJaxpr):
            return self._jaxpr(jaxpr.jaxpr, [once(lambda x=x: x) for x in jaxpr.consts], given, where)
        return self._jaxpr(jaxpr, [], given, where)

    def _scan(self, params: Any, given: list[Lazy], where: str) -> list[Lazy]:
        if "ft_in" in params:  # JAX from 0.12 on
            fixed, carried = (len(part.vals) for part in params["ft_in"].unpack()[:2])
        else:
            fixed, carried = params["num_consts"], params["num_carry"]
        constants, state, rows = given[:fixed], given[fixed : fixed + carried], given[fixed + carried :]
        stacked: list[list[Lazy]] = []
        steps = range(params["length"])
        for i in reversed(steps) if params["reverse"] else steps:
            xs = [once(lambda x=x, i=i: x()[i]) for x in rows]
            out = self._closed(params["jaxpr"], [*constants, *state, *xs], where)
            state = out[:carried]
            stacked.append(out[carried:])
        join = lambda parts: once(lambda: jax.numpy.stack([p() for p in parts]))  # noqa: E731
        return [*state, *(join(parts) for parts in zip(*stacked))]

    def _note(self, uses: dict[bytes, list[str]], keys: Any, where: str) -> None:
        for key in np.asarray(jax.random.key_data(keys)).reshape(-1, 2):
            uses[key.tobytes()].append(where)
