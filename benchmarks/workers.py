"""Two workers against one on the trials of `quick`, each with one thread, in pairs; and what the harness adds to them.

python benchmarks/workers.py [--images 30] [--pairs 5] [--data-root DIR]

What the harness adds is a run's wall time less what its trials say that they took (quantizing, adaptation's steps with
the passes in them), so it holds the start of Python, the plan, images made, adapters prepared, records and tables too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Figure, main, note

from evalsuite import store

RUN = """
import sys, evalsuite
out, workers, images, root = sys.argv[1:]
cut = [f"stream.images={images}"] if int(images) else []
evalsuite.run("quick", out, int(workers), overrides=cut, device="cpu", data_root=root or None)
"""


def measure(data_root: str | None, images: int = 30, pairs: int = 5) -> list[Figure]:
    times: list[tuple[float, float]] = []
    shares = []
    with tempfile.TemporaryDirectory() as name:
        for pair in range(pairs):
            one, two = (_seconds(Path(name) / f"{pair}-{workers}", workers, images, data_root) for workers in (1, 2))
            times.append((one, two))
            shares.append(1 - _worked(Path(name) / f"{pair}-1") / one)
            note(f"pair {pair + 1}: {one:.1f} s, {two:.1f} s, ratio {one / two:.2f}, harness {shares[-1]:.1%}")
    ratio = statistics.median(one / two for one, two in times)
    return [
        Figure("quick, one worker", statistics.median(one for one, _ in times), "s"),
        Figure("quick, two workers", statistics.median(two for _, two in times), "s"),
        Figure(f"  one / two, median of {pairs} pairs", ratio, at_least=1.8),
        Figure("what the harness adds to one worker's trials", 100 * statistics.median(shares), "%", 5.0),
    ]


def _seconds(out: Path, workers: int, images: int, root: str | None) -> float:
    command = [sys.executable, "-c", RUN, str(out), str(workers), str(images), root or ""]
    begun = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    return time.perf_counter() - begun


def _worked(out: Path) -> float:
    """Return the seconds that a run's trials say that they took, each quantized network once."""
    trials = store.load(out).trials
    quantized = trials.drop_duplicates(["task", "quantizer_label", "calibration_label", "bits", "seed"])
    return float(trials["adapt_seconds"].sum() + quantized["quantize_seconds"].sum())


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=30, help="of each domain; 0: as many as the study says")
    parser.add_argument("--pairs", type=int, default=5)


if __name__ == "__main__":
    main(measure, __doc__, _options)
