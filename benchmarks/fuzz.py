"""Damaged and hostile files: flipped bits of a run, mutated study files, mutated binary files, all from a fixed seed.

``--minutes N`` draws files of :mod:`foreign_files` by hypothesis instead, and prints what each that fails holds.

Bars: each flip is noticed or without effect; no mutated file ends in anything but its content or a refusal of one
line, none takes 30 s of a processor, none takes a gigabyte of memory.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import torch
from foreign_files import FILES, damage_is_an_error
from foreign_files import attempt as attempt_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report import Figure, main
from safetensors.torch import load_file

from evalsuite import checksums, quantize, registry, store
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.plugins import PoolOutputs
from evalsuite.quantization import saving
from evalsuite.running.pool_outputs import kept
from evalsuite.streams import Domain, Stream
from evalsuite.study.cost import cost_of
from evalsuite.study.file import parse, read
from evalsuite.study.settings import Study
from evalsuite.tasks._files import load_array, load_checkpoint, load_labels
from reports.figures.examples import Examples

FLIPS, STUDIES, BINARIES = 300, 1200, 2000
SLOWEST, LONGEST, MEMORY = 30.0, 2000, 2**30  # seconds of a processor, characters, bytes

Reader = Callable[[Path], Any]
Counts = collections.Counter[str]

SMALL = """
name = "small"
tasks = ["digits/resnet"]
seeds = [0, 1]
source_images = 64
[gate]
points = 1.0
images = 100
[analysis]
permutations = 100
bootstrap = 100
[[calibration]]
protocol = "calibration"
size = 32
[[quantizer]]
method = "full_precision"
[[quantizer]]
method = "rtn"
range = ["mse", "minmax"]
bits = ["W8A8", "W4A4"]
fold_norm = false
[[adapter]]
method = ["none", "bn_adapt", "tent"]
[[stream]]
protocol = "continual"
corruptions = ["gaussian_noise", "fog", "jpeg_compression"]
severity = 5
images = 100
batch_size = 50
[[exclude]]
bits = "W8A8"
adapter = "tent"
"""

ODD = (
    *("inf", "-inf", "nan", "1e999", "-1", "0", "9" * 30, "9" * 5000, "0x" + "f" * 4000, "2020-01-01", "07:32:00"),
    *("true", "[]", "{}", "[" * 30 + "]" * 30, "[" * 1500 + "]" * 1500, '""', '"../../x"', '"\\u0000"', '"\\u202e"'),
    *('"os:system"', '"x.py:Y"', '"' + "a" * 3000 + '"', "[1, 'a', [2.5]]", "{a = {b = [1]}}", "2.5", '"=1+1"'),
    *(str(list(range(1, 3000))), str([0.5] * 400), "0.1", "1e-320", "18446744073709551616"),
)


def mutated_text(text: str, generator: np.random.Generator) -> bytes:
    """Return a study file with one or two of its values, lines or bytes changed."""
    lines = text.strip().splitlines()
    for _ in range(generator.integers(1, 3)):
        at, kind = int(generator.integers(len(lines))), generator.integers(6)
        if kind <= 2 and "=" in lines[at]:
            lines[at] = lines[at].partition("=")[0] + "= " + ODD[generator.integers(len(ODD))]
        elif kind == 3:
            lines.insert(at, lines[generator.integers(len(lines))])
        elif kind == 4 and len(lines) > 1:
            del lines[at]
        else:
            line = bytearray(lines[at].encode() or b" ")
            line[generator.integers(len(line))] = generator.integers(256)
            lines[at] = line.decode("latin-1")
    content = "\n".join(lines)
    return content.encode("latin-1" if generator.integers(4) == 0 else "utf-8", "replace")


def mutated_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with bits flipped, an end or a middle missing, bytes repeated, zeroed or made large."""
    out = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        # Headers decide more than data, so half of the changes are near either end.
        size = max(1, len(out))
        near = int(generator.integers(min(size, 400)))
        at = [int(generator.integers(size)), near, size - 1 - near][generator.choice(3, p=[0.5, 0.3, 0.2])]
        length, kind = int(generator.integers(1, 64)), generator.integers(6)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif kind == 2:
            out[at : at + 8] = b"\xff" * len(out[at : at + 8])
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif out:
            out[min(at, len(out) - 1)] ^= 1 << int(generator.integers(8))
    return bytes(out)


def comparable(value: Any) -> Any:
    """Return what two readings of the same content have in common, exactly."""
    if isinstance(value, pd.DataFrame):
        return value.to_csv()
    if isinstance(value, dict):
        return {key: comparable(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [comparable(part) for part in value]
    array = value.numpy() if isinstance(value, torch.Tensor) else value
    return (str(array.dtype), array.shape, array.tobytes()) if isinstance(array, np.ndarray) else repr(array)


def run_readers(folder: Path) -> dict[str, Reader]:
    """Return, by pattern within a run's folder, how the files there are read back."""

    def record(file: Path) -> Any:
        return store.read_rows(folder)[file.stem], store.Run(folder).records_of(file.stem).to_pandas()

    return {
        "records/*.parquet": record,
        "trials.parquet": lambda file: store.Run(folder).trials,
        "study.json": lambda file: store.Run(folder).study,
        "examples.npz": lambda file: Examples().data(store.Run(folder)),
        ".work/models/*.safetensors": lambda file: (saving.read_facts(file), load_file(file)),
        ".work/images/*.npy": _cached,
        ".work/outputs/*.npz": lambda file: vars(kept(file, _POOL, _none)),
    }


_POOL = 20


def _cached(file: Path) -> Any:
    checksums.verify_once(file)
    return np.array(np.load(file, mmap_mode="r"))


def _none() -> PoolOutputs:
    raise RequestError("noticed: it would be made again")


def flips(folder: Path, count: int, generator: np.random.Generator) -> Counts:
    """Flip one bit at a time in the files of a run; count what was noticed, without effect, and believed.

    Kinds of file are drawn alike, then a file, then a bit.
    """
    kinds = [(sorted(folder.glob(pattern)), reader) for pattern, reader in run_readers(folder).items()]
    kinds = [(files, reader) for files, reader in kinds if files]
    counts: Counts = collections.Counter(kinds=len(kinds))
    for _ in range(count):
        files, reader = kinds[generator.integers(len(kinds))]
        file = files[generator.integers(len(files))]
        content, before = file.read_bytes(), comparable(reader(file))
        place = int(generator.integers(len(content)))
        changed = bytes([content[place] ^ 1 << int(generator.integers(8))])
        file.write_bytes(content[:place] + changed + content[place + 1 :])
        try:
            outcome = "without effect" if comparable(reader(file)) == before else f"believed: {file.name}"
        except (RequestError, DamageWarning, checksums.Damaged, KeyError):
            outcome = "noticed"
        counts[outcome] += 1
        file.write_bytes(content)
    return counts


def attempt(action: Callable[[], Any], counts: Counts) -> None:
    """Count how an action ends: done, refused, or in a way that it should not."""
    start = time.process_time()
    try:
        action()
        outcome = "done"
    except (RequestError, DamageWarning, checksums.Damaged) as error:
        outcome = "refused" if len(str(error)) < LONGEST else "refused at length"
    except Exception as error:  # what is looked for
        outcome = f"traceback: {type(error).__name__}: {str(error)[:200]}"
    if time.process_time() - start > SLOWEST:
        outcome = "late"
    counts[outcome] += 1


def studies(folder: Path, count: int, generator: np.random.Generator) -> Counts:
    """Read mutated study files, and count their trials."""
    texts = [SMALL, SMALL, *(Path(registry.load("studies", name)).read_text() for name in registry.names("studies"))]
    counts: Counts = collections.Counter()
    file = folder / "study.toml"
    for _ in range(count):
        file.write_bytes(mutated_text(texts[generator.integers(len(texts))], generator))
        attempt(lambda: cost_of(read(file)), counts)
    return counts


def corpus(folder: Path) -> dict[Path, Reader]:
    """Write a small file of every binary kind that is read, and return how."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[Path, Reader] = {}
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
    images = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    files[folder / "images.npy"] = lambda file: load_array(file, (None, 4, 4, 3), "images")
    np.save(folder / "images.npy", np.zeros((5, 4, 4, 3), np.uint8))
    files[folder / "labels.npy"] = lambda file: load_labels(file, 5, 3)
    np.save(folder / "labels.npy", np.arange(5) % 3)
    for name, options in (("zip.pt", {}), ("legacy.pt", {"_use_new_zipfile_serialization": False})):
        torch.save({"state_dict": model.state_dict()}, folder / name, **options)
        files[folder / name] = load_checkpoint
    saving.save(quantize(model, images, method="rtn"), folder / "model.safetensors")
    files[folder / "model.safetensors"] = lambda file: saving.load(file, model, images[:1])
    stream = np.arange(10)
    Stream((Domain("fog", 3),), stream.astype(np.int32), np.zeros(10, np.int16), stream[:1], np.array([False])).save(
        folder / "stream.npz"
    )
    files[folder / "stream.npz"] = Stream.load
    kept(folder / "outputs.npz", 4, lambda: PoolOutputs(np.ones((4, 3), np.float32), np.ones((4, 5), np.float32)))
    files[folder / "outputs.npz"] = lambda file: kept(file, 4, _none)
    return files | _run_of_one_trial(folder / "run")


def _run_of_one_trial(folder: Path) -> dict[Path, Reader]:
    names = {"image": np.int32, "position": np.int32, "severity": np.int8, "label": np.int32, "prediction": np.int32}
    names |= dict.fromkeys(("confidence", "loss", "brier"), np.float32)
    columns = {name: np.ones(6, kind) for name, kind in names.items()}
    encoded = store.pa.array(["fog"] * 6).dictionary_encode()
    row = {"trial": "a", "status": "done", "reason": ""}
    store.write_trial(folder, row, {**columns, "domain": encoded, "family": encoded})
    store.write_trials(folder, [row])
    study: dict[str, Any] = dict.fromkeys(store.STUDY_KEYS, "") | {"trials": 1, "seeds": [0], "notes": []}
    study |= {name: {} for name in ("settings", "analysis", "tasks", "versions", "hardware")}
    store.write_study(folder, study)
    with checksums.sealing(folder / "examples.npz") as temporary:
        np.savez_compressed(temporary, images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.array(["a", "b"]))
        checksums.append_blank(temporary)
    readers = run_readers(folder)
    return {file: reader for pattern, reader in readers.items() for file in sorted(folder.glob(pattern))}


def binaries(folder: Path, count: int, generator: np.random.Generator) -> Counts:
    """Read mutated binary files, half of them with a checksum that fits what they became."""
    counts: Counts = collections.Counter()
    files = list(corpus(folder).items())
    for number in range(count):
        file, reader = files[number % len(files)]
        content = file.read_bytes()
        blank = content
        if number // len(files) % 2:
            blank = _unsealed(content)
        file.write_bytes(mutated_bytes(blank, generator))
        if blank is not content:
            _seal_if_possible(file)
        attempt(lambda reader=reader, file=file: reader(file), counts)  # type: ignore[misc]
        file.write_bytes(content)
    return counts


def _unsealed(content: bytes) -> bytes:
    mark = checksums.BLANK[:-8].encode()
    place = content.rfind(mark)
    return content if place < 0 else content[: place + len(mark)] + b"0" * 8 + content[place + len(mark) + 8 :]


def _seal_if_possible(file: Path) -> None:
    try:
        checksums.seal(file)
    except ValueError:  # the mark itself was hit
        return


def small_study() -> Study:
    """Return a study of three networks and two corrupted domains that runs in seconds."""
    raw = tomllib.loads(SMALL) | {"seeds": [0]}
    raw["stream"][0] |= {"images": 20, "batch_size": 10, "corruptions": ["fog"]}
    raw["quantizer"][1] |= {"range": "minmax"}
    return parse(raw)


def small_run(folder: Path) -> None:
    """Make a run with every kind of file in it."""
    from evalsuite.running.harness import execute
    from evalsuite.running.workspace import Workspace

    with torch.random.fork_rng():
        execute(small_study(), folder)
    ones = np.ones((_POOL, 3), np.float32)
    kept(Workspace(folder).outputs_file("made"), _POOL, lambda: PoolOutputs(ones, ones))


def drawn(folder: Path, minutes: float, seed: int) -> Counts:
    """Read files that hypothesis draws, kinds in turn, until the time is up; count what should not happen."""
    counts: Counts = collections.Counter()
    end, place = time.monotonic() + 60 * minutes, iter(range(10**9))

    def examine(name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            wrong = list(attempt_file(name, content, Path(own) / "in" / "it"))
        for line in wrong:
            kind = line.partition(": ")[0] + ": " + line.partition(": ")[2][:120]
            if kind not in counts:
                (folder / f"found-{next(place)}").write_bytes(content)
                print(line, content[:600], sep="\n    ", file=sys.stderr, flush=True)
            counts[kind] += 1
        counts["done" if not wrong else "wrong"] += 1

    def look(name: str, strategy: st.SearchStrategy[bytes]) -> None:
        @hypothesis.seed(seed)
        @settings(max_examples=100, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def each(content: bytes) -> None:
            examine(name, content)

        each()

    while time.monotonic() < end:
        for name, (strategy, _) in FILES.items():
            if time.monotonic() < end:
                look(name, strategy)
        seed += 1
    return counts


def measure(data_root: str | None, minutes: float = 0.0, seed: int = 0) -> list[Figure]:
    """Return how often what should not happen happened; with ``minutes`` in files that hypothesis draws for so long."""
    if minutes:
        with tempfile.TemporaryDirectory() as name, damage_is_an_error():
            found = drawn(Path(name), minutes, seed)
        return [Figure(f"of {found['done'] + found['wrong']} drawn files end badly", found["wrong"], at_most=0)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, damage_is_an_error():
        folder = Path(name)
        small_run(folder / "run")
        before = _peak()
        parts: list[tuple[str, Callable[[], Counts]]] = [
            ("flips", lambda: flips(folder / "run", FLIPS, np.random.default_rng(0))),
            ("study files", lambda: studies(folder, STUDIES, np.random.default_rng(1))),
            ("binary files", lambda: binaries(folder / "corpus", BINARIES, np.random.default_rng(2))),
        ]
        for what, make in parts:
            found = make()
            print(what, *(f"{number} {outcome}" for outcome, number in found.items()), sep="\n  ", file=sys.stderr)
            good = sum(found[key] for key in ("noticed", "without effect", "done", "refused"))
            wrong = sum(found.values()) - good - found["kinds"]
            figures.append(
                Figure(f"{what} of {good + wrong} that are believed, late or end in a traceback", wrong, at_most=0)
            )
        figures.append(Figure("memory beyond a run's", (_peak() - before) / 2**30, "GiB", at_most=MEMORY / 2**30))
    return figures


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def options(parser: argparse.ArgumentParser) -> None:
    """Add the script's options."""
    parser.add_argument("--minutes", type=float, default=0.0, help="draw files by hypothesis for so long")
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    main(measure, __doc__, options)
