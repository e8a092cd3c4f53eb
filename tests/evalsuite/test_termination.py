import shlex
import signal
import subprocess
import sys
import time

import pytest

from evalsuite.store import read_rows

STUDY = """
name = "long"
tasks = ["digits/resnet"]
seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
[[calibration]]
protocol = "calibration"
size = 8
[[quantizer]]
method = "full_precision"
[[adapter]]
method = ["none", "bn_adapt"]
[[stream]]
protocol = "continual"
corruptions = ["gaussian_noise"]
images = 10
batch_size = 10
"""


@pytest.mark.parametrize(("number", "before"), [(signal.SIGTERM, "trap '' INT; "), (signal.SIGHUP, "")])
def test_a_schedulers_signal_ends_a_run_as_an_interrupt_does(number, before, tmp_path):
    """Also where Ctrl-C is ignored, as it is by what a script's shell runs in the background."""
    (tmp_path / "long.toml").write_text(STUDY)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "evalsuite", "run", "long.toml", "--device", "cpu", "--out", str(out)]
    command = ["sh", "-c", f"{before}exec {shlex.join(command)}"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    while running.poll() is None and not list((out / "records").glob("[!.]*.parquet")):
        time.sleep(0.05)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130, said
    assert said.count("run the same command again") == 1
    assert "Traceback" not in said
    assert (out / "trials.parquet").is_file()
    assert read_rows(out)
    assert not [file for file in out.rglob(".*~*") if file.is_file()]
