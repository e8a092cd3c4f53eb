"""What a run keeps of why its quantized networks break: a table per network, ``diagnosis/MODEL-KEY.parquet``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite import checksums
from evalsuite.errors import RequestError
from evalsuite.store import DAMAGE

FOLDER = "diagnosis"
CALIBRATION = "calibration"
"""What the ``domain`` of calibration images is called; their ``severity`` is null, which no domain's is."""
_TRIALS = b"evalsuite.trials"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The diagnosis of one quantized network.

    Attributes
    ----------
    trials : identities of trials of this network.
    table : the columns of :func:`evalsuite.quantization.diagnosis.diagnose` for each ``domain`` and ``severity``, the
        calibration images first, with ``images``, how many were looked at, and ``place``, of the layer in order of
        execution.
    """

    trials: tuple[str, ...]
    table: pd.DataFrame


def write_diagnosis(folder: Path, model: str, key: str, diagnosis: Diagnosis) -> None:
    """Write the diagnosis of a network, by its hash; ``key``: hash of what was looked at. Others of it are removed."""
    file = _file(folder, model, key)
    table = pa.Table.from_pandas(diagnosis.table, preserve_index=False)
    facts = {_TRIALS: json.dumps(diagnosis.trials).encode(), checksums.KEY.encode(): checksums.BLANK.encode()}
    with checksums.sealing(file) as temporary:
        pq.write_table(table.replace_schema_metadata(facts), temporary, compression="zstd")
    for other in _files(folder):
        if other != file and other.stem.partition("-")[0] == model:
            other.unlink(missing_ok=True)


def is_diagnosed(folder: Path, model: str, key: str) -> bool:
    """Whether a network's diagnosis is there; a damaged file, which is told of, is not."""
    file = _file(folder, model, key)
    try:
        _read(file)
    except FileNotFoundError:
        return False
    except DAMAGE as error:
        checksums.warn_of(file, error, "its network is diagnosed again")
        return False
    return True


def read_diagnoses(folder: Path) -> Iterator[Diagnosis]:
    """Yield the diagnoses that a run holds. Raises RequestError if a file is broken."""
    for file in _files(folder):
        try:
            yield _read(file)
        except DAMAGE as error:
            raise RequestError(f"{file} is not a whole diagnosis ({error}); run again to make it anew") from error


def merge_diagnoses(out: Path, folders: Sequence[Path]) -> None:
    """Copy the diagnoses of several runs into a new one; of equal ones, any."""
    for folder in folders:
        for file in _files(folder):
            (out / FOLDER).mkdir(exist_ok=True)
            (out / FOLDER / file.name).write_bytes(file.read_bytes())


def _file(folder: Path, model: str, key: str) -> Path:
    return folder / FOLDER / f"{model}-{key}.parquet"


def _files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("[!.]*.parquet"))


def _read(file: Path) -> Diagnosis:
    table = pq.read_table(checksums.verified(file, lambda _: True))
    trials = json.loads((table.schema.metadata or {})[_TRIALS])
    return Diagnosis(tuple(trials), table.replace_schema_metadata(None).to_pandas())
