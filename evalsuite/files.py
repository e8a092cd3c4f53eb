"""Writing to disk: every file appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all; a spreadsheet finds no formula in it.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe in front.
    """
    named = table.rename(columns=_inert)
    write_text(
        path, named.apply(lambda column: column.map(_inert) if _holds_text(column) else column).to_csv(index=False)
    )


def _holds_text(column: pd.Series[Any]) -> bool:
    return not (is_numeric_dtype(column.dtype) or is_datetime64_any_dtype(column.dtype))


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def read_arrays(file: Path, most: int = 2**28) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file that together take at most so many bytes.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged, is none, or holds more: a file of a few megabytes can unpack into many
        gigabytes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > most:
                raise ValueError(f"its arrays take {size:,} bytes: expected at most {most:,}")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (OSError, ValueError):
        raise
    except Exception as error:  # readers fail in many ways on foreign bytes; each means the same
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as opened:
        array: NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    return array


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
