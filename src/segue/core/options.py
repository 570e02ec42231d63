"""Options by name: how a recipe's numbers are listed, overridden and explained.

A path is `PHASE.FIELD...`, `scaling.FIELD`, `evaluation.FIELD`, `experience.FIELD`, or `SLOT.FIELD...`, which reaches
the learner of every phase that trains the slot. A field inside a field may be named without its way there when the
name is unique (`agent.target_rate` for `agent.base.target_rate`). A field that holds a part of its own (a sampler, a
learner) may be set as a whole: to a word, `module:name` or a class of Segue's, or in Python to the part itself;
`SLOT` alone is the learner of all the slot's phases. A word of `BARE` may stand alone: it is set wherever it is an
option (`gamma`, `batch_size`, `actor_lr`).
"""

from __future__ import annotations

import ast
import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from segue.core.parts import is_part, name_of, names_part, part_of
from segue.core.types import SegueError


def option(default: Any, *, when: Callable[[Any], bool], why: str, tunable: bool = False, images: bool = False) -> Any:
    """Declare a dataclass field that has an effect only `when` the finished object says so; `why` says when that is.

    `images`: and only on a task whose observations have images in them.
    """
    return field(default=default, metadata={"when": when, "why": why, "tunable": tunable, "images": images})


def for_images(default: Any) -> Any:
    """Declare a dataclass field that has an effect only on a task whose observations have images in them."""
    return field(default=default, metadata={"images": True})


def tunable(default: Any, rows: int = 0) -> Any:
    """Declare a field of a bonus or a sampler that may change while what it has learned goes on, see `alike`.

    A field that counts rows of a batch says with `rows` how many it draws for each one of its number.
    """
    return field(default=default, metadata={"tunable": True, "rows": rows})


def internal(default: Any) -> Any:
    """Declare a dataclass field that is no option: what a run fills in, which no setting names and no table shows."""
    return field(default=default, repr=False, metadata={"internal": True})


def options_of(owner: Any) -> list[Any]:
    """The fields of a dataclass that are options."""
    return [f for f in fields(owner) if not f.metadata.get("internal")]


def alike(one: Any, other: Any) -> bool:
    """Whether what one object has learned serves the other: they differ in `tunable` fields at most, at any depth."""
    if type(one) is not type(other) or not is_dataclass(one):
        return bool(one == other)
    return all(f.metadata.get("tunable") or alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


class Pace(NamedTuple):
    """The clocks of a phase, for the numbers of its learner that follow from them."""

    updates: int
    """Of the whole phase."""
    per_step: float
    """Updates per environment step; 1 where the phase takes none."""
    before: int
    """Environment steps that the phases before it take."""


def follows(what: str, number: Callable[[Any, Pace], Any], default: Any = None, **more: Any) -> Any:
    """Declare a dataclass field whose None becomes `number(owner, pace)` once all else is decided.

    `what` names for the reader what it follows from; `more` is `option`'s `when` and `why`.
    """
    return field(default=default, metadata={"follows": number, "what": what, **more})


def settled(value: Any, pace: Pace, prefix: str = "") -> tuple[Any, dict[str, str]]:
    """Give a dataclass's fields that follow from others their numbers; return it, and what they follow from by path."""
    out, paths = value, dict[str, str]()
    for f in fields(value):
        inner, path = getattr(value, f.name), f"{prefix}{f.name}"
        if is_part(inner):
            inner, found = settled(inner, pace, f"{path}.")
            paths |= found
        elif inner is None and "follows" in f.metadata:
            inner = f.metadata["follows"](value, pace)
            paths[path] = f.metadata["what"]
        else:
            continue
        out = replace(out, **{f.name: inner})
    return out, paths


# What numbers of these names must satisfy, in whatever agent they stand.
_RANGES: dict[str, Callable[[Any], bool]] = {
    "_hidden": lambda widths: all(n > 0 for n in widths),
    "_learning_rate": lambda x: x >= 0,
    "_noise": lambda x: x >= 0,
    "critics": lambda n: n > 0,
    "dropout": lambda x: 0 <= x < 1,
    "target_rate": lambda x: 0 < x <= 1,
    "target_samples": lambda n: n > 0,
    "samples": lambda n: n > 0,
    "temperature": lambda x: x > 0,
}


def usual(owner: Any) -> dict[str, bool]:
    """Whether each of a dataclass's fields that has a name of common meaning is in range, for `require`."""
    tests = {f.name: _RANGES.get(f.name) or _RANGES.get("_" + f.name.partition("_")[2]) for f in fields(owner)}
    return {name: holds(getattr(owner, name)) for name, holds in tests.items() if holds is not None}


def require(owner: Any, **conditions: bool) -> None:
    """Raise `SegueError` naming the first option whose condition does not hold."""
    for name, holds in conditions.items():
        if not holds:
            raise SegueError(f"{type(owner).__name__}: {name}={getattr(owner, name)} is out of range")


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """All options below a dataclass, by path; classes of nested parts appear as `path.type`."""
    out: dict[str, Any] = {}
    for f in options_of(value):
        path, inner = f"{prefix}{f.name}", getattr(value, f.name)
        if is_part(inner):
            out[f"{path}.type"] = name_of(type(inner))
            out |= leaves(inner, f"{path}.")
        elif callable(inner):
            out[path] = getattr(inner, "__name__", str(inner))
        else:
            out[path] = inner
    return out


def brief(value: Any) -> str:
    """A dataclass with the fields alone that are not at their defaults: Prefix(Mix(128, 128), share=0.25)."""
    if not is_part(value):
        return repr(value)
    words, named = [], False
    for f in fields(value):
        given, inner = getattr(value, f.name), brief(getattr(value, f.name))
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if given == default:
            named = True
        else:
            words.append(f"{f.name}={inner}" if named else inner)
    return f"{type(value).__name__}({', '.join(words)})"


def parse(path: str, text: Any, hint: Any, shown: str = "") -> Any:
    """Turn text (or a value) into what a field of type `hint` holds; `SegueError` says what was expected."""
    value = text
    if isinstance(text, str) and text not in _words(hint):  # "none" may be one of an option's own words
        try:
            value = ast.literal_eval({"true": "True", "false": "False", "none": "None", "inf": "1e999"}.get(text, text))
        except (ValueError, SyntaxError):
            value = text
    fitted = _fit(value, hint)
    if fitted is _MISFIT:
        raise SegueError(f"{shown or path}: {text!r} is not {_name(hint)}")
    return fitted


_MISFIT = object()


def _words(hint: Any) -> set[Any]:
    """What the Literals in a type name."""
    return {word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)}


def _fit(value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((x for x in (_fit(value, a) for a in arguments) if x is not _MISFIT), _MISFIT)
    if origin is Literal:
        return value if value in arguments else _MISFIT
    if origin is tuple:
        value = (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        if not isinstance(value, (tuple, list)):
            return _MISFIT
        inner = tuple(_fit(v, arguments[0]) for v in value)
        return _MISFIT if _MISFIT in inner else inner
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e6 is how people write a million
    if hint is type(None):
        return None if value is None else _MISFIT
    if hint in (int, float, str, bool):
        return value if type(value) is hint else _MISFIT
    return _MISFIT


def _name(hint: Any) -> str:
    if hint is type(None):
        return "None"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(a) for a in arguments)
    if origin is tuple:
        inside = {int: "whole numbers", float: "numbers"}.get(arguments[0], "words")
        return f"a tuple of {inside}, like (256, 256)"
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}.get(
        getattr(hint, "__name__", ""), "something that can be set by name"
    )


def assign(target: Any, path: list[str], value: Any, shown: str) -> tuple[Any, str]:
    """Return a copy of a dataclass with the field at `path` set, and the field's full path."""
    head, *rest = path
    names = [f.name for f in options_of(target)]
    if head not in names and ALIASES.get(head) in [*names, *reachable(target)]:
        head = ALIASES[head]
        path = [head, *rest]
    if head not in names:
        inside = [n for n in names if is_dataclass(getattr(target, n)) and head in reachable(getattr(target, n))]
        if len(inside) > 1:
            raise SegueError(f"{shown}: '{head}' is in several parts; name one of them: {', '.join(inside)}")
        if not inside:
            unknown(shown, head, [*names, *(x for n in names for x in reachable(getattr(target, n)))])
        head, rest = inside[0], path
    current, hint = getattr(target, head), _hints(type(target))[head]
    if (line := _line(hint)) is not None:  # a number, or one that moves: weight=5, weight.end=0.5
        if not rest and names_part(value):
            return replace(target, **{head: part_of(value, line, shown)}), f"{head}.type"
        if not rest:
            number = parse(head, value, float, shown)
            if not is_part(current):
                return replace(target, **{head: number}), head
            try:
                return replace(target, **{head: current.scaled(number)}), f"{head}.start"
            except SegueError as error:
                raise SegueError(f"{shown}: {error}") from error
        inner, full = assign(current if is_part(current) else line.of(current), rest, value, shown)
        return replace(target, **{head: inner}), f"{head}.{full}"
    if rest and (rest != ["type"] or not is_part(current)):  # `leaves` calls the class of a part so
        if not is_part(current):
            raise SegueError(f"{shown}: '{head}' is a single value; there is no '{'.'.join(rest)}' in it")
        inner, full = assign(current, rest, value, shown)
        return replace(target, **{head: inner}), f"{head}.{full}"
    kinds = [h for h in (hint, *get_args(hint)) if h is Any or (isinstance(h, type) and h not in _SINGLE)]
    if names_part(value) and (is_part(current) or kinds):
        return replace(target, **{head: part_of(value, kinds[0] if kinds else Any, shown, current)}), f"{head}.type"
    if is_part(current):
        options = ", ".join(f.name for f in fields(current))
        raise SegueError(f"{shown}: '{head}' has fields; set one of {options}, or replace the whole part (module:name)")
    return replace(target, **{head: parse(head, value, hint, shown)}), head


_SINGLE = (int, float, str, bool, tuple, type(None))


def _line(hint: Any) -> Any:
    """The dataclass that may stand for a number (`segue.core.schedules.Linear`), where a field's type has one."""
    kinds = get_args(hint)
    return next((kind for kind in kinds if is_dataclass(kind)), None) if float in kinds else None


_HINTS: dict[type, dict[str, Any]] = {}  # reading them takes most of a plan's time


def _hints(kind: type) -> dict[str, Any]:
    if kind in _HINTS:
        return _HINTS[kind]
    try:
        found = _HINTS[kind] = get_type_hints(kind)
        return found
    except NameError as error:
        raise SegueError(
            f"{name_of(kind)}: the types of its fields cannot be read ({error}); import them outside TYPE_CHECKING"
        ) from error


def parts_first(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in an order that can be applied: whole parts before their options, the outer before the inner, and the
    ends of a line after the bare numbers that scale it.
    """
    last = lambda path: path.endswith((".start", ".end"))  # noqa: E731
    order = lambda path: (0, path.count(".")) if names_part(settings[path]) else (1, last(path))  # noqa: E731
    return {path: settings[path] for path in sorted(settings, key=order)}


def movable(value: Any) -> list[str]:
    """Names of the fields at any depth below a dataclass that may hold a line in the place of a number."""
    found = []
    for f in fields(value):
        inner = getattr(value, f.name)
        if _line(_hints(type(value))[f.name]) is not None:
            found.append(f.name)
        elif is_part(inner):
            found += movable(inner)
    return found


def reachable(value: Any) -> list[str]:
    """Names of all fields at any depth below a dataclass (nothing for other values)."""
    if not is_part(value):
        return []
    return [x for f in options_of(value) for x in (f.name, *reachable(getattr(value, f.name)))]


def option_of(owner: Any, name: str) -> Any:
    """Value of an option at any depth; `SegueError` suggests the nearest name where there is none."""
    if name in owner.__dataclass_fields__:
        return getattr(owner, name)
    inner = [getattr(owner, f.name) for f in fields(owner) if name in reachable(getattr(owner, f.name))]
    if len(inner) != 1:
        unknown(f"an option of {type(owner).__name__}", name, reachable(owner))
    return option_of(inner[0], name)


def check_effect(owner: Any, path: str, shown: str, images: bool = True) -> None:
    """Raise `SegueError` when an option that was set has no effect in the finished object, or on a task without images.

    `images` says whether the task's observations have any.
    """
    declared = []
    *way, name = path.split(".")
    for step in way:
        declared.append(_declared(owner, step))
        owner = getattr(owner, step)
    meta = _declared(owner, name)
    if not images and any(said.get("images") for said in (*declared, meta)):
        raise SegueError(f"{shown}: has no effect here; it needs a task with images")
    if "when" in meta and not meta["when"](owner):
        raise SegueError(f"{shown}: has no effect here; it needs {meta['why']}")


def _declared(owner: Any, name: str) -> Mapping[str, Any]:
    """What the declaration of a field says; nothing for PATH.type, a part's class, which has its effect everywhere."""
    return next((f.metadata for f in fields(owner) if f.name == name), {})


ALIASES = {
    "gamma": "discount",
    "tau": "target_rate",
    "lr": "learning_rate",
    "actor_lr": "actor_learning_rate",
    "critic_lr": "critic_learning_rate",
    "value_lr": "value_learning_rate",
    "alpha_lr": "temperature_learning_rate",
    "temp_lr": "temperature_learning_rate",
    "policy_freq": "policy_delay",
    "expl_noise": "exploration_noise",
    "train_freq": "train_every",
    "buffer_size": "capacity",
    "n_envs": "envs",
    "num_envs": "envs",
}
"""Names that d3rlpy, CORL and Stable-Baselines3 share, and what they are here (docs/glossary.md)."""
BARE = frozenset({*ALIASES, *ALIASES.values(), "batch_size", "n_steps"})
"""Names that mean the same wherever they are options."""
MOST_NAMES = 40  # that a message lists


class Unknown(SegueError):
    """A name that does not exist."""


def unknown(shown: str, name: str, known: Iterable[str]) -> typing.NoReturn:
    """Raise the error for a name that does not exist, with the nearest ones that do."""
    choices = sorted(set(known))
    meant = re.sub(r"(^|_)lr$", r"\1learning_rate", name)  # how others call it
    near = difflib.get_close_matches(meant, choices, n=1, cutoff=0.5)
    more = f" and {len(choices) - MOST_NAMES} more" if len(choices) > MOST_NAMES else ""
    hint = f"did you mean '{near[0]}'?" if near else "known names: " + ", ".join(choices[:MOST_NAMES]) + more
    raise Unknown(f"{shown}: there is no '{name}'; {hint}")
