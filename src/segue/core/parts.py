"""Parts as JSON and by name: agents, samplers, bonuses and what they are made of, Segue's and one's own.

A part is a frozen dataclass.  Its fields hold numbers, words, None, tuples of these, and parts.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from segue.core.named import is_named, main_name, named
from segue.core.types import SegueError


def name_of(kind: type) -> str:
    """A class as files and tables name it: NAME where it is Segue's, else module:NAME."""
    module = kind.__module__
    if module.partition(".")[0] == "segue":
        return kind.__name__
    return f"{(main_name() or module) if module == '__main__' else module}:{kind.__qualname__}"


def word_of(value: Any) -> str:
    """module:name of a function or a class; `SegueError` where it could not be imported again from there."""
    if not inspect.isroutine(value) and not isinstance(value, type):
        raise SegueError(f"a {type(value).__name__} has no name to import it by; give a function of a module")
    _refuse_lost(value)
    module = main_name() if value.__module__ == "__main__" else value.__module__
    return f"{module}:{value.__qualname__}"


def is_part(value: Any) -> bool:
    """Whether something is a part.  Its class is not one."""
    return is_dataclass(value) and not isinstance(value, type)


def within(part: Any) -> Iterator[Any]:
    """A part and those that it holds, at any depth."""
    yield part
    for f in fields(part):
        if is_part(inner := getattr(part, f.name)):
            yield from within(inner)


def describe(part: Any) -> dict[str, Any]:
    """A part as JSON, {"type": name, field: value, ...}; `SegueError` where `build` could not make it again."""
    kind = type(part)
    bare = "__dataclass_fields__" not in vars(kind) and inspect.get_annotations(kind)  # its fields are not options
    if not is_dataclass(kind) or not kind.__dataclass_params__.frozen or bare:  # type: ignore[attr-defined]
        raise SegueError(f"{name_of(kind)} is not a frozen dataclass; write @dataclass(frozen=True) above it")
    _refuse_lost(kind)
    return {"type": name_of(kind)} | {f.name: _plain(getattr(part, f.name), kind, f.name) for f in fields(part)}


def _plain(value: Any, owner: type, name: str) -> Any:
    if is_part(value):
        return describe(value)
    if isinstance(value, tuple):
        return [_plain(x, owner, name) for x in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # strict JSON has no infinities
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SegueError(
        f"{name_of(owner)}: '{name}' holds a {type(value).__name__}; a run can save only numbers, words, tuples of "
        "them and frozen dataclasses only"
    )


def _refuse_lost(kind: Any) -> None:
    """Raise `SegueError` for a class or function that nobody could import again."""
    found: Any = sys.modules.get(kind.__module__)
    for step in kind.__qualname__.split("."):
        found = getattr(found, step, None)
    if found is not kind or (kind.__module__ == "__main__" and not main_name().isidentifier()):
        raise SegueError(
            f"{kind.__qualname__}: cannot be imported again, so its run could not be loaded or resumed; define it at "
            "the top level of a module, in a file of its own"
        )


def build(description: Mapping[str, Any], ours: Callable[[str], Any], what: str) -> Any:
    """Return the part that `describe` described.  `ours` finds Segue's classes by name; other modules are imported.

    Raises `SegueError` where a class is not there any more, or has other fields.
    """
    values = dict(description)
    name = values.pop("type")
    kind = named(name, what) if is_named(name) else ours(name)
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise SegueError(f"{name} should be {what}, but it is no dataclass")
    if strange := sorted(set(values) - {f.name for f in fields(kind)}):
        here = "now" if is_named(name) else "in this version of Segue"
        raise SegueError(f"{name} has no {', '.join(strange)} {here}; use the version that wrote it")
    again = lambda value: _again(value, ours, f"a part of {name}")  # noqa: E731
    return kind(**{key: again(value) for key, value in values.items()})


def _again(value: Any, ours: Callable[[str], Any], what: str) -> Any:
    if isinstance(value, Mapping):
        return build(value, ours, what)
    if isinstance(value, list):
        return tuple(_again(x, ours, what) for x in value)
    return float(value) if value in ("inf", "-inf") else value


def names_part(value: Any) -> bool:
    """Whether a setting's value is a whole part: one, its class, what `describe` made of it, or a word that names it.

    A word is module:name, or the name of a class of Segue's.
    """
    if isinstance(value, str):
        ours = value.isidentifier() and value[0].isupper() and value not in ("None", "True", "False")
        return ours or is_named(value)
    return is_dataclass(value) or (isinstance(value, Mapping) and "type" in value)


def part_of(value: Any, kind: Any, shown: str, before: Any = None) -> Any:
    """Return the part that a setting, `shown`, gives a field of type `kind`; see `names_part`.

    A class makes one with its defaults, and so does a function without arguments.  Where the class extends that of the
    part that stood there `before`, or of one inside it, it takes over the options that were set there.  Raises
    `SegueError`.
    """
    what = _what(kind)
    try:
        word = value if isinstance(value, str) else name_of(value if isinstance(value, type) else type(value))
        if isinstance(value, str):
            value = named(value, what) if is_named(value) else _exported(value, what)
        elif isinstance(value, Mapping):
            word, value = value["type"], build(value, _exported, what)
        part = value if is_part(value) else made(value, word)
        if isinstance(value, type) and (parent := extended(part, before)) is not None:
            part = _heir(part, parent)
        if lacks := missing(part, kind):
            raise SegueError(f"{word} is not {what}: it has no {', '.join(lacks)}")
        describe(part)
        _refuse_unhashable(part, word)
    except SegueError as error:
        raise SegueError(f"{shown}: {error}") from error
    return part


def extended(part: Any, before: Any) -> Any:
    """The part in `before`, itself or one inside it, whose class that of `part` extends; None where there is none."""
    parents = type(part).__mro__[1:]
    return next((one for one in within(before) if type(one) in parents), None) if is_part(before) else None


def _heir(part: Any, parent: Any, plain: Any = None) -> Any:
    """A part with those options of its parent that differ from `plain`, which the parent's class makes."""
    changes: dict[str, Any] = {}
    for f in fields(parent):
        given, here = getattr(parent, f.name), getattr(part, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        usual = default if plain is None else getattr(plain, f.name)
        if given == usual:
            continue
        inside = is_part(given) and type(given) is type(usual) and isinstance(here, type(given))
        changes[f.name] = _heir(here, given, usual) if inside else given
    return replace(part, **changes)


def _refuse_unhashable(part: Any, word: str) -> None:
    try:
        hash(part)
    except TypeError as error:  # a field with eq=False, a __hash__ of one's own
        raise SegueError(
            f"{word} cannot be hashed, as compiled programs need it ({error}); use the __eq__ of dataclass"
        ) from error


def _exported(name: str, what: str = "a part") -> Any:
    # The face of the package, which stands above this room: looked up by a name that the user has given.
    return named(f"segue:{name}", what)


def _what(kind: Any) -> str:
    """A protocol's name in plain words: a sampler, an agent."""
    name = {"Augmentation": "bonus"}.get(kind.__name__, kind.__name__.lower()) if isinstance(kind, type) else "part"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def made(value: Any, word: str) -> Any:
    """Call a class or a function that needs no arguments; return everything else as it is."""
    if not isinstance(value, type) and not inspect.isroutine(value):
        return value
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError) as error:
        raise SegueError(
            f"{word} cannot be made without arguments ({error}); give the arguments defaults, or name an object"
        ) from error
    return value()


def missing(value: Any, kind: Any) -> list[str]:
    """Methods and properties of a class or protocol that an object lacks; of `Any`, nothing."""
    if not isinstance(kind, type):
        return []
    wanted = [name for name in dir(kind) if not name.startswith("_")]
    asked = [name for name in wanted if callable(x := getattr(kind, name)) or isinstance(x, property)]
    return [name for name in asked if not hasattr(value, name)]
