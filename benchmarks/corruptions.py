"""What corrupting an image costs: the fast engine, the reference engine, and two worker processes against one.

python benchmarks/corruptions.py [--data-root DIR]

All at severity 3 on one core unless stated; medians of interleaved runs. Wall time means something on an idle machine
only; processor time, printed beside the totals, is a fair guess on a busy one.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from evalsuite.corruptions import COMMON, corrupt

RUNS = 5
PARTS = 8
SEVERITY = 3
ORIGINAL_32 = 24.0  # ms an image by the original generator of CIFAR-10-C, as the specification states it


def milliseconds(images: np.ndarray, name: str, engine: str = "fast") -> tuple[float, float]:
    """Wall and processor time an image."""
    wall, processor = time.perf_counter(), time.process_time()
    corrupt(images, name, SEVERITY, engine=engine)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return 1000 * wall / len(images), 1000 * processor / len(images)


_shown: np.ndarray


def hold(images: np.ndarray) -> None:
    """Give a worker its images, which in a run it reads itself."""
    global _shown
    _shown = images
    cv2.setNumThreads(1)


def work(part: int) -> None:
    for name in COMMON:
        corrupt(_shown[part * len(_shown) // PARTS : (part + 1) * len(_shown) // PARTS], name, SEVERITY)


def throughput(images: np.ndarray, workers: int) -> float:
    """Seconds in which so many processes, warm, put all 15 corruptions on the images, part by part."""
    with ProcessPoolExecutor(workers, initializer=hold, initargs=(images,)) as pool:
        list(pool.map(work, range(PARTS)))
        start = time.perf_counter()
        list(pool.map(work, range(PARTS)))
        return time.perf_counter() - start


def compare(images: np.ndarray, slow: np.ndarray | None) -> None:
    """Print the cost of each corruption, and of the reference engine on the images ``slow``."""
    fast: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMON}
    reference: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMON}
    for name in COMMON:
        milliseconds(images, name)
    for run in range(RUNS):
        for name in COMMON:
            fast[name].append(milliseconds(images, name))
            if slow is not None and (run == 0 or name != "glass_blur"):  # glass blur takes seconds an image
                reference[name].append(milliseconds(slow, name, "reference"))
    own = {name: np.median(fast[name], axis=0) for name in COMMON}
    total, processor = sum(own.values())
    other = {name: np.median(reference[name], axis=0) for name in COMMON} if slow is not None else {}
    for name in COMMON:
        print(f"  {name:18} {own[name][0]:7.3f}" + (f"  reference {other[name][0]:9.3f}" if other else ""))
    print(f"  all 15             {total:7.3f} ms an image ({processor:.3f} ms of processor time)")
    if other:
        original = sum(other.values())
        print(f"  reference, all 15: {original[0]:.0f} ms, ratio {original[0] / total:.0f}")
    else:
        print(f"  the original generator: {ORIGINAL_32:.0f} ms, ratio {ORIGINAL_32 / total:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA", "../shared/data"))
    root = Path(parser.parse_args().data_root)
    cv2.setNumThreads(1)
    large = np.load(root / "corruptions" / "imagenet_25.npz")["images"]
    small = np.load(root / "cifar10_test_images.npy", mmap_mode="r")[:1000]
    print(f"224 pixels, {len(large)} images (reference: 1), ms an image:")
    compare(large, large[:1])
    print(f"32 pixels, {len(small)} images, ms an image:")
    compare(small, None)
    for images, size in ((np.concatenate([large] * 8), 224), (np.concatenate([small] * 4), 32)):
        times = [(throughput(images, 1), throughput(images, 2)) for _ in range(RUNS)]
        ratio = statistics.median(one / two for one, two in times)
        print(f"{size} pixels, {len(images)} images: two worker processes are {ratio:.2f} times as fast as one")


if __name__ == "__main__":
    main()
