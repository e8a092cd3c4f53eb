"""Flipped bits in a finished run, and what becomes of its numbers when the same command is run again.

One bit at a time, in records, quantized models, corrupted images, ``trials.parquet``, ``study.json`` and the kept
example images. A model or an image is read only where something is left to do, so that the records which need it, and
some other, are removed with it. After each flip the study is run again on the folder and analysed. Bars: no flip
changes a number of the analysis or a record, none ends in a traceback; each is noticed (a line says so, and the file is
made again or refused) or without effect.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from fuzz import small_study
from report import Figure, main, note
from rich.console import Console

from evalsuite import store
from evalsuite.analysis import analyse
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running.harness import execute
from evalsuite.running.plan import task_digest
from evalsuite.study.settings import Study
from evalsuite.study.trials import expand

FLIPS = 300
KINDS = {
    "records": "records/*.parquet",
    "models": ".work/models/*.safetensors",
    "images": ".work/images/*.npy",
    "trials": "trials.parquet",
    "study": "study.json",
    "examples": "examples.npz",
}
GOOD = ("noticed", "without effect")
_COSTS = ("seconds", "peak_bytes")  # of the machine, other ones every time
_QUIET = Console(quiet=True)

Counts = collections.Counter[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """A finished run: its study, the folder that holds it, and its numbers."""

    study: Study
    folder: Path
    numbers: dict[str, str]

    @classmethod
    def of(cls, study: Study, folder: Path) -> Undisturbed:
        """Run a study."""
        _run(study, folder)
        return cls(study, folder, numbers(folder))


def _run(study: Study, folder: Path) -> None:
    with torch.random.fork_rng():
        execute(study, folder, in_process=True, device="cpu", console=_QUIET)


def numbers(folder: Path) -> dict[str, str]:
    """Return all that a report says of a run as text: analysis, trials and records, without what time they took."""
    run = store.load(folder)
    found = analyse(run)
    frames = {name: getattr(found, name) for name in ("summary", "comparisons", "rankings")}
    frames |= {**found.estimates, "trials": run.trials, "records": run.records}
    known = {name: frame.loc[:, [not _is_cost(str(c)) for c in frame]].to_csv() for name, frame in frames.items()}
    gate = store.read_study(folder)["gate"]
    return known | {"gate": repr(gate), "classes": repr(run.study["tasks"])}


def _is_cost(column: str) -> bool:
    return any(part in column for part in _COSTS)


def flip(file: Path, generator: np.random.Generator) -> None:
    """Flip a random bit of a file."""
    content = bytearray(file.read_bytes())
    content[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
    file.write_bytes(content)


def disturbed(quiet: Undisturbed, kind: str, folder: Path, generator: np.random.Generator) -> str:
    """Flip a bit in a copy of a run, run it again, and say what came of it."""
    shutil.copytree(quiet.folder, folder)
    files = sorted(folder.glob(KINDS[kind]))
    chosen = files[generator.integers(len(files))]
    flip(chosen, generator)
    if kind in ("models", "images"):
        for record in _to_do(quiet, chosen):
            store.record_file(folder, record).unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _run(quiet.study, folder)
        except RequestError:
            return "noticed"  # refused, in a line that names it
        except Exception as error:  # what is looked for
            note(traceback.format_exc())
            return f"a traceback: {type(error).__name__}"
        said = any(issubclass(warning.category, DamageWarning) for warning in caught)
        after = numbers(folder)
    changed = [name for name, value in quiet.numbers.items() if after[name] != value]
    if changed:
        return f"changed {', '.join(changed)}"
    return "noticed" if said else "without effect"


def _to_do(quiet: Undisturbed, file: Path) -> list[str]:
    """Return trials that are to be done again so that a file is read: a model's, or for images one that adapts."""
    facts = store.read_study(quiet.folder)["tasks"]
    digests = {task: task_digest(facts[task.name]) for task in quiet.study.tasks}
    trials = expand(quiet.study, digests)
    return [trial.identity for trial in trials if trial.quantization == file.stem] or [trials[-1].identity]


def flips(quiet: Undisturbed, count: int, generator: np.random.Generator, where: Path) -> Counts:
    """Flip ``count`` bits one after the other, kinds of files in turn; count what came of it."""
    counts: Counts = collections.Counter()
    kinds = [kind for kind, pattern in KINDS.items() if any(quiet.folder.glob(pattern))]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        with tempfile.TemporaryDirectory(dir=where) as name:
            outcome = disturbed(quiet, kind, Path(name) / "run", generator)
        note(f"{kind}: {outcome}")
        counts[kind, outcome] += 1
    return counts


def measure(data_root: str | None, flips_: int = FLIPS, seed: int = 0) -> list[Figure]:
    """Return how many flips of each kind were believed."""
    with tempfile.TemporaryDirectory() as name:
        quiet = Undisturbed.of(small_study(), Path(name) / "quiet")
        found = flips(quiet, flips_, np.random.default_rng(seed), Path(name))
    figures = []
    for kind in dict.fromkeys(kind for kind, _ in found):
        own = {outcome: number for (of, outcome), number in found.items() if of == kind}
        wrong = sum(number for outcome, number in own.items() if outcome not in GOOD)
        said = ", ".join(f"{number} {outcome}" for outcome, number in own.items())
        figures.append(Figure(f"flips of {kind} that change a number or end badly", wrong, at_most=0, note=said))
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    """Add the script's options."""
    parser.add_argument("--flips", dest="flips_", type=int, default=FLIPS)
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    main(measure, __doc__, options)
