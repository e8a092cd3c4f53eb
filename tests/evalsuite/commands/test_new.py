import json

import pytest
import typer
from typer.testing import CliRunner

from evalsuite import registry
from evalsuite.commands.new import new
from evalsuite.errors import RequestError
from evalsuite.scaffold import KINDS

APP = typer.Typer()
APP.command("new")(new)


def called(*arguments):
    return CliRunner().invoke(APP, list(arguments), standalone_mode=False)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_was_written_and_what_to_do_next(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = called(kind, "my_own")
    assert made.return_value == 0
    assert {file.name for file in tmp_path.iterdir()} == {"my_own.py", "test_my_own.py"}
    assert "pytest test_my_own.py" in made.output
    assert "my_own.py:MyOwn" in made.output


def test_json_names_what_a_program_needs(tmp_path):
    made = json.loads(called("quantizer", "mine", "--out", str(tmp_path), "--json").output)
    assert made["files"] == [str(tmp_path / "mine.py"), str(tmp_path / "test_mine.py")]
    assert made["next"] == [f"pytest {tmp_path}/test_mine.py", f"evalsuite audit {tmp_path}/mine.py:Mine"]
    assert registry.configure("quantizers", made["target"]).values() == {"norm": 2.4}


def test_a_wrong_request_is_one_line(tmp_path):
    made = called("quantizer", "torch", "--out", str(tmp_path))
    assert isinstance(made.exception, RequestError)
    assert list(tmp_path.iterdir()) == []
