"""Run benchmarks, one script after the other in a process of its own, and print one table of their figures.

python -m benchmarks [GROUP]... [--data-root DIR]

A script without a function ``measure`` (see ``report.py``) has no figures to put into the table: what it prints is
shown as it comes. A script that fails is named at the end, and then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Figure, note, table

GROUPS = {
    # Under 15 minutes on two idle cores, which is why scripts with many cases, images or seeds get some of them.
    "quantization": (
        ("simulated_forward",),
        ("brecq", "--bits", "W4A4", "--methods", "brecq", "--seeds", "0", "--pairs", "1"),
        ("brecq", "--bits", "W2A4", "--seeds", "0", "--pairs", "0"),
        ("mobilenet", "rtn:W8A8"),
        ("mobilenet", "rtn:W4A8", "brecq:W4A8", "--images", "200", "--calibration", "64", "--iterations", "20"),
        ("deit", "ptq4vit:W8A8", "ptq4vit:W6A6", "--images", "400"),
        ("integer_engine", "--images", "100"),
        ("engines", "--cases", "cifar10/resnet20=rtn:W8A8", "cifar10/resnet20=brecq:W4A8", "--images", "100"),
    ),
    "adaptation": (("adaptation",), ("detector",)),
    "shifts": (("corruptions",), ("streams",), ("stream_images",)),
    "evidence": (
        ("evidence",),
        ("report_size",),
        ("power", "--points", "5", "10", "--layouts", "0", "1"),
        ("audit_level",),
    ),
    "scale": (("planning",), ("workers", "--pairs", "1")),
}


def run(script: str, options: tuple[str, ...], data_root: str | None) -> list[Figure]:
    """Run one script and return its figures, if it has any. Raises CalledProcessError if it fails."""
    file = Path(__file__).with_name(f"{script}.py")
    source = file.read_text(encoding="utf-8")
    command = [sys.executable, str(file), *options]
    if data_root and ("def measure(" in source or "--data-root" in source):
        command += ["--data-root", data_root]
    if "def measure(" not in source:
        subprocess.run(command, check=True)
        return []
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    return [Figure(**fields) for fields in json.loads(done.stdout)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; by default all")
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"), help="folder with images and weights")
    arguments = parser.parse_args()
    unknown = [group for group in arguments.groups if group not in GROUPS]
    if unknown:
        parser.error(f"unknown group {unknown[0]!r}: expected {', '.join(GROUPS)}")
    figures, failed = [], []
    for script, *options in (line for group in arguments.groups or GROUPS for line in GROUPS[group]):
        note(f"{script}...")
        start = time.perf_counter()
        try:
            figures += run(script, tuple(options), arguments.data_root)
        except (OSError, subprocess.CalledProcessError, json.JSONDecodeError, TypeError) as error:
            failed.append(f"{script}: {error}")
        note(f"{script}: {time.perf_counter() - start:.0f} s")
    print(table(figures))
    for line in failed:
        note(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
