"""What is written to begin with works: its test passes, a study runs it, and nothing is overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import evalsuite
from evalsuite import files, scaffold
from evalsuite.errors import RequestError
from evalsuite.study.cost import cost_of
from evalsuite.study.file import parse


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with nothing but a plugin of each kind and its test."""
    folder = tmp_path_factory.mktemp("mine")
    for kind in scaffold.KINDS:
        written = scaffold.scaffold(kind, f"my_{kind}", folder)
        assert [file.name for file in written] == [f"my_{kind}.py", f"test_my_{kind}.py"]
    return folder


def test_every_test_passes_as_written(folder):
    path = str(Path(evalsuite.__file__).parents[1])
    # Without the working folder in Python's path, as the command pytest runs.
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    made = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    for kind in scaffold.KINDS:
        assert f"test_my_{kind}.py" not in made.stdout, made.stdout
    assert f"{sum(file.read_text().count('def test_') for file in folder.glob('test_*'))} passed" in made.stdout


def test_nothing_of_the_templates_names_is_left(folder):
    for file in folder.glob("*.py"):
        text = file.read_text()
        assert "templates" not in text
        assert not {"mine", "Mine"} & set(text.replace(".", " ").replace(":", " ").replace('"', " ").split())
    assert sum(len(file.read_text().splitlines()) for file in folder.glob("my_quantizer.py")) <= 60


def test_a_study_takes_them_all(folder):
    named = {kind: f"{folder}/my_{kind}.py:{scaffold.class_name(f'my_{kind}')}" for kind in scaffold.KINDS}
    study = parse(
        {
            "name": "mine",
            "tasks": [named["task"]],
            "calibration": [{"protocol": named["protocol"], "size": 32}],
            "quantizer": [{"method": "full_precision"}, {"method": named["quantizer"], "norm": [2.0, 3.0]}],
            "adapter": [{"method": named["adapter"]}],
            "stream": [{"protocol": named["stream"]}],
        }
    )
    assert cost_of(study)["trials"] == 3 + 1  # and full precision without adaptation, to compare with


PYTHON_OR_PYTEST_TAKES_ANOTHER = ("torch", "Torch", "json", "evalsuite", "reports", "pytest", "conftest", "test_mine")
NO_MODULE_OR_CLASS = ("class", "none", "a-b", "a/b", "../mine", "", "1st", "__", "_1", "maß")
USED_IN_THE_FILE = ("tensor",)
NO_FILE = ("x" * 300,)


@pytest.mark.parametrize(
    "name", [*PYTHON_OR_PYTEST_TAKES_ANOTHER, *NO_MODULE_OR_CLASS, *USED_IN_THE_FILE, *NO_FILE], ids=lambda n: n[:9]
)
def test_what_can_be_no_module_is_refused_and_nothing_is_written(name, tmp_path):
    with pytest.raises(RequestError) as raised:
        scaffold.scaffold("quantizer", name, tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.rglob("*")) == []


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(RequestError, match="did you mean 'quantizer'"):
        scaffold.scaffold("quantiser", "mine", tmp_path)


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_overwritten(there, link, tmp_path):
    if link:
        (tmp_path / there).symlink_to("gone")
    else:
        (tmp_path / there).write_text("precious")
    with pytest.raises(RequestError, match="is there already"):
        scaffold.scaffold("task", "mine", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (link and (tmp_path / there).is_symlink()) or (tmp_path / there).read_text() == "precious"


@pytest.mark.parametrize("failing", ["mine.py", "test_mine.py"])
def test_both_files_or_none(failing, tmp_path, monkeypatch):
    def replace(self, target):
        if Path(target).name == failing:
            raise OSError(28, "No space left on device")
        return self.rename(target)

    monkeypatch.setattr(files.Path, "replace", replace)
    with pytest.raises(RequestError, match="No space left"):
        scaffold.scaffold("figure", "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_made_and_a_file_is_none(tmp_path):
    assert all(file.is_file() for file in scaffold.scaffold("stream", "mine", tmp_path / "new" / "folder"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        scaffold.scaffold("stream", "mine", tmp_path / "file")
