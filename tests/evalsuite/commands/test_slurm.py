import json
import os
import shlex
import shutil
import subprocess

import pytest
from _dummies import plugins

from evalsuite import cli

STUDY = f"""
name = "tiny"
tasks = ["{plugins.TASK}"]
[[calibration]]
protocol = "calibration"
size = 6
[[quantizer]]
method = "full_precision"
[[quantizer]]
method = "{plugins.SCALED}"
bits = ["W8A8", "W4A4"]
[[adapter]]
method = "none"
[[stream]]
protocol = "continual"
images = 8
"""


def test_the_array_runs_its_part_of_the_study(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "it's $(touch here)"
    folder.mkdir()
    (folder / "mine.toml").write_text(STUDY)
    monkeypatch.chdir(folder)
    assert cli.call(["slurm", "mine.toml", "--shards", "3", "--gres", "gpu:1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    script = (folder / "array.sbatch").read_text()
    assert cli.call(["slurm", "mine.toml", "--shards", "3", "--gres", "gpu:1"]) == 0  # the same once more
    assert cli.call(["slurm", "mine.toml", "--shards", "2", "--gres", "gpu:1"]) == 2
    assert "array.sbatch is there already" in capsys.readouterr().err
    assert (folder / "array.sbatch").read_text() == script
    assert "#SBATCH --array=1-3\n" in script
    assert "#SBATCH --gres=gpu:1\n" in script
    (tmp_path / "bin").mkdir()
    spoken = tmp_path / "bin" / "evalsuite"
    spoken.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    spoken.chmod(0o755)
    environment = os.environ | {"PATH": f"{spoken.parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(
        [shutil.which("bash"), "array.sbatch"], capture_output=True, text=True, check=True, env=environment
    )
    out = str(folder / "runs" / "tiny-2-of-3")
    wanted = ["run", str(folder / "mine.toml"), "--shard", "2/3", "--workers", "1", "--out", out]
    assert done.stdout.splitlines() == wanted
    assert not (folder / "here").exists()
    merge = shlex.split(answer["merge"])
    assert merge[:3] == ["evalsuite", "merge", str(folder / "runs" / "tiny")]
    assert merge[4] == out
    assert answer["merge"] in shlex.split(answer["merge_job"])
    assert "afterany" in answer["merge_job"]


@pytest.mark.parametrize("given", [["--time", "1 #"], ["--partition", "a\nb"], ["--shards", "0"], ["--shards", "5000"]])
def test_what_would_break_the_file_is_refused(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.call(["slurm", "quick", "--shards", "2", *given]) == 2
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.count("\n") == 1
