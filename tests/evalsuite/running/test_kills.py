"""A short form of ``benchmarks/kills.py``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _dummies.studies import execute, tiny

import benchmarks
from evalsuite.store import load

DRIVER = """
import sys
from pathlib import Path
from _dummies.studies import execute, tiny
execute(tiny(seeds=[0, 1]), Path(sys.argv[1]), workers=int(sys.argv[2]), in_process=False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="which processes there are is read from /proc")
def test_killed_at_any_moment_a_run_ends_with_the_records_of_a_quiet_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))
    from kills import workers_of

    execute(tiny(seeds=[0, 1]), tmp_path / "quiet")
    quiet, out = load(tmp_path / "quiet"), tmp_path / "run"
    script = f"import sys; sys.path[:] = {sys.path!r}\n{DRIVER}"
    for records, victims, workers in ((0, "both", 2), (9, "worker", 1)):
        driver = subprocess.Popen([sys.executable, "-c", script, str(out), str(workers)], start_new_session=True)
        while driver.poll() is None and len([*(out / "records").glob("[!.]*.parquet")]) <= records:
            time.sleep(0.01)
        assert driver.poll() is None, "it was to be killed, not to end"
        if victims != "driver":
            os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
        if victims != "worker":
            driver.kill()
        driver.wait(timeout=300)
    assert execute(tiny(seeds=[0, 1]), out).failed == 0
    run = load(out)
    assert [*run.trials["trial"]] == [*quiet.trials["trial"]]
    assert [*run.trials["error"]] == [*quiet.trials["error"]]
    for trial in quiet.trials["trial"]:
        assert run.records_of(trial).equals(quiet.records_of(trial))
    assert not [file for file in out.rglob(".*~*") if file.is_file()]
