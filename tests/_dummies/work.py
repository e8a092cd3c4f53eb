"""Items of work for worker processes, some of which end them."""

from __future__ import annotations

import os
import signal
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
