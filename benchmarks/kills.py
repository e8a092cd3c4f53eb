"""SIGKILL at random moments: records equal those of a quiet run, nothing is lost, doubled or damaged.

python benchmarks/kills.py [--kills 200] [--seed 0]

A small study is run again and again in one folder, by one worker and by two in turn; at a random moment its driver,
one of its workers or both at once are killed. Whenever a call comes to its end, the folder is compared with a quiet
run's, trial by trial, and a new one is begun.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from report import Figure, main, note

from evalsuite import store
from evalsuite.files import _TEMPORARY

STUDY = """
name = "kills"
tasks = ["digits/resnet"]
seeds = [0, 1]
[analysis]
permutations = 100
bootstrap = 100
[[calibration]]
protocol = "calibration"
size = 8
[[quantizer]]
method = "full_precision"
[[quantizer]]
method = "rtn"
bits = "W4A4"
[[adapter]]
method = ["none", "tent"]
[[stream]]
protocol = "continual"
corruptions = ["gaussian_noise", "contrast"]
images = 100
batch_size = 20
"""
CALL = """
import sys, evalsuite
evalsuite.run(*sys.argv[1:3], int(sys.argv[3]), device="cpu", data_root=(sys.argv[4:] or [None])[0])
"""
WHO = ("driver", "worker", "both")


def measure(data_root: str | None, kills: int = 200, seed: int = 0) -> list[Figure]:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "kills.toml").write_text(STUDY)
        begun = time.monotonic()
        if _call(place, "quiet", 1, data_root).wait() != 0:
            raise SystemExit("the quiet run failed")
        whole = time.monotonic() - begun
        quiet = store.load(place / "quiet")
        done, differing, left, orphans, numbers = 0, 0, 0, 0, dict.fromkeys(WHO, 0)
        run = 0
        while done < kills:
            run += 1
            ended = False
            while not ended and done < kills:
                who, delay = chance.choice(WHO), chance.uniform(0.0, whole)
                driver = _call(place, f"run{run}", 1 + done % 2, data_root)
                with suppress(subprocess.TimeoutExpired):
                    driver.wait(timeout=delay)
                ended = driver.poll() == 0
                if not ended:
                    workers = workers_of(driver.pid)
                    orphans += _kill(driver, workers, who, chance)
                    done += 1
                    numbers[who] += 1
                    if who == "worker":
                        ended = driver.wait() == 0
            if _call(place, f"run{run}", 1, data_root).wait() != 0:  # trials that failed by kills are tried again
                raise SystemExit(f"the last call in run{run} failed")
            differing += _differing(quiet, store.load(place / f"run{run}"))
            left += sum(bool(_TEMPORARY.fullmatch(file.name)) for file in (place / f"run{run}").rglob(".*~*"))
            note(f"{done} kills, {run} runs compared, {differing} trials differ")
        said = ", ".join(f"{number} of {who}" for who, number in numbers.items())
        return [
            Figure("random SIGKILLs", float(done), "", at_least=float(kills), note=said),
            Figure("  runs brought to their end and compared", float(run)),
            Figure("  trials that differ from a quiet run's, are lost or doubled", float(differing), at_most=0.0),
            Figure("  temporary files left", float(left), at_most=0.0),
            Figure("  workers that outlived their driver by 5 s", float(orphans), at_most=0.0),
        ]


def _call(place: Path, folder: str, workers: int, data_root: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CALL, str(place / "kills.toml"), str(place / folder), str(workers)]
    command += [data_root] if data_root else []
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def workers_of(driver: int) -> list[int]:
    """Return the worker processes of a process that drives a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == driver and b"workers import serve" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def _kill(driver: subprocess.Popen[bytes], workers: list[int], who: str, chance: random.Random) -> int:
    """Kill, and return how many workers are still there 5 s after their driver is gone."""
    if who != "driver" and workers:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
    if who == "worker":
        return 0
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline and any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.05)
    return sum(Path(f"/proc/{worker}").exists() for worker in workers)


def _differing(quiet: store.Run, run: store.Run) -> int:
    """Return how many trials are lost, doubled, not done or recorded otherwise."""
    mine, theirs = (sorted(each.trials["trial"]) for each in (quiet, run))
    wrong = len(set(mine) ^ set(theirs)) + len(theirs) - len(set(theirs))
    wrong += int((run.trials["status"] != "done").sum())
    for trial in set(mine) & set(theirs):
        wrong += not quiet.records_of(trial).equals(run.records_of(trial))
    errors = [each.trials.set_index("trial")["error"].sort_index() for each in (quiet, run)]
    return wrong + int(not errors[0].equals(errors[1]))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    main(measure, __doc__, _options)
