"""A cluster of two nodes on this machine, one of which is killed halfway: records equal a local run's, bit for bit.

python benchmarks/cluster.py [--backends dask,ray] [--study quick] [--only-killed] [--local RUN] [--data-root DIR]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from report import Figure, main, note

from evalsuite import store

RUN = """
import sys, evalsuite
study, out, backend, address, root = sys.argv[1:]
chosen = {"backend": backend, "address": address or None, "data_root": root or None}
evalsuite.run(study, out, 0 if address else 1, device="cpu", **chosen)
"""
DASK, RAY = "127.0.0.1:18786", "127.0.0.1:6399"


def measure(
    data_root: str | None,
    backends: str = "dask,ray",
    study: str = "quick",
    only_killed: bool = False,
    local: Path | None = None,
) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cl") as name:  # Ray's sockets bear no long paths
        place = Path(name)
        if local is None:
            local, begun = place / "local", time.monotonic()
            _run(study, local, "local", "", data_root, place).wait()
            figures.append(Figure(f"{study}, one process", time.monotonic() - begun, "s"))
        expected = store.load(local)
        for backend in backends.split(","):
            for killed in (True,) if only_killed else (False, True):
                figures += _compared(expected, study, backend, killed, place, data_root)
    return figures


def _compared(
    local: store.Run, study: str, backend: str, killed: bool, place: Path, data_root: str | None
) -> list[Figure]:
    out = place / f"{backend}{killed:d}"
    begun = time.monotonic()
    with CLUSTERS[backend](place) as (address, node):
        run = _run(study, out, backend, address, data_root, place)
        lost = 0
        while killed and run.poll() is None and not lost:
            if len([*(out / "records").glob("[!.]*.parquet")]) >= len(local.trials) // 2:
                lost = _kill(node)
            time.sleep(0.1)
        if run.wait() != 0:
            raise SystemExit(f"the run on {backend} failed: see {out}.log\n{Path(f'{out}.log').read_text()[-2000:]}")
    seconds = time.monotonic() - begun
    found = store.load(out)
    mine, theirs = (each.trials.set_index("trial") for each in (local, found))
    differing = len(set(mine.index) ^ set(theirs.index)) + int((mine["status"] != theirs["status"]).sum())
    for trial in mine.index[mine["status"] == "done"]:
        differing += not local.records_of(trial).equals(found.records_of(trial))
    what = f"{backend}, two nodes" + (", one killed halfway" if killed else "")
    note(f"{what}: {len(theirs)} trials, {differing} differ, {lost} processes killed")
    return [
        Figure(what, seconds, "s"),
        Figure("  trials that differ from the local run's", float(differing), at_most=0.0),
    ]


def _run(
    study: str, out: Path, backend: str, address: str, data_root: str | None, place: Path
) -> subprocess.Popen[bytes]:
    with Path(f"{out}.log").open("wb") as log:
        return _started([sys.executable, "-c", RUN, study, str(out), backend, address, data_root or ""], place, log)


def _started(command: list[str], folder: Path, log: object = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stdout=log,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _kill(node: subprocess.Popen[bytes]) -> int:
    """Kill a node with all that belongs to it, and return how many processes these were."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == node.pid:
                os.kill(int(folder.name), signal.SIGKILL)
                found += 1
    return found


@contextmanager
def _dask(place: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    host, _, port = DASK.partition(":")
    dask = str(Path(sys.executable).parent / "dask")
    scheduler = _started([dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"], place)
    time.sleep(5)
    worker = [dask, "worker", f"tcp://{DASK}", "--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard"]
    nodes = [_started(worker, place / f"node{number}") for number in (1, 2)]  # of working folders of their own
    time.sleep(5)
    try:
        yield f"tcp://{DASK}", nodes[1]
    finally:
        for process in (*nodes, scheduler):
            _kill(process)
            process.wait()


@contextmanager
def _ray(place: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    ray, usage = str(Path(sys.executable).parent / "ray"), "--disable-usage-stats"
    port = RAY.partition(":")[2]
    head = ["--head", "--port", port, "--include-dashboard", "false", "--temp-dir", str(place / "ray")]
    first = _started([ray, "start", *head, "--num-cpus", "1", usage, "--block"], place)
    time.sleep(10)
    second = _started([ray, "start", "--address", RAY, "--num-cpus", "1", usage, "--block"], place / "node2")
    time.sleep(10)
    try:
        yield RAY, second
    finally:
        for process in (second, first):
            _kill(process)
            process.wait()
        subprocess.run([ray, "stop", "--force"], check=False, capture_output=True, stdin=subprocess.DEVNULL)


CLUSTERS = {"dask": _dask, "ray": _ray}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", default="dask,ray", help="of dask and ray, comma between")
    parser.add_argument("--study", default="quick", help="a registered study or a TOML file")
    parser.add_argument("--local", type=Path, metavar="RUN", help="a finished run to compare with, not made again")
    parser.add_argument("--only-killed", action="store_true", help="leave out the runs in which both nodes live")


if __name__ == "__main__":
    main(measure, __doc__, options)
