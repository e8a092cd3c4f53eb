import pytest

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.targets import rehearse, runs_code, target_of

MINE = """
from evalsuite.quantizers.rtn import RoundToNearest
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine(RoundToNearest):
    "Mine."
    strength: float = 1.0
"""


def test_a_method_is_what_the_registry_makes_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    target = target_of("mine.py:Mine", {"strength": 0.5})
    assert target.setting == configure("quantizers", "mine.py:Mine", {"strength": 0.5})
    assert (target.label, target.is_network, target.needs_code) == ("Mine", False, True)
    assert target.source_digest == target.setting.source != ""
    installed = target_of("rtn")
    assert (installed.setting, installed.label) == (configure("quantizers", "rtn"), "rtn")
    assert (installed.needs_code, installed.source_digest, installed.left_out) == (False, "", ())


def test_what_runs_code_is_known_without_running_it(tmp_path):
    assert runs_code(f"{tmp_path / 'absent.py'}:f")
    assert not any(map(runs_code, ("rtn", "package.module:Class", "model.onnx", "a:b.onnx")))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("rnt", {}, "did you mean 'rtn'"),
        ("absent.py:f", {}, "no file absent.py: expected path/to/file.py:NAME"),
        ("absent.onnx", {}, "no file .*absent.onnx"),
        ("rtn", {"strenght": 1}, "strenght"),
        ("mine.py:f", {"strength": 1}, "unknown option .*'strength'"),
    ],
)
def test_wrong_targets_are_one_clear_line(tmp_path, monkeypatch, text, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def f(images): return images\n")
    with pytest.raises(RequestError, match=f"^[^\n]*{message}[^\n]*$"):
        target_of(text, options)


def test_a_file_that_ends_the_process_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(RequestError, match=r"^mine\.py:f cannot be imported: its process ended with exit code 3"):
        rehearse("mine.py:f")
    rehearse("model.onnx")
