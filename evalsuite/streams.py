"""Streams of test images as values: which image, under which domain, in which batch, reset when."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from evalsuite.files import read_arrays, replacing
from evalsuite.hashing import digest, digest_arrays

CLEAN = "clean"

_DTYPES: dict[str, type[np.generic]] = {
    "image": np.int32,
    "domain": np.int16,
    "starts": np.int64,
    "resets": np.bool_,
}
_ROUND: dict[str, type[np.generic]] = {"round": np.int16}
# What a file that is cut off, overwritten or of another kind leads to.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True, order=True)
class Domain:
    """A way the test images look: a corruption at a severity, or ``clean`` at severity 0."""

    name: str = CLEAN
    severity: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.severity, int | np.integer) and not isinstance(self.severity, bool)
        if not whole or (self.name == CLEAN) != (self.severity == 0) or not 0 <= self.severity <= 5:
            raise ValueError(f"domain {self.name!r} at severity {self.severity}: expected 1..5, or clean at 0")

    def __str__(self) -> str:
        return self.name if self.severity == 0 else f"{self.name} {self.severity}"


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a stream: positions ``start..stop``, the images and domains there, and whether to reset first."""

    start: int
    image: NDArray[np.int32]
    domain: NDArray[np.int16]
    reset: bool


@dataclass(frozen=True, eq=False)
class Stream:
    """An ordered, batched list of (image, domain).

    Attributes
    ----------
    domains : the domains that ``domain`` counts through.
    image : (T,) index into the task's test set.
    domain : (T,) index into ``domains``.
    starts : (B,) position at which each batch begins, the first 0.
    resets : (B,) whether adapters are reset before the batch.
    reset_on_collapse : whether they are also reset after a batch with which the network has come to predict one class
        for nearly everything (:class:`evalsuite.adaptation.collapse.CollapseWatch`).
    constant_speed : whether batches do not wait for an adapter (:class:`evalsuite.adaptation.pace.Pace`).
    round : (T,) how often what is shown has been shown before; without it, it is read off the domains
        (:meth:`rounds`). A description that no network sees, and so no part of the digest.
    """

    domains: tuple[Domain, ...]
    image: NDArray[np.int32]
    domain: NDArray[np.int16]
    starts: NDArray[np.int64]
    resets: NDArray[np.bool_]
    reset_on_collapse: bool = False
    round: NDArray[np.int16] | None = None
    constant_speed: bool = False

    def __post_init__(self) -> None:
        described = {} if self.round is None else _ROUND
        for name, dtype in (_DTYPES | described).items():
            array: NDArray[Any] = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(f"{name} of {array.ndim} axes, {array.dtype}: expected one, {np.dtype(dtype)}")
        if len(self.image) == 0 or len(self.image) != len(self.domain):
            raise ValueError(f"{len(self.image)} images and {len(self.domain)} domains: expected as many, at least one")
        if not 0 < len(self.starts) == len(self.resets) or self.starts[0] != 0 or np.any(np.diff(self.starts) <= 0):
            raise ValueError("batch starts must rise from 0 and have one reset flag each")
        if self.starts[-1] >= len(self.image) or self.domain.max() >= len(self.domains):
            raise ValueError("a batch begins after the stream's end, or a domain is not in the list")
        if self.image.min() < 0 or self.domain.min() < 0:
            raise ValueError("images and domains are counted from 0; there are negative ones")
        if self.round is not None and (len(self.round) != len(self.image) or self.round.min() < 0):
            raise ValueError("rounds are counted from 0, one for each image")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def largest_batch(self) -> int:
        """Images of its largest batch."""
        return int(np.diff(np.append(self.starts, len(self))).max())

    def batches(self) -> Iterator[Batch]:
        """Walk through the stream."""
        bounds = itertools.pairwise(itertools.chain(self.starts, (len(self),)))
        for (start, stop), reset in zip(bounds, self.resets, strict=True):
            yield Batch(int(start), self.image[start:stop], self.domain[start:stop], bool(reset))

    def batch_of(self, position: NDArray[np.integer] | None = None) -> NDArray[np.int32]:
        """Return the number (n,) of the batch, from 0, that the images at n positions come in; by default all, (T,)."""
        at = np.arange(len(self)) if position is None else position
        return np.searchsorted(self.starts, at, side="right").astype(np.int32) - 1

    def rounds(self) -> NDArray[np.int16]:
        """Return the round (T,) of each image, from 0: the stream's own, else read off its domains. *Ours.*

        A stretch shows one corruption, or clean images, without a break, at whatever severities. Where there are no
        more of them than batches and every corruption has equally many, the k-th of each is round k; other streams,
        mixed ones among them, are one round.
        """
        if self.round is not None:
            return self.round
        names = [domain.name for domain in self.domains]
        shown = np.unique(names, return_inverse=True)[1][self.domain]
        begins = np.append(True, shown[1:] != shown[:-1])
        stretches = shown[begins]
        counts = np.bincount(stretches)
        if len(stretches) > len(self.starts) or len(np.unique(counts[counts > 0])) > 1:
            return np.zeros(len(self), np.int16)
        before = np.empty(len(stretches), dtype=np.int16)
        for name in np.unique(stretches):
            before[stretches == name] = np.arange(counts[name])
        rounds: NDArray[np.int16] = before[np.cumsum(begins) - 1]
        return rounds

    def digest(self) -> str:
        """Hash of everything in the stream that a network sees: its rounds are left out."""
        domains = [[domain.name, domain.severity] for domain in self.domains]
        arrays = digest_arrays(self.image, self.domain, self.starts, self.resets)
        ways = {"collapse": self.reset_on_collapse, "constant speed": self.constant_speed}
        return digest([domains, arrays, *(way for way, chosen in ways.items() if chosen)])

    def save(self, path: str | Path) -> None:
        """Write the stream to a file that :meth:`load` and the protocol ``replay`` read (NumPy's npz)."""
        arrays = {name: getattr(self, name) for name in (*_DTYPES, *(() if self.round is None else _ROUND))}
        names = np.array([domain.name for domain in self.domains], dtype=np.str_)
        severities = np.array([domain.severity for domain in self.domains], dtype=np.int8)
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            arrays |= {"names": names, "severities": severities, "collapse": np.array(self.reset_on_collapse)}
            if self.constant_speed:
                arrays["constant_speed"] = np.array(True)
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Stream:
        """Read what :meth:`save` wrote. Raises RequestError if the file is missing, damaged or something else."""
        if not Path(path).is_file():
            raise RequestError(f"no stream file {path}: expected one that Stream.save wrote")
        try:
            parts = read_arrays(Path(path))
            arrays = {name: parts[name] for name in (*_DTYPES, *(name for name in _ROUND if name in parts))}
            shown = zip(parts["names"].tolist(), parts["severities"].tolist(), strict=True)
            collapse = bool(parts["collapse"])
            domains = tuple(Domain(name, severity) for name, severity in shown)
            constant_speed = "constant_speed" in parts and bool(parts["constant_speed"])
            return cls(domains, **arrays, reset_on_collapse=collapse, constant_speed=constant_speed)
        except _DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RequestError(f"{path} is not a stream that Stream.save wrote: {reason}") from error


def batch_starts(length: int, batch_size: int) -> NDArray[np.int64]:
    """Positions at which batches of ``batch_size`` begin in a stream of ``length`` images."""
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size}: expected at least 1")
    return np.arange(0, length, batch_size, dtype=np.int64)


def round_of(position: NDArray[np.integer[Any]], length: int, rounds: int) -> NDArray[np.int64]:
    """Round, from 0, in which each position of a stream of ``length`` images in ``rounds`` equal rounds lies.

    For a trial, ``length`` is the column ``images`` and ``rounds`` the column ``stream.rounds`` of its row, and
    ``position`` the column of its records.
    """
    if rounds < 1 or length < 1 or length % rounds:
        raise ValueError(f"{length} images in {rounds} rounds: expected equal rounds of at least one image")
    return np.asarray(position, dtype=np.int64) // (length // rounds)
