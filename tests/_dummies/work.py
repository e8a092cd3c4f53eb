"""Items of work for worker processes, some of which end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from evalsuite.running.workspace import Workspace


def work(item: str, workspace: Workspace, kept: dict) -> None:
    """Do what ``item`` says after its first dash, and append its name to a file."""
    kept["count"] = kept.get("count", 0) + 1
    with (workspace.folder / "log").open("a") as log:
        log.write(f"{item} {os.getpid()} {kept['count']}\n")
    action = item.partition("-")[2]
    if action == "exit":
        os._exit(3)
    if action == "once" and not (workspace.folder / "killed").exists():
        Path(workspace.folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "bus":
        os.kill(os.getpid(), signal.SIGBUS)
    if action == "sleep":
        time.sleep(1e6)
    if action == "spin":
        while True:
            pass
    if action == "hoard":
        bytearray(2**50)
    if action == "pages":
        pages = []
        while True:
            pages.append(bytearray(b"x") * 2**24)
    if action == "tensor":
        import torch

        torch.ones(2**30)
    if action == "children":  # none of which takes too much
        script = "import time; page = bytearray(b'x') * 250_000_000; time.sleep(100)"
        children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
        children[0].wait()
    if action == "program":  # that makes a session of its own, and then waits with it
        program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (workspace.folder / "program").write_text(str(program.pid))
        program.wait()


def say_device(item: str, workspace: Workspace, kept: dict) -> None:
    """Write down on which device this process is to compute, and which GPUs it sees."""
    time.sleep(0.5)  # so that a process that starts later finds something to do
    (workspace.folder / item).write_text(f"{workspace.device} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
