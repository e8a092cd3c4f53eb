"""What a study's values may be, whatever their key, and how large a study may grow: looked at before anything else."""

from __future__ import annotations

import math
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalsuite.errors import RequestError
from evalsuite.files import is_utf8

MOST_TRIALS = 10_000
"""How many trials a study may have unless it says otherwise (``max_trials``)."""
_LARGEST = 2**22  # bytes of a study file
_DEPTH = 16  # tables and lists within each other; a study needs five
_LETTERS = 100  # of a study's name, which is also a folder's; file systems take 255 bytes
_INVISIBLE = ("C", "Zl", "Zp")  # Unicode categories: control, format (bidi), surrogates, unassigned; line separators


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises RequestError if it cannot be read, is too large, or is none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise RequestError(f"{path} has {path.stat().st_size:,} bytes: expected a study file, at most {_LARGEST:,}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except RecursionError as error:
        raise RequestError(
            f"{path} is not a TOML file that can be read: lists or tables too deep in each other"
        ) from error
    except RequestError:
        raise
    except ValueError as error:  # also of integers of thousands of digits
        raise RequestError(f"{path} is not a TOML file: {error}") from error


def check_values(raw: Mapping[str, Any], where: str) -> None:
    """Raise RequestError, naming the key, for a value that no study can hold.

    Values are text, booleans, finite numbers, whole numbers of 64 bits, and lists and tables of them.
    """
    remaining: list[tuple[str, Any, int]] = [(str(key), value, 1) for key, value in raw.items()]
    while remaining:
        key, value, depth = remaining.pop()
        if depth > _DEPTH:
            raise RequestError(f"{where}, {key}: lists or tables more than {_DEPTH} deep; expected fewer")
        wrong = _wrong(value)
        if wrong:
            raise RequestError(f"{where}, {key} = {wrong}")
        remaining += ((name, part, depth + 1) for name, part in _parts(key, value))


def _parts(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{key}.{name}" if len(key) < _LETTERS else key, part) for name, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((key, part) for part in value)


def _wrong(value: Any) -> str:
    if isinstance(value, str):
        return "" if is_utf8(value) else f"{value!r}: expected text in UTF-8"
    if isinstance(value, bool | Mapping | list | tuple) or value is None:
        return ""
    if isinstance(value, int):  # one of thousands of digits cannot even be printed
        fits = -(2**63) <= value < 2**63
        return "" if fits else f"a whole number of {value.bit_length()} bits: expected one below 2^63 in size"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value}: expected a finite number"
    return f"{value}, a {type(value).__name__}: expected text, a number, true or false, a list or a table"


def check_name(name: str, where: str) -> None:
    """Raise RequestError unless a study's name can be that of a folder within ``runs``."""
    expected = f"expected a name of 1 to {_LETTERS} letters that can be a folder's"
    if name != name.strip() or not 1 <= len(name) <= _LETTERS or len(name.encode("utf-8", "replace")) > 2 * _LETTERS:
        raise RequestError(
            f"{where}, name = {name[:_LETTERS]!r} of {len(name)} characters: {expected}, no blanks around"
        )
    odd = [letter for letter in name if letter in "/\\" or unicodedata.category(letter).startswith(_INVISIBLE)]
    if odd:
        raise RequestError(f"{where}, name = {name!r} has {odd[0]!r} in it: {expected}")
    if name.startswith("."):
        raise RequestError(f"{where}, name = {name!r} begins with a dot: {expected}")


def check_count(axes: Mapping[str, int], most: int, where: str) -> None:
    """Raise RequestError if a study has more trials, before any is left out, than ``most``.

    ``axes``: number of settings by name; their product is the number of trials.
    """
    if most < 1:
        raise RequestError(f"{where}, max_trials = {most}: expected at least 1")
    count = math.prod(axes.values())
    if count > most:
        product = " x ".join(f"{number:,} {name}" for name, number in axes.items() if number > 1)
        raise RequestError(
            f"{where} has {count:,} trials ({product}): expected at most {most:,}; max_trials = {count} lifts the limit"
        )
