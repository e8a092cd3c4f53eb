import json
import subprocess
import sys

import pytest
from _dummies import plugins
from _dummies.disk import full_disk
from _dummies.runs import make_run

from evalsuite import cli, store

STUDY = f"""
name = "tiny"
tasks = ["{plugins.TASK}"]
source_images = 8
[analysis]
permutations = 50
bootstrap = 50
[report]
figures = ["error_heatmap"]
formats = ["pdf"]
[[calibration]]
protocol = "calibration"
size = 6
[[quantizer]]
method = "full_precision"
[[quantizer]]
method = "{plugins.SCALED}"
levels = [1, 3]
[[adapter]]
method = ["none", "{plugins.DRIFTING}"]
[[stream]]
protocol = "continual"
images = 24
severity = 1
corruptions = ["gaussian_noise", "contrast", "brightness"]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(STUDY)
    return "tiny.toml"


def said(capsys):
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.parametrize(
    "command",
    [
        "",
        *(
            "run",
            "report",
            "audit",
            "compare",
            "export-metrics",
            "index",
            "list",
            "merge",
            "new",
            "schema",
            "slurm",
            "status",
            "validate",
            "doctor",
        ),
    ],
)
def test_every_command_answers_help(command, capsys):
    assert cli.call([*command.split(), "--help"]) == 0
    assert "Usage: evalsuite" in said(capsys)[0]


def test_module_and_command_are_the_same_program():
    for arguments in (["--version"], []):
        made = subprocess.run(
            [sys.executable, "-m", "evalsuite", *arguments], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0
        assert made.stdout


def test_help_loads_no_backend():
    code = "import sys, evalsuite.cli as c; c.call(['--help']); print('torch' in sys.modules, 'pandas' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split()[-2:] == ["False", "False"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["run", "quikc"], "did you mean 'quick'"),
        (["run", "--wokers", "2"], "--workers"),
        (["run", "--workers", "many"], "--workers"),
        (["run", "quick", "--set", "stream.imags=3"], "did you mean 'images'"),
        (["run", "quick", "--out", "caf\udce9"], r"'caf\udce9': expected names and values in UTF-8"),
        (["run", "absent.toml"], "no study file absent.toml"),
        (["run", "."], ". is a folder: expected a TOML file, or a name"),
        (["run", "quick", "--data-root", "nowhere"], "no folder nowhere: expected one with images and weights"),
        (["report", "nowhere"], "is not a run's folder"),
        (["audit", "absent.py:Mine"], "no file absent.py"),
        (["list", "taks"], "did you mean 'tasks'"),
        (["validate"], "Missing argument"),
        (["validate", "quick", "--set", 'tasks=["folder"]'], "task 'folder' has no 'images': expected a value"),
        (["run", "quick", "--cache-gigabytes", "-1"], "--cache-gigabytes"),
        (["run", "quick", "--memory", "4X"], "'--memory': memory '4X': expected a size such as 4, 4G or 500M"),
        (["audit", "rtn", "--task", "folder"], "task 'folder' has no 'images'"),
        (["audit", "adarund"], "did you mean 'adaround'"),
        (["audit", "rtn", "--against", "rtn"], "nothing to compare"),
        (["audit", "evalsuite.errors:Refused"], "has no method 'insert'"),
        (["audit", "rtn", "--task", "digits/resne"], "did you mean 'digits/resnet'"),
        (["audit", "rtn", "--time-limit", "0"], "expected more than 0"),
        (["audit", "rtn", "--in-process", "--workers", "2"], "expected 1"),
        (["audit", "rtn", "--profile", "quik"], "unknown profile 'quik'"),
        (["audit", "rtn", "--option", "target.rang=mse"], "did you mean 'range'"),
        (["audit", "rtn", "--option", "range=mse"], "expected target.range"),
        (["audit", "rtn", "--bits", "4"], "bits"),
        (["audit", "rtn", "--baselines", "nowhere"], "is not a run's folder"),
        (["audit", "rtn", "--fail-if", "worst_clas_drop > 5"], "did you mean 'worst_class_drop'"),
        (["audit", "rtn", "--task-option", "imags=3"], "no option of digits/resnet"),
    ],
)
def test_wrong_requests_are_one_line_on_stderr_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.call(arguments) == 2
    out, err = said(capsys)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "something was written"


def test_asking_for_completion_ends_well(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    for ask in ("--show-completion", "--install-completion"):
        assert cli.call([ask, "bash"]) == 0
        assert said(capsys)[1] == ""


def test_a_run_s_folder_is_not_another_study_s(study, capsys, tmp_path):
    theirs = make_run(tmp_path / "theirs", tasks=["digits/vit"], images=10)
    before = {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file()}
    assert cli.call(["run", study, "--out", str(theirs), "--device", "cpu"]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert "holds the run of study 'dummy'" in line
    assert "none of which study 'tiny' has: expected its own folder or a new one (--out)" in line
    assert {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file() and file.name != ".lock"} == before
    (tmp_path / "file").touch()
    assert cli.call(["run", study, "--out", "file", "--device", "cpu"]) == 2
    assert "file is a file: expected a folder for the run" in said(capsys)[1]


def test_run_then_report(study, capsys, tmp_path):
    assert cli.call(["run", study, "--device", "cpu"]) == 0
    out, _ = said(capsys)
    assert "6 trials: 6 done, 0 refused, 0 failed" in out
    folder = tmp_path / "runs" / "tiny"
    for name in ("study.json", "trials.parquet", "summary.csv", "comparisons.csv", "index.html"):
        assert (folder / name).is_file(), name
    assert cli.call(["run", study, "--device", "cpu", "--json"]) == 0
    out, err = said(capsys)
    assert json.loads(out) == {
        "folder": "runs/tiny",
        "left": 0,
        "stopped": "",
        "done": 6,
        "refused": 0,
        "failed": 0,
        "reused": 6,
        "page": "runs/tiny/index.html",
    }
    assert err == ""
    assert cli.call(["report", "runs/tiny", "--out", "again", "--figures", "error_heatmap", "--json"]) == 0
    assert json.loads(said(capsys)[0]) == {"page": "again/index.html", "left": 0}
    assert [f.name for f in (tmp_path / "again" / "figures").glob("*.pdf")] == ["error_heatmap.pdf"]


def test_compare(tmp_path, capsys):
    small = {"tasks": ("digits/vit",), "streams": ("usual",), "adapters": ("none",), "images": 30}
    first, second = (str(make_run(tmp_path / name, **small)) for name in ("old", "new"))
    assert cli.call(["compare", first, second, "--out", str(tmp_path / "table.csv")]) == 0
    out, _ = said(capsys)
    assert "rtn W4A4" in out
    assert "0 of 15 pairs differ" in " ".join(out.split())
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 4
    assert cli.call(["compare", first, second, "--json"]) == 0
    assert {row["difference"] for row in json.loads(said(capsys)[0])} == {0.0}
    fewer = str(make_run(tmp_path / "fewer", **small | {"images": 20}))
    assert cli.call(["compare", first, fewer]) == 2
    assert "showed other images" in said(capsys)[1]
    assert cli.call(["compare", first]) == 2


def test_failed_trials_give_status_1_and_the_rest_is_reported(study, capsys, tmp_path):
    file = tmp_path / study
    file.write_text(file.read_text() + f'[[quantizer]]\nmethod = "{plugins.FAILING}"\n')
    assert cli.call(["run", study, "--device", "cpu"]) == 1
    out = said(capsys)[0]
    assert "8 trials: 6 done, 0 refused, 2 failed\n  2 failed: " in out
    assert out.count("failed: ") == 1
    assert (tmp_path / "runs" / "tiny" / "index.html").is_file()


ENDING = {
    "imported": "raise SystemExit(0)",
    "asked": "class Stream:\n    def domains(self): raise SystemExit(0)\n    def plan(self, labels, generator): pass",
    "measured": "class Stream:\n    def domains(self): return ()\n    def plan(self, labels, generator): pass\n"
    "    @property\n    def length(self): raise SystemExit(0)",
}


@pytest.mark.parametrize("when", ENDING)
def test_plugin_that_ends_the_program_ends_no_command(when, study, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(ENDING[when])
    text = (tmp_path / study).read_text()
    (tmp_path / study).write_text(text.replace('"continual"\nimages = 24', '"mine.py:Stream"').partition("severity")[0])
    assert cli.call(["validate", study]) == 2
    out, err = said(capsys)
    assert out == ""
    announced, refused = err.splitlines()
    assert announced == f"running the code of mine.py, as {study} asks"
    assert "mine.py" in refused
    assert "SystemExit" in refused


def test_a_full_disk_is_a_line_of_the_report(capsys, tmp_path):
    run = make_run(tmp_path / "run", quantizers=[("full_precision", "FP32"), ("rtn", "W4A4")], adapters=("none",))
    assert cli.call(["report", str(run), "--figures", "error_heatmap"]) == 0
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    said(capsys)
    with full_disk(2000):
        assert cli.call(["report", str(run), "--figures", "error_heatmap"]) == 2
    out, err = said(capsys)
    assert out == ""
    assert err.count("\n") == 1
    assert "cannot write to" in err
    assert {file for file in run.rglob("*") if file.is_file()} == set(before), "something half-written is left"
    assert (run / "index.html").read_bytes() == before[run / "index.html"]


def test_interrupt_is_130(study, capsys, monkeypatch):
    from evalsuite import store

    def stop(*arguments):
        raise KeyboardInterrupt  # a real SIGINT has ended this process: tests/evalsuite/test_isolation.py sends one

    monkeypatch.setattr(store, "write_trial", stop)
    assert cli.call(["run", study, "--device", "cpu", "--in-process"]) == 130
    assert "run the same command again" in said(capsys)[1]


def test_list(capsys):
    assert cli.call(["list"]) == 0
    out, _ = said(capsys)
    for name in ("digits/resnet", "adaround", "zoa", "continual", "quick", "error_heatmap", "glass_blur"):
        assert name in out
    assert cli.call(["list", "adapters", "--json"]) == 0
    listed = json.loads(said(capsys)[0])
    assert list(listed) == ["adapters"]
    assert all(listed["adapters"].values())
    for names in (["adapters", "tent"], ["tent"]):
        assert cli.call(["list", *names, "--json"]) == 0
        assert json.loads(said(capsys)[0])["kind"] == "adapters"
    assert cli.call(["list", "ttaq"]) == 2
    assert "'ttaq' is one of the quantizers and of the adapters" in said(capsys)[1]


def test_validate(study, capsys, tmp_path):
    assert cli.call(["validate", study, "--json"]) == 0
    # three models; fixed: 3 domains x 24 images each, adapting: three passes for each image
    found = json.loads(said(capsys)[0])
    passes = 3 * 72 + 3 * 3 * 72
    assert (found["trials"], found["quantizations"], found["corrupted_domains"]) == (6, 3, 3)
    assert found["image_passes"] == found["forwards"] == found["forwards_unshared"] == passes
    assert found["hours"] > 0
    assert found["peak_bytes"] > 0
    assert "timing" in found["basis"]
    assert cli.call(["validate", "quick"]) == 0
    assert "is sound" in said(capsys)[0]
    assert [f.name for f in tmp_path.iterdir()] == [study]


def test_doctor(capsys, tmp_path):
    assert cli.call(["doctor"]) == 0
    assert "imagecorruptions: 19 corruptions run" in said(capsys)[0]
    assert cli.call(["doctor", "--data-root", str(tmp_path), "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(said(capsys)[0])}
    assert checks["digits/vit"]["ok"]
    assert not checks["cifar10/resnet20"]["ok"]
    assert not checks["cifar10/resnet20"]["needed"]
    assert checks["cifar10/resnet20"]["remedy"]


def test_doctor_names_what_is_broken(capsys, monkeypatch):
    from evalsuite import corruptions

    def broken(*arguments):
        raise ImportError("no such\nthing")

    monkeypatch.setattr(corruptions, "corrupt", broken)
    assert cli.call(["doctor"]) == 1
    assert "BROKEN  imagecorruptions: ImportError: no such thing" in said(capsys)[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("labels from 1", "test_labels are 1..3: expected"),
        ("dict", "loads a dict: expected an evalsuite.plugins.TaskData"),
        ("raises", "cannot load its images: KeyError"),
        ("function", "builds a method: expected a torch.nn.Module"),
        ("one logit", "returns (2, 1): expected"),
        ("named logits", "returns a dict: expected"),
    ],
)
def test_a_task_that_is_wrong_is_one_line_before_the_run(wrong, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = f'[[task]]\nname = "{plugins.WRONG}"\nwrong = "{wrong}"\n[[quantizer]]'
    other = tmp_path / "wrong.toml"
    other.write_text(STUDY.replace(f'tasks = ["{plugins.TASK}"]\n', "").replace("[[quantizer]]", task, 1))
    assert cli.call(["run", str(other)]) == 2
    _, error = said(capsys)
    assert error.count("\n") == 1
    assert f"task '{plugins.WRONG}'" in error
    assert message in error
    assert not (tmp_path / "runs").exists()


def test_the_program_ends_without_dismantling_the_interpreter_but_does_what_is_registered_for_its_end(tmp_path):
    # What dies with the interpreter's dismantling says so: a native thread would be aborted there.
    code = (
        "import atexit, sys; from evalsuite import cli\n"
        "class Kept:\n    def __del__(self): print('dismantled', flush=True)\n"
        "sys.kept = Kept(); atexit.register(print, 'registered')\n"
        f"cli.main(['report', {str(tmp_path)!r}])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "registered\n")
    assert ended.stderr.count("\n") == 1


def test_unfinished_run_is_reported_as_such(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    study = store.read_study(run)
    store.write_study(run, study | {"trials": study["trials"] + 3})
    assert cli.call(["report", str(run), "--figures", "error_heatmap"]) == 0
    assert "3 trials have not ended" in said(capsys)[1]
    assert "3\xa0trials of the study have not ended yet" in (run / "index.html").read_text(encoding="utf-8")
