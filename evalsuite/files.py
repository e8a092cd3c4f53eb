"""Writing to disk: every file appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import re
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_FORMULA = (*"=+-@\t\n", *"\uff1d\uff0b\uff0d\uff20")
"""How formulas begin; the latter are =, +, - and @ in the full width of East Asia."""

_DAY = 86_400  # seconds after which a temporary file of another machine is taken for left; ours
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_TEMPORARY = re.compile(r"\..*~([0-9a-f]{8})-([0-9]+)-[a-z0-9_]{8}(\.[^.]*)?")


class Unwritable(RequestError):
    """A file cannot be written: a full disk, a folder that belongs to others."""


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text; names of files may be any bytes, which Python shows as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it otherwise.

    The temporary name says which process of which machine made it, so that :func:`remove_left` finds those that were
    killed.

    Raises
    ------
    Unwritable
        If the file cannot be written, a full disk for example, or its name is not UTF-8, which not every library
        can open; what was there before is still there then.
    """
    if not is_utf8(str(path)):
        raise Unwritable(f"cannot write to {str(path)!r}: expected a name in UTF-8")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.stem}~{this_machine()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
        os.close(handle)
    temporary = Path(name)
    try:
        with _writing(path, _NO_ROOM):
            yield temporary
        with _writing(path):
            temporary.chmod(0o644)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path, numbers: frozenset[int] = frozenset()) -> Iterator[None]:
    """Turn the system's errors, all or those of these numbers, into a line that names the file."""
    try:
        yield
    except OSError as error:
        if numbers and error.errno not in numbers:
            raise
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise Unwritable(f"cannot write to {path}: {reason}") from error


def read_only(folder: Path) -> bool:
    """Whether a folder is there in which no file can be made; tried, for rights alone do not tell on every system."""
    if not folder.is_dir():
        return False
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return False


def reserve(path: Path) -> None:
    """Take the disk's room for all of a file that is there, before it is written through memory.

    Where the disk is full, writing through memory ends the process by a signal; this raises OSError instead.
    """
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system without it
                raise


@functools.cache
def this_machine() -> str:
    """Return eight hex digits of this machine and, in a container, its own numbering of processes."""
    try:
        numbering = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{platform.node()} {numbering}".encode()).hexdigest()[:8]


def remove_left(folder: Path) -> None:
    """Remove what killed processes have left of :func:`replacing` in a folder and the folders in it.

    Temporary files of processes of this machine that are no more, and those of other machines that are a day old.
    """
    if not folder.is_dir():
        return
    for place in (folder, *(below for below in folder.iterdir() if below.is_dir() and not below.is_symlink())):
        with contextlib.suppress(OSError):  # another run removes it too, or it may not be removed by this one
            for file in place.glob(".*~*"):
                match = _TEMPORARY.fullmatch(file.name)
                if match and _left(file, machine=match[1], process=int(match[2])):
                    file.unlink(missing_ok=True)


def _left(file: Path, machine: str, process: int) -> bool:
    if machine != this_machine():
        return time.time() - file.stat().st_mtime > _DAY
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all; what UTF-8 cannot hold, such as the names of some files, as escapes."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all; a spreadsheet finds no formula in it.

    A text that begins with ``=``, ``+``, ``-``, ``@`` or white space that ends a cell gets an apostrophe in front.
    Carriage returns become line feeds: Python's writer leaves them unquoted, and a spreadsheet begins a row there.
    """
    named = table.rename(columns=_inert)
    write_text(
        path, named.apply(lambda column: column.map(_inert) if _holds_text(column) else column).to_csv(index=False)
    )


def _holds_text(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype  # slow, and most commands write no table

    return not (is_numeric_dtype(column.dtype) or is_datetime64_any_dtype(column.dtype))


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = re.sub("\r\n?", "\n", cell)
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_csv(path: Path, text: Sequence[str]) -> pd.DataFrame:
    """Read a table that :func:`write_csv` wrote; an empty cell is missing, and no other text is.

    Parameters
    ----------
    path : of the file.
    text : columns that hold text, whatever it looks like, such as the names of classes; what of them is there.

    Raises
    ------
    OSError, ValueError
        If it cannot be read or is no table.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False, na_values=[""])
    for name in table.columns.intersection(list(text)):
        table[name] = table[name].map(_as_written, na_action="ignore")
    return table


def _as_written(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def read_arrays(file: Path, most: int = 2**28) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file that together take at most so many bytes.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged, is none, or holds more: a file of a few megabytes can unpack into many
        gigabytes.
    """
    with _foreign_bytes(), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > most:
            raise ValueError(f"its arrays take {size:,} bytes: expected at most {most:,}")
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


@contextlib.contextmanager
def _foreign_bytes() -> Iterator[None]:
    """Raise whatever readers raise on foreign bytes as ValueError, OSError excepted: each means the same."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as opened:
        array: NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    return array


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def mapped_array(file: Path) -> NDArray[Any]:
    """Map an ``.npy`` file read-only into memory: a header can claim any size, a map is never larger than its file.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged, is none, or holds values of no size, at which numpy's map divides by
        zero and ends the process.
    """
    with _foreign_bytes():
        with file.open("rb") as opened:
            version = np.lib.format.read_magic(opened)
            if version not in _HEADERS:
                raise ValueError(f"its header is of version {version}: expected {' or '.join(map(str, _HEADERS))}")
            _, _, dtype = _HEADERS[version](opened)
        if dtype.itemsize == 0:
            raise ValueError(f"its values are of type {dtype}, which takes no bytes")
        return np.lib.format.open_memmap(file, mode="r")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
