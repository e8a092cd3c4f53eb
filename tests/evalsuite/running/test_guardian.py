import os
import subprocess
import sys
import time

import pytest

DRIVER = """
import sys, tempfile
from pathlib import Path
from _dummies.work import work
from evalsuite.running.workers import Workers
from evalsuite.running.workspace import Workspace
tempfile.tempdir = sys.argv[1] + "/temporary"
with Workers(1, Workspace(Path(sys.argv[1]))) as workers:
    list(workers.run(work, [["a-program"]]))
"""


def lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="which processes there are is read from /proc")
def test_what_trials_started_ends_with_a_driver_that_is_killed(tmp_path):
    (tmp_path / "temporary").mkdir()
    script = f"import sys; sys.path[:] = {sys.path!r}\n{DRIVER}"
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    said = tmp_path / "program"
    while driver.poll() is None and not (said.is_file() and said.read_text()):
        time.sleep(0.05)
    program, worker = int(said.read_text()), int((tmp_path / "log").read_text().split()[1])
    assert lives(program)
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (lives(program) or lives(worker) or [*(tmp_path / "temporary").iterdir()]):
        time.sleep(0.05)
    assert not lives(worker)
    assert not lives(program)
    assert not [*(tmp_path / "temporary").iterdir()], "nor are its files left"
