"""A plugin's file and its test, to begin with: those of :mod:`evalsuite.templates` under a name of the author's."""

from __future__ import annotations

import ast
import contextlib
import keyword
import os
import re
import sys
from importlib import resources
from importlib.machinery import PathFinder
from pathlib import Path

from evalsuite.errors import RequestError, unknown_name
from evalsuite.files import replacing

KINDS = ("quantizer", "adapter", "protocol", "stream", "task", "figure")
"""What can be begun; ``protocol`` is a step that makes calibration sets."""

_OURS = ("evalsuite", "protocols", "reports")
_PYTEST = "conftest"  # a name that pytest loads by itself


def class_name(name: str) -> str:
    """Return the class of a module's name: ``my_method`` has ``MyMethod``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def scaffold(kind: str, name: str, folder: Path) -> list[Path]:
    """Write ``NAME.py`` and ``test_NAME.py``, both or none, and return their paths.

    Parameters
    ----------
    kind : one of :data:`KINDS`.
    name : of the module; its class is :func:`class_name` of it.
    folder : where to write; made if it is not there.

    Raises
    ------
    RequestError
        For an unknown kind, a name that Python or pytest would take for something else, a file that is there already,
        or one that cannot be written.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    plugin_text, test_text = _template(f"{kind}.py"), _template(f"test_{kind}.py")
    _check_name(name, folder)
    _check_class(class_name(name), plugin_text, test_text)
    for file in (plugin, test):
        if os.path.lexists(file):
            raise RequestError(f"{file} is there already: expected another name or folder")
    _write_both(plugin, _named(plugin_text, kind, name), test, _named(test_text, kind, name))
    return [plugin, test]


def _template(file: str) -> str:
    return resources.files("evalsuite.templates").joinpath(file).read_text(encoding="utf-8")


def _named(text: str, kind: str, name: str) -> str:
    """Put the author's names in place of the template's: its module, ``mine`` where it is spoken of, and its class."""
    imported = f"from evalsuite.templates.{kind} import Mine\n"
    if imported in text:  # a module beside the file comes last among its imports
        *_, last = (node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom))
        lines = text.splitlines(keepends=True)
        lines.insert(last.end_lineno or 0, "\nfrom mine import Mine\n")
        text = "".join(line for line in lines if line != imported)
    return re.sub(r"(?<![a-zA-Z])mine\b", name, re.sub(r"\bMine\b", class_name(name), text))


def _check_name(name: str, folder: Path) -> None:
    """Raise RequestError unless Python can import a module of this name from a folder, and would not take another."""
    if not (name.isascii() and name.isidentifier()) or any(map(keyword.iskeyword, (name, class_name(name)))):
        raise RequestError(f"name {name!r}: expected a Python identifier, for example my_method")
    if not class_name(name)[:1].isalpha():
        raise RequestError(f"name {name!r}: expected one with a letter first, for the sake of its class")
    if name.lower().startswith("test_") or name == _PYTEST:
        raise RequestError(f"name {name!r}: pytest would take {name}.py for a file of its own; expected another name")
    if name.lower() in sys.stdlib_module_names or name.lower() in _OURS or _installed(name, folder):
        raise RequestError(f"name {name!r}: {name}.py would hide the module {name.lower()}; expected another name")


def _installed(name: str, folder: Path) -> bool:
    """Whether a module of this name, or of the same letters, lies where Python looks beside the folder itself."""
    own = folder.resolve()
    places = [place for place in sys.path if Path(place or ".").resolve() != own]
    found = (PathFinder.find_spec(each, places) for each in {name, name.lower()})
    return any(spec is not None and spec.origin is not None for spec in found)  # no origin: a folder that is no package


def _check_class(name: str, *texts: str) -> None:
    """Raise RequestError for a class of a name that the files use for something else."""
    nodes = (node for text in texts for node in ast.walk(ast.parse(text)))
    used = {getattr(node, field, None) for node in nodes for field in ("id", "name", "asname")} - {"Mine"}
    if name in used:
        raise RequestError(f"its class would be {name}, which the file uses already: expected another name")


def _write_both(plugin: Path, plugin_text: str, test: Path, test_text: str) -> None:
    try:
        with replacing(test) as test_written, replacing(plugin) as plugin_written:
            plugin_written.write_text(plugin_text, encoding="utf-8")
            test_written.write_text(test_text, encoding="utf-8")
    except BaseException:
        for file in (plugin, test):  # neither was there before
            with contextlib.suppress(OSError):
                file.unlink()
        raise
