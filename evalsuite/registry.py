"""Plugins by name: entry points, loaded only when used; collisions and misspelt names are clear errors.

A plugin is named by its entry point (``rtn``), by an import path (``package.module:Class``) or by a file
(``path/to/file.py:Class``). The project's own plugins are registered exactly as a third party's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from evalsuite.environment import OWN_PACKAGES, hiding
from evalsuite.errors import RequestError, unknown_name
from evalsuite.files import is_utf8
from evalsuite.hashing import canonical_json, digest
from evalsuite.isolation import printable, requested, single_process, text_of
from evalsuite.optional_members import is_calibration_step, is_stream, missing_methods
from evalsuite.plugins import LATER

Kind = Literal["tasks", "quantizers", "adapters", "protocols", "studies", "figures", "reports", "baselines"]
KINDS: tuple[Kind, ...] = ("tasks", "quantizers", "adapters", "protocols", "studies", "figures", "reports", "baselines")
SINGULAR: dict[Kind, str] = {
    "tasks": "task",
    "quantizers": "quantizer",
    "adapters": "adapter",
    "protocols": "protocol",
    "studies": "study",
    "figures": "figure",
    "reports": "report",
    "baselines": "folder of baselines",
}
"""What one of a kind is called in messages."""


@functools.cache
def _entry_points(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=f"evalsuite.{kind}"):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise RequestError(
                f"two installed packages register {SINGULAR[kind]} {point.name!r}: {other.value} and {point.value}; "
                "expected one: uninstall or rename the other"
            )
        found[point.name] = point
    return found


def names(kind: Kind) -> list[str]:
    """Return the names of the installed plugins of a kind, in alphabetical order."""
    return sorted(_entry_points(kind))


def load(kind: Kind, name: str) -> Any:
    """Return the object registered under ``name``, or the one that a ``module:attribute`` path points to.

    Raises
    ------
    RequestError
        If there is no such plugin (the nearest name is suggested) or it cannot be imported.
    """
    point = _entry_points(kind).get(name)
    if point is None:
        if ":" in name:
            return load_path(name)
        if name.endswith(".py"):
            raise RequestError(f"{name} says no class: expected {name}:Class")
        raise unknown_name(SINGULAR[kind], name, names(kind))
    try:
        with _importing(f"{SINGULAR[kind]} {name!r} is registered as {point.value} but cannot be loaded"):
            return point.load()
    except RequestError as error:
        package = point.module.partition(".")[0]
        other = hiding(package) if package in OWN_PACKAGES else None
        if other is None:
            raise
        raise RequestError(f"{error}; {other} hides evalsuite's own {package}: rename it, or work elsewhere") from error


def load_path(path: str, what: str = "Class") -> Any:
    """Return what ``package.module:NAME`` or ``path/to/file.py:NAME`` points to; ``what`` NAME should be, for errors.

    Raises
    ------
    RequestError
        If the module or file cannot be imported or has no such name.
    """
    where, _, attribute = path.rpartition(":")
    if where.endswith(".py"):
        file = Path(where)
        if not file.is_file():
            raise RequestError(f"no file {where}: expected path/to/file.py:{what}")
        module = _load_file(file.resolve())
    else:
        with _importing(f"cannot import {where!r}", f"; expected package.module:{what}"):
            module = importlib.import_module(where)
    if not hasattr(module, attribute):
        raise RequestError(f"{where} has no {attribute!r}; it defines {', '.join(_defined(module)) or 'nothing'}")
    return getattr(module, attribute)


def python_files(value: Any) -> Iterator[str]:
    """Yield the file of every ``path.py:NAME`` in options or tables: code that :func:`load_path` would run."""
    if isinstance(value, str):
        file, _, _ = value.rpartition(":")
        if file.endswith(".py"):
            yield file
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from python_files(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from python_files(part)


def options_digests(options: Mapping[str, Any]) -> list[str]:
    """Return digests of the files of code that options name, a host's or a factory's, in the order of the options."""
    files = [Path(file) for file in python_files(options)]
    return [digest(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def _load_file(file: Path) -> Any:
    # The content is part of the module's name, so that an edited file is never mistaken for its old self.
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    name = f"evalsuite_external_{file.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing(f"{file} cannot be imported"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _importing(what: str, expected: str = "") -> Iterator[None]:
    """Turn whatever a foreign module does when it is imported into a RequestError, and stay in the working folder."""
    folder = os.open(".", os.O_RDONLY)
    try:
        with single_process():
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # one broken package must not take the others along
        raise RequestError(f"{what}: {printable(type(error).__name__)}: {text_of(error)}{expected}") from error
    finally:
        os.fchdir(folder)
        os.close(folder)


def _defined(module: Any) -> list[str]:
    """Return the names of a module's own classes, then of its functions, in order."""
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    functions = [key for key, value in own.items() if isinstance(value, types.FunctionType)]
    return [key for key, value in own.items() if isinstance(value, type)] + functions


def summary(kind: Kind, name: str) -> str:
    """First line of a plugin's docstring, as it is read."""
    lines = (load(kind, name).__doc__ or "").strip().splitlines()
    return plain(lines[0]) if lines else ""


def plain(text: str) -> str:
    """Return reStructuredText as it is read: the last name of a reference, a literal in single quotes of code."""
    return _REFERENCE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", text).replace("``", "`")


_REFERENCE = re.compile(r":\w+:`([^`]+)`")
_OPTIONS = TypeAdapter(dict[str, Any])


@dataclasses.dataclass(frozen=True)
class Setting:
    """A plugin with all its options filled in: hashable, comparable, serialisable.

    Build one with :func:`configure`; ``options`` is the canonical JSON of the resolved options, so that two
    spellings of the same setting are equal.
    """

    kind: Kind
    name: str
    options: str = "{}"
    source: str = ""
    """Digest of the files that a ``path.py:Class`` plugin, and such options of it, came from, else empty."""

    def values(self) -> dict[str, Any]:
        """Return the resolved options."""
        return _OPTIONS.validate_json(self.options)

    def build(self) -> Any:
        """Return the plugin itself."""
        return _construct(self.kind, self.name, self.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the form that enters a trial's identity and ``study.json``."""
        value = {"name": self.name, "options": self.values()}
        return value | ({"source": self.source} if self.source else {})

    @functools.cached_property
    def canonical(self) -> str:
        """Canonical JSON of :meth:`as_dict`; thousands of trials share a setting and need it."""
        return canonical_json(self.as_dict())


def configure(kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> Setting:
    """Check a plugin's options and fill in its defaults.

    Raises
    ------
    RequestError
        If the plugin or an option is unknown, or an option has an impossible value.
    """
    if not is_utf8(name):
        raise RequestError(f"{SINGULAR[kind]} {name!r}: expected a name in UTF-8, which records can hold")
    where, _, attribute = name.rpartition(":")
    name = f"{Path(where)}:{attribute}" if where.endswith(".py") else name  # ./a.py and a.py are the same file
    resolved = _resolved(_construct(kind, name, dict(options or {})))
    # Once more, so that a default of 1 for a float becomes 1.0, as it does where it is given.
    resolved = _resolved(_construct(kind, name, resolved))
    return Setting(kind, name, canonical_json(resolved), _source(kind, name, resolved))


def _source(kind: Kind, name: str, resolved: Mapping[str, Any]) -> str:
    """Return a digest of the files that a plugin's code comes from, its own and those that its options name."""
    # What a task's options name enters its facts, with its images and weights.
    own, further = source_digest(name), [] if kind == "tasks" else options_digests(resolved)
    return digest([own, *further]) if further else own


def _resolved(plugin: Any) -> dict[str, Any]:
    values = {field.name: (field, getattr(plugin, field.name)) for field in _fields(type(plugin))}
    return {name: value for name, (field, value) in values.items() if not _unsaid(field, value)}


def _unsaid(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether an option is as it was before it could be chosen (:func:`evalsuite.plugins.later`)."""
    return bool(field.metadata.get(LATER)) and bool(value == field.default)


def source_digest(name: str) -> str:
    """Digest of the file that a ``path.py:Class`` plugin comes from, empty for any other."""
    where, _, _ = name.rpartition(":")
    return digest(Path(where).read_text(encoding="utf-8")) if where.endswith(".py") else ""


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    if not dataclasses.is_dataclass(cls):
        return ()
    return tuple(field for field in dataclasses.fields(cls) if field.init)


_METHODS = {"quantizers": ("insert", "calibrate"), "adapters": ("prepare", "step")}


def named(
    kind: Literal["quantizers", "adapters"], method: Any, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return name and options of a method that is given by its name, as a class or as an instance.

    Raises
    ------
    RequestError
        For a class that cannot be imported by its name or is no plugin of this kind, for options beside an instance,
        and for anything else.
    """
    if isinstance(method, str):
        return method, dict(options)
    what = SINGULAR[kind]
    cls = method if isinstance(method, type) else type(method)
    if missing_methods(cls, _METHODS[kind]):
        expected = " and ".join(_METHODS[kind])
        raise RequestError(
            f"method = {method!r}: expected the name of a {what}, or a class or instance with {expected}"
        )
    path = f"{cls.__module__}:{cls.__qualname__}"
    name = next((point.name for point in _entry_points(kind).values() if point.value == path), path)
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls:
        raise RequestError(f"method = {method!r}: {path} cannot be imported; expected a class at the top of a module")
    if cls is method:
        return name, dict(options)
    if options:
        raise RequestError(f"options {', '.join(options)} beside an instance of {cls.__name__}: expected them in it")
    return name, _resolved(method)


def check_role(name: str, role: str, where: str) -> None:
    """Raise RequestError, which begins with ``where``, unless a protocol serves as ``stream`` or ``calibration``."""
    cls = load("protocols", name)
    stream, step = is_stream(cls), is_calibration_step(cls)
    if role == "stream" and not stream:
        expected = "is a calibration step, not a stream" if step else "has no method plan: expected domains and plan"
    elif role == "calibration" and not step:
        expected = (
            "is a stream, not a calibration step"
            if stream
            else "has neither select nor transform: expected at least one of the two"
        )
    else:
        return
    raise RequestError(f"{where}: {name!r} {expected}")


def option_names(kind: Kind, name: str) -> list[str]:
    """Return the names of a plugin's options."""
    return [field.name for field in _fields(load(kind, name))]


def required_options(kind: Kind, name: str) -> list[str]:
    """Return the options of a plugin that have no default and must be given."""
    return [field.name for field in _fields(load(kind, name)) if not _has_default(field)]


def defaults(kind: Kind, name: str) -> dict[str, Any]:
    """Return the default values of the options of a plugin that have one."""
    return {
        field.name: field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for field in _fields(load(kind, name))
        if _has_default(field)
    }


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def list_options(kind: Kind, name: str) -> set[str]:
    """Return the options whose value is itself a list, which a study's grid must not expand."""
    found = set()
    for field in _fields(load(kind, name)):
        if str(field.type).replace(" ", "").startswith(("tuple[", "list[", "Sequence[")):
            found.add(field.name)
    return found


def _construct(kind: Kind, name: str, options: dict[str, Any]) -> Any:
    cls = load(kind, name)
    known = [field.name for field in _fields(cls)]
    what = f"{SINGULAR[kind]} {name!r}"
    for key, value in options.items():
        if key not in known:
            raise unknown_name(f"option of {what}", key, known)
        try:
            canonical_json(value)
        except ValueError as error:
            raise RequestError(f"{what}, {key} = {value!r}: expected finite numbers") from error
    if not isinstance(cls, type):
        raise RequestError(f"{what} is a {type(cls).__name__}: expected a class")
    with requested(f"{what} cannot be made"):
        return _instance(cls, what, options)


def _instance(cls: type[Any], what: str, options: dict[str, Any]) -> Any:
    try:
        if not dataclasses.is_dataclass(cls):
            return cls()
        # JSON's strict rules: a list may be a tuple and 1 a float, but true is no number and "6" no 6.
        return _adapter(cls).validate_json(canonical_json(options), strict=True)
    except ValidationError as error:
        raise validation_error(what, error) from error
    except TypeError as error:
        raise RequestError(f"{what} cannot be made: {error}; expected options with defaults") from error


@functools.lru_cache(maxsize=256)
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)  # a millisecond or more; a study may make thousands of settings of one class


def validation_error(what: str, error: ValidationError) -> RequestError:
    """Turn pydantic's error into one line that names what was wrong; a plugin's own RequestError stays as it is."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, RequestError):
        return own
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return RequestError(f"{what} has no {where!r}: expected a value, it has no default")
    return RequestError(f"{what}{f', {where}' if where else ''} = {first.get('input')!r}: {first['msg']}")
