"""Stable identities: the same value gives the same hash on every machine and in every process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH = 16  # hex digits: 64 bits, no collision among a billion trials is likely


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space and no NaN; dataclasses become dictionaries, tuples lists."""
    return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical form; expected JSON types or a dataclass")


def digest(value: Any) -> str:
    """Hash of a plain value or dataclass, 16 hex digits."""
    return digest_text(canonical_json(value))


def digest_list(canonical: Iterable[str]) -> str:
    """Hash of a list whose items are given as canonical JSON: what :func:`digest` makes of the list itself."""
    return digest_text(f"[{','.join(canonical)}]")


def digest_text(text: str) -> str:
    """Hash of a text, 16 hex digits."""
    return digest_bytes(text.encode())


def digest_bytes(content: bytes) -> str:
    """Hash of bytes, 16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:_LENGTH]


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """Hash of arrays: shapes, dtypes and bytes, 16 hex digits."""
    h = hashlib.sha256()
    for array in arrays:
        h.update(f"{array.dtype.str}{array.shape}".encode())
        # Seen as bytes, not copied: a mapped file of many gigabytes must not enter memory at once.
        h.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return h.hexdigest()[:_LENGTH]


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of a state dictionary: names, shapes, dtypes and bytes in name order, 16 hex digits."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        h.update(f"{name}:{array.dtype.str}{array.shape}".encode())
        h.update(array.tobytes())
    return h.hexdigest()[:_LENGTH]
