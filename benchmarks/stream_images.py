"""What fetching mixed batches costs: an index a domain against a look-up an image, medians of paired runs.

python benchmarks/stream_images.py [--images N]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evalsuite.environment import peak_memory
from evalsuite.plugins import UInt8Array
from evalsuite.running.domain_images import OpenImages, StreamImages

PAIRS = 15
DOMAINS = 15
BATCH = 64
BATCHES = 40


def opened(folder: Path, count: int) -> StreamImages:
    """Write the images of each domain to a file and map it; half of the test images, so that rows are looked up."""
    generator = np.random.default_rng(0)
    indices = np.arange(0, 2 * count, 2)
    images = []
    for domain in range(DOMAINS):
        out = np.lib.format.open_memmap(folder / f"{domain}.npy", mode="w+", dtype=np.uint8, shape=(count, 32, 32, 3))
        for start in range(0, count, 1000):
            out[start : start + 1000] = generator.integers(0, 256, out[start : start + 1000].shape, dtype=np.uint8)
        del out
        images.append(OpenImages(np.load(folder / f"{domain}.npy", mmap_mode="r"), indices))
    shown = object.__new__(StreamImages)
    shown.images = images
    return shown


def one_by_one(shown: StreamImages, image: np.ndarray, domain: np.ndarray) -> UInt8Array:
    """Look every image up by itself."""
    rows = []
    for i, d in zip(image, domain, strict=True):
        own = shown.images[d]
        rows.append(own.pixels[np.searchsorted(own.indices, i)])
    return np.stack(rows)


def seconds(fetch: Callable[..., UInt8Array], batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    start = time.perf_counter()
    for image, domain in batches:
        fetch(image, domain)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="test images a domain")
    count = parser.parse_args().images
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        shown = opened(Path(folder), count)
        for kind, domains in (("of one domain", 1), (f"of {DOMAINS} domains", DOMAINS)):
            batches = [
                (2 * generator.integers(0, count, BATCH), generator.integers(0, domains, BATCH)) for _ in range(BATCHES)
            ]
            seconds(shown.fetch, batches)
            pairs = [
                (seconds(lambda i, d: one_by_one(shown, i, d), batches), seconds(shown.fetch, batches))
                for _ in range(PAIRS)
            ]
            single, grouped = (statistics.median(times) / BATCHES for times in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            times = f"{1e6 * single:.0f} us one by one, {1e6 * grouped:.0f} us together"
            print(f"batches of {BATCH} {kind}: {times}, ratio {ratio:.1f}")
        print(f"{DOMAINS} x {count} images mapped, peak memory {peak_memory() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
