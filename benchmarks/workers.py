"""Two workers against one on the trials of `quick`, each with one thread, in pairs; and what the harness adds to them.

python benchmarks/workers.py [--images 30] [--pairs 5] [--data-root DIR]

What the harness adds is the wall time of a run of the whole study in one process, less what methods and networks take
in it: quantizing, adapters' preparation, their steps and the passes in them. It holds the start of Python, the plan,
the gate, images made, networks copied and loaded, records and tables.
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

RUN = """
import sys, evalsuite
out, workers, images, root = sys.argv[1:]
cut = [f"stream.images={images}"] if int(images) else []
evalsuite.run("quick", out, int(workers), overrides=cut, device="cpu", data_root=root or None)
"""
WHOLE = """
import sys, time
begun, spent = time.perf_counter(), [0.0]
import evalsuite
from evalsuite import registry, store

def timed(prepare):
    def call(*given):
        start = time.perf_counter()
        try:
            return prepare(*given)
        finally:
            spent[0] += time.perf_counter() - start
    return call

for name in ("bn_adapt", "tent", "zoa"):
    adapter = registry.load("adapters", name)
    adapter.prepare = timed(adapter.prepare)
evalsuite.run("quick", sys.argv[1], device="cpu", data_root=sys.argv[2] or None, in_process=True)
wall = time.perf_counter() - begun
trials = store.load(sys.argv[1]).trials
quantized = trials.drop_duplicates(["task", "quantizer_label", "calibration_label", "bits", "seed"])
spent[0] += trials["adapt_seconds"].sum() + quantized["quantize_seconds"].sum()
print(wall, spent[0])
"""


def measure(data_root: str | None, images: int = 30, pairs: int = 5) -> list[Figure]:
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        for pair in range(pairs):
            one, two = (_seconds(Path(name) / f"{pair}-{workers}", workers, images, data_root) for workers in (1, 2))
            times.append((one, two))
            note(f"pair {pair + 1}: {one:.1f} s, {two:.1f} s, ratio {one / two:.2f}")
        wall, spent = _whole(Path(name) / "whole", data_root)
    share = Figure("what the harness adds to quick", 100 * (wall / spent - 1), "%", 5.0, note=f"of {wall:.0f} s")
    if not times:
        return [share]
    ratio = statistics.median(one / two for one, two in times)
    return [
        Figure("quick, one worker", statistics.median(one for one, _ in times), "s"),
        Figure("quick, two workers", statistics.median(two for _, two in times), "s"),
        Figure(f"  one / two, median of {pairs} pairs", ratio, at_least=1.8),
        share,
    ]


def _seconds(out: Path, workers: int, images: int, root: str | None) -> float:
    command = [sys.executable, "-c", RUN, str(out), str(workers), str(images), root or ""]
    begun = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    return time.perf_counter() - begun


def _whole(out: Path, root: str | None) -> tuple[float, float]:
    """Return the seconds of a run in one process, and of them what methods and networks took."""
    command = [sys.executable, "-c", WHOLE, str(out), root or ""]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    wall, spent = map(float, done.stdout.split()[-2:])
    return wall, spent


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=30, help="of each domain; 0: as many as the study says")
    parser.add_argument("--pairs", type=int, default=5)


if __name__ == "__main__":
    main(measure, __doc__, options)
