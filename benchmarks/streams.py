"""What a stream of a million images costs: seconds to plan, hash, save and load it, and memory to walk through it.

python benchmarks/streams.py
"""

import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.corruptions import COMMON, HELD_OUT
from evalsuite.streams import Stream
from protocols.continual import ContinualOrder

REPEATS = 5
CLASSES = 1000
TEST_IMAGES = 50_000
DOMAINS: dict[str, Any] = {"corruptions": ("clean", *COMMON, *HELD_OUT)}  # 20 of them
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": DOMAINS,
    "random order, reset every 10 batches": DOMAINS | {"order": "random", "reset": 10},
    "mixed, batches of 1": DOMAINS | {"mixed": True, "batch_size": 1},
    "gradual, 4 rounds": {"corruptions": COMMON[:5], "gradual": True, "rounds": 4, "images": 5556},
    "sorted": DOMAINS | {"label_order": "sorted"},
    "Dirichlet 0.1": DOMAINS | {"label_order": "dirichlet"},
    "mixed, Dirichlet 0.1, 100 bursts": DOMAINS | {"mixed": True, "label_order": "dirichlet", "bursts": 100},
    "long tail 10, 10 bursts, oracle, 3 rounds": DOMAINS
    | {"imbalance": 10.0, "images": 16_667, "rounds": 3, "bursts": 10, "burst_length": 8, "reset": "domain"},
}


def median_seconds(action: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def resident() -> int:
    """Bytes of memory the process has at the moment (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def walk(stream: Stream) -> int:
    """Go through a stream and return the largest growth of resident memory seen on the way."""
    before, most = resident(), 0
    for number, batch in enumerate(stream.batches()):
        if number % 1000 == 0:
            most = max(most, resident() - before)
        assert len(batch.image) == len(batch.domain)
    return most


def main() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(TEST_IMAGES) % CLASSES)
    print(f"{CLASSES} classes, {TEST_IMAGES:,} test images, median of {REPEATS}:")
    for name, options in OPTIONS.items():
        protocol = ContinualOrder(**{"images": TEST_IMAGES} | options)
        stream = protocol.plan(labels, np.random.default_rng(0))
        seconds = median_seconds(lambda protocol=protocol: protocol.plan(labels, np.random.default_rng(0)))
        print(f"{len(stream):9,} images, plan {seconds:.3f} s: {name}")
    stream = ContinualOrder(images=TEST_IMAGES, batch_size=1, **DOMAINS).plan(labels, np.random.default_rng(0))
    print(f"of the stream of {len(stream):,} images in batches of 1:")
    print(f"digest {median_seconds(stream.digest):.3f} s, walk {median_seconds(lambda: walk(stream)):.3f} s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stream.npz"
        seconds = median_seconds(lambda: stream.save(file)), median_seconds(lambda: Stream.load(file))
        print(f"save {seconds[0]:.3f} s, load {seconds[1]:.3f} s, {file.stat().st_size / 2**20:.1f} MiB on disk")
    grown = walk(stream)
    tracemalloc.start()
    walk(stream)
    peak = tracemalloc.get_traced_memory()[1]
    print(f"memory while walking: resident +{grown / 2**20:.1f} MiB, Python objects at most {peak / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
