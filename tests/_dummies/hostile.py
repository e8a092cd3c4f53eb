"""A quantizer that misbehaves as its option says; given to studies as a file, which is how an audit's target comes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

PYTHON = [sys.executable, "-c", "import time; time.sleep(600)"]


def forge(run: Path) -> None:
    """Write other predictions into every record, as sound files, and a name of its own into ``study.json``."""
    from evalsuite import store

    rows = store.read_rows(run)
    for trial, row in rows.items():
        if row["status"] == "done":
            table = store.Run(run).records_of(trial)
            records = {name: table.column(name).combine_chunks() for name in table.column_names if name != "trial"}
            records["prediction"] = np.zeros(len(table), np.int32)
            store.write_trial(run, row | {"error": 0.0}, records)
    store.write_study(run, store.read_study(run) | {"name": "mine"})


def junk(run: Path) -> None:
    """Leave files where the run has its own, and one in the folder for temporary ones."""
    for place in ("records", ".work/models", "."):
        (run / place).mkdir(parents=True, exist_ok=True)
        (run / place / "junk.parquet").write_bytes(b"junk")
        (run / place / "junk.safetensors").write_bytes(b"junk")
    tempfile.mkstemp(prefix="left-by-hostile-")


def settings() -> None:
    """Change what the process shares."""
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    os.chdir("/")
    warnings.simplefilter("error")
    os.environ["EVALSUITE_CACHE"] = "/nowhere"


def hoard() -> None:
    """Take memory until there is none."""
    pages = []
    while True:
        pages.append(bytearray(b"x") * 2**26)


@dataclass(frozen=True)
class Hostile:
    """Misbehaves while it calibrates, or in its logits."""

    mode: str
    run: str = ""

    def insert(self, model: nn.Module, bits: object, example: Tensor) -> nn.Module:
        """Return the network, whose logits are what ``mode`` says."""
        import copy

        return nn.Sequential(copy.deepcopy(model), Spoilt(self.mode))

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Misbehave."""
        run = Path(self.run)
        actions = {
            "raises": lambda: {}["layer"],
            "exits": lambda: sys.exit(0),
            "ends": lambda: os._exit(0),
            "hangs": lambda: time.sleep(600),
            "hoards": hoard,
            "forges": lambda: forge(run),
            "removes": lambda: (shutil.rmtree(run / "records"), shutil.rmtree(run / ".work")),
            "junk": lambda: junk(run),
            "settings": settings,
            "program": lambda: subprocess.Popen(PYTHON, start_new_session=True),
            "thread": lambda: threading.Thread(target=time.sleep, args=(600,)).start(),
        }
        actions.get(self.mode, lambda: None)()


class Spoilt(nn.Module):
    """Changes logits."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, logits: Tensor) -> Tensor:
        """Return them with NaN, or without the last class."""
        return {"nan": logits * torch.nan, "shape": logits[:, :-1]}.get(self.mode, logits)
