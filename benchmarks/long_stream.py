"""Memory of one trial over a long stream: ZOA on digits, whose test images are shown again and again.

python benchmarks/long_stream.py [--images N] [--adapter NAME]

Resident memory of this process, read every 20 ms, a tenth of the way through the trial, at its highest after that, and
when its record is written.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from evalsuite.environment import keep_freed_memory
from evalsuite.running.evaluation import run_trial
from evalsuite.running.quantized_models import quantize_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.file import parse
from evalsuite.study.trials import expand

CORRUPTIONS = ["gaussian_noise", "contrast"]
SHOWN = 250


class Samples(threading.Thread):
    """Reads the resident memory of this process until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Read."""
        while not self._ended.wait(0.02):
            self.seen.append((time.perf_counter(), _resident()))

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000, help="in the stream")
    parser.add_argument("--adapter", default="zoa")
    wanted = parser.parse_args()
    stream = {"protocol": "continual", "images": SHOWN, "severity": 3, "corruptions": CORRUPTIONS, "batch_size": 64}
    rounds = max(1, wanted.images // (SHOWN * len(CORRUPTIONS)))
    study = parse(
        {
            "name": "long",
            "tasks": ["digits/resnet"],
            "seeds": [0],
            "calibration": [{"protocol": "calibration", "size": 32}],
            "quantizer": [{"method": "rtn", "bits": "W8A8"}],
            "adapter": [{"method": wanted.adapter}],
            "stream": [stream | {"rounds": rounds}],
        }
    )
    (trial,) = [
        each
        for each in expand(study, dict.fromkeys(study.tasks, ""))
        if each.adapter.name == wanted.adapter and each.quantizer.bits is not None
    ]
    keep_freed_memory()  # as worker processes do
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        (workspace.folder / "records").mkdir()
        quantize_model(trial, workspace)
        samples = Samples()
        start = time.perf_counter()
        samples.start()
        run_trial(trial, workspace, {})
        samples.stop()
    seconds = time.perf_counter() - start
    tenth = next(size for when, size in samples.seen if when - start > 0.1 * seconds)
    later = [size for when, size in samples.seen if when - start > 0.1 * seconds]
    print(f"{rounds * SHOWN * len(CORRUPTIONS):,} images, {seconds:.0f} s, resident megabytes:")
    for share in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95):
        size = next(size for when, size in samples.seen if when - start > share * seconds)
        print(f"  {share:4.0%}  {size / 1e6:7.1f}  {(size - tenth) / 1e6:+6.1f}")
    print(f"   end  {later[-1] / 1e6:7.1f}  {(later[-1] - tenth) / 1e6:+6.1f}")
    print(f"  most  {max(later) / 1e6:7.1f}  {(max(later) - tenth) / 1e6:+6.1f}")


if __name__ == "__main__":
    main()
