"""What a plugin says of itself and of each of its options: fields and docstrings, read where its author wrote them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json
from evalsuite.plugins import COST_ONLY

_SECTION = re.compile(r"^(Parameters|Attributes|Raises|Returns|Notes)\n-+\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\w[\w, ]*?) : +", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """An option of a plugin, or a key of a study's table.

    Attributes
    ----------
    name : of the option.
    type : what it may be, as it is written in Python; the values of a choice one by one.
    default : as JSON; None where it must be given.
    text : what it does, with its unit and source, as its author says it; empty where nothing is said.
    cost_only : whether it changes what the plugin costs and never what it gives.
    """

    name: str
    type: str
    default: str | None
    text: str
    cost_only: bool = False


@dataclass(frozen=True)
class Described:
    """A plugin: what it is, where it is defined, and its options.

    Attributes
    ----------
    kind, name : of the registry.
    summary, text : first line of the docstring, and what follows before its sections.
    path : ``module:Class``, where to read on.
    source : first sentences of its module's docstring, which name the paper where a method has one.
    options : in the order of their definition.
    """

    kind: registry.Kind
    name: str
    summary: str
    text: str
    path: str
    source: str
    options: tuple[Option, ...]


def describe(kind: registry.Kind, name: str) -> Described:
    """Return what a plugin says of itself; ``name`` may be a ``path.py:Class``.

    Raises
    ------
    RequestError
        If there is no such plugin (the nearest name is suggested), it cannot be imported, or is no class.
    """
    cls = registry.load(kind, name)
    if not isinstance(cls, type):
        raise RequestError(f"{registry.SINGULAR[kind]} {name!r} is a {type(cls).__name__}: expected a class")
    summary, text = described(cls)
    module = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "").partition("\n\n")[0]
    path = f"{cls.__module__}:{cls.__qualname__}"
    return Described(kind, name, summary, text, path, registry.plain(" ".join(module.split())), options_of(cls))


def described(cls: type) -> tuple[str, str]:
    """Return the first line of a class's docstring, and what follows before its sections, references as names."""
    whole = inspect.cleandoc(cls.__doc__ or "")
    summary, _, rest = _SECTION.split(whole)[0].partition("\n")
    return registry.plain(summary), registry.plain(rest.strip())


def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options of a class: none, unless it is a dataclass."""
    if not dataclasses.is_dataclass(cls):
        return ()
    texts = _texts(cls)
    hints = _hints(cls)
    return tuple(
        Option(
            field.name,
            _type(hints.get(field.name, field.type)),
            _default(field),
            texts.get(field.name, ""),
            bool(field.metadata.get(COST_ONLY)),
        )
        for field in dataclasses.fields(cls)
        if field.init
    )


def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # of a type that is imported for checkers alone: shown as it is written
        return {}


def _type(hint: Any) -> str:
    if isinstance(hint, str):
        return hint
    if get_origin(hint) is Literal:
        return " | ".join(canonical_json(value) for value in get_args(hint))
    if get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(_type(part) for part in get_args(hint))
    if get_origin(hint) is not None:
        parts = ", ".join("..." if part is Ellipsis else _type(part) for part in get_args(hint))
        return f"{get_origin(hint).__name__}[{parts}]"
    return "None" if hint is type(None) else str(getattr(hint, "__name__", hint))


def _default(field: dataclasses.Field[Any]) -> str | None:
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory())
    return None if field.default is dataclasses.MISSING else json.dumps(field.default)


def _texts(cls: type, seen: frozenset[type] = frozenset()) -> dict[str, str]:
    """Return what is said of each option: by the class, where it refers to another by that one, else by its bases."""
    found: dict[str, str] = {}
    for owner in cls.__mro__:
        for name, text in _entries(owner).items():
            found.setdefault(name, _followed(owner, name, text, seen | {cls}))
    return found


def _entries(cls: type) -> dict[str, str]:
    """Return the entries of the docstring's section Parameters, or Attributes: ``a, b : text`` has both names."""
    parts = _SECTION.split(inspect.cleandoc(vars(cls).get("__doc__") or ""))
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    entries = _ENTRY.split(sections.get("Parameters", sections.get("Attributes", "")))
    return {
        name: " ".join(text.split())
        for names, text in zip(entries[1::2], entries[2::2], strict=True)
        for name in names.split(", ")
    }


def _followed(owner: type, name: str, text: str, seen: frozenset[type]) -> str:
    """Return what another class says of an option where this one says ``see :class:`...```, then what it adds."""
    pointed = re.match(r"see :class:`([\w.]+)`[.;,]?\s*", text)
    module, _, attribute = pointed[1].rpartition(".") if pointed else ("", "", "")
    if pointed is None or not module:
        return registry.plain(text)
    target = registry.load_path(f"{module}:{attribute}")
    said = "" if target in seen else _texts(target, seen | {owner}).get(name, "")
    added = text[pointed.end() :]
    return " ".join(part for part in (said, registry.plain(added[:1].upper() + added[1:])) if part)
