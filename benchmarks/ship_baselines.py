"""Make the records of the baselines that are shipped for an audit's quick profile.

``python -m benchmarks.ship_baselines [--workers N]`` runs the study ``audit_quick`` and packs its records into
``protocols/baselines/audit_quick``. To be run again when the profile, a baseline or a method's arithmetic changes,
which ``tests/protocols/test_baselines.py`` notices.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import evalsuite
from evalsuite.running.baselines import pack
from protocols import baselines

PROFILE = "audit_quick"


def ship(out: Path, workers: int, run: Path | None = None) -> int:
    """Run the profile's study, unless ``run`` has it, pack it into ``out``, and return the bytes written."""
    with tempfile.TemporaryDirectory() as folder:
        pack(run or evalsuite.run(PROFILE, Path(folder) / "run", workers), out)
    return sum(file.stat().st_size for file in out.iterdir())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--run", type=Path, help="a finished run of the profile, packed in place of a new one")
    given = parser.parse_args()
    print(f"{ship(baselines.audit_quick, given.workers, given.run):,} bytes in {baselines.audit_quick}")
