"""Checksums inside the files that a run reads back: damage on a disk is noticed, not believed.

A file holds one line of text, ``evalsuite.crc32:`` and eight hexadecimal digits, where its format has room for text
(metadata of Parquet and safetensors, a key of ``study.json``, the comment of an ``.npz``) or behind its end
(``.npy``). The digits are the CRC-32 of the whole file with zeros in their place, which notices every burst of up to
32 damaged bits; it is no protection against people. Files of earlier versions have none and are taken as they are,
except caches, which cost nothing but time to make again. That a file is of an earlier version is read off what it
holds, not off the line that is missing: one that names a checksum, or has what only later versions write, has lost its
line to damage.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from evalsuite.errors import DamageWarning
from evalsuite.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "checksum"
"""The name under which formats with named metadata hold the line."""
_MARK = b"evalsuite.crc32:"
_ZEROS = b"0" * 8
BLANK = (_MARK + _ZEROS).decode()
"""The line before :func:`seal` fills it in."""
_CHUNK = 2**20
_END = 2**22  # bytes at either end of a file in which the line is looked for


class Damaged(ValueError):
    """A file's content is not what was written."""


@contextlib.contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """Do what :func:`evalsuite.files.replacing` does, and seal what was written, which must hold ``BLANK``."""
    with replacing(path) as temporary:
        yield temporary
        seal(temporary)


def append_blank(file: Path) -> None:
    """Give an ``.npz`` file a comment, any other a trailer, that :func:`seal` fills in."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = BLANK.encode()
    else:
        with file.open("ab") as opened:
            opened.write(BLANK.encode())


def seal(file: Path) -> None:
    """Fill in a file's checksum. Raises ValueError if it holds no ``BLANK``."""
    with file.open("r+b") as opened:
        place = _place(opened)
        if place is None:
            raise ValueError(f"{file} has no room for a checksum")
        digits = _digits(opened, place)
        opened.seek(place)
        opened.write(digits)


def verify(file: Path, *, required: bool = False) -> bool:
    """Compare a file with its checksum; return whether it has one.

    Parameters
    ----------
    required : whether a file without one counts as damaged. An archive with a comment does in any case.

    Raises
    ------
    Damaged
        If they differ.
    OSError
        If the file cannot be read.
    """
    with file.open("rb") as opened:
        return _verify(opened, lambda: required or _has_comment(opened))


def _has_comment(opened: IO[bytes]) -> bool:
    if not zipfile.is_zipfile(opened):
        return False
    with zipfile.ZipFile(opened) as archive:
        return bool(archive.comment)


def verified(file: Path, sealed: Callable[[pa.BufferReader], bool] | None = None) -> pa.BufferReader:
    """Read a file into memory and verify it like :func:`verify`, at the cost of one reading.

    ``sealed``: whether what it holds is of a version that gives it a checksum, asked where it has none; what this
    raises is raised here. By default no file needs one.

    Arrow's own reader, not a Python object: Arrow's threads need Python's lock for one of these, also when they let
    go of it, and a program that ends just then is aborted.
    """
    import pyarrow as pa  # here: only the readers of Parquet files need it

    content = file.read_bytes()
    _verify(io.BytesIO(content), lambda: sealed is not None and sealed(pa.BufferReader(content)))
    return pa.BufferReader(content)


def verify_once(file: Path) -> None:
    """Like :func:`verify` with ``required``, once in a process for a file that nobody has written to since."""
    state = file.stat()
    _verify_state(file, state.st_ino, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _verify_state(file: Path, inode: int, size: int, time: int) -> None:
    verify(file, required=True)


def warn_of(file: Path, reason: object, mended: str) -> None:
    """Warn, in one line, of a damaged file and say how that is mended."""
    line = " ".join(f"{file} is damaged ({reason or type(reason).__name__}): {mended}".split())
    warnings.warn(line, DamageWarning, stacklevel=3)


def _verify(opened: IO[bytes], required: Callable[[], bool]) -> bool:
    place = _place(opened)
    if place is None:
        if required():
            raise Damaged("it has no checksum")
        return False
    opened.seek(place)
    written = opened.read(len(_ZEROS))
    if written != _digits(opened, place):
        raise Damaged("its checksum does not fit its content")
    return True


def _place(opened: IO[bytes]) -> int | None:
    """Return where the digits are: behind the last mark near the end, or the first near the beginning."""
    size = opened.seek(0, os.SEEK_END)
    first = max(0, size - _END)
    opened.seek(first)
    within = opened.read(_END).rfind(_MARK)
    if within < 0 and first:
        first = 0
        opened.seek(0)
        within = opened.read(_END).find(_MARK)
    place = first + within + len(_MARK)
    return None if within < 0 or place + len(_ZEROS) > size else place


def _digits(opened: IO[bytes], place: int) -> bytes:
    """Return the CRC-32 of a file with zeros from ``place`` on, as eight hexadecimal digits."""
    opened.seek(0)
    crc = 0
    for length in [_CHUNK] * (place // _CHUNK) + [place % _CHUNK]:
        crc = zlib.crc32(opened.read(length), crc)
    crc = zlib.crc32(_ZEROS, crc)
    opened.seek(place + len(_ZEROS))
    while chunk := opened.read(_CHUNK):
        crc = zlib.crc32(chunk, crc)
    return f"{crc:08x}".encode()
