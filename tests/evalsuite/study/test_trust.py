from dataclasses import replace
from pathlib import Path

import pytest
from _dummies import plugins

from evalsuite import cli
from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.study.audit import AuditRequest, audit_study
from evalsuite.study.file import read
from evalsuite.study.trust import Trust

STUDY = f"""
name = "given"
description = "see /elsewhere/notes.py:Reader"
tasks = ["{plugins.TASK}"]
[[calibration]]
protocol = "calibration"
[[quantizer]]
method = "rtn"
bits = "W8A8"
[[adapter]]
method = "none"
[[stream]]
protocol = "continual"
"""
CODE = "from pathlib import Path\nPath({ran!r}).touch()\nfrom evalsuite.{module} import {name} as Mine\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that writes a study in ``given``, and code that leaves a file ``ran`` when it is run."""
    (tmp_path / "given").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def write(place: str, old: str = '"none"', new: str = '"{}:Mine"') -> Path:
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(CODE.format(ran=str(tmp_path / "ran"), module="adapters.none", name="NoAdaptation"))
        (tmp_path / "given" / "study.toml").write_text(STUDY.replace(old, new.format(file)))
        return tmp_path / "given" / "study.toml"

    return write


def ran(study: Path) -> bool:
    return (study.parents[1] / "ran").exists()


@pytest.mark.parametrize("place", ["given/mine.py", "given/below/mine.py"])
def test_code_beside_a_study_runs_and_is_said_once_before(study, place):
    file = study(place)
    said = []
    read(file, trust=Trust(say=lambda line: said.append((line, ran(file)))))
    ((line, before),) = said
    assert ran(file)
    assert not before
    assert str(file.parents[1] / place) in line


@pytest.mark.parametrize("overrides", [(), ("adapter.lr=1",), ('adapter.method="none"',)])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"none"', '"{}:Mine"'),
        ('"none"', '["none", "{}:Mine"]'),
        ('"continual"', '"{}:Mine"'),
        ('protocol = "calibration"', 'steps = [{{protocol = "other_data_set", task = "{}:Mine"}}]'),
        (f'tasks = ["{plugins.TASK}"]', '[[task]]\nname = "folder"\nimages = "x"\nnetwork = "{}:Mine"'),
        (f'"{plugins.TASK}"', f'"{plugins.TASK}", "{{}}:Mine"'),
    ],
)
def test_code_elsewhere_is_refused_before_anything_runs(study, old, new, overrides):
    file = study("elsewhere/mine.py", old, new)
    with pytest.raises(RequestError, match=r"study.toml would run the code of .*elsewhere/mine.py: expected it beside"):
        read(file, overrides)
    assert not ran(file)


@pytest.mark.parametrize("named", ["mine.py:Mine", "../given/../elsewhere/mine.py:Mine", "../given/link.py:Mine"])
def test_relative_paths_and_links_are_followed(study, named):
    file = study("elsewhere/mine.py", '"none"', f'"{named}"')
    (file.parent / "link.py").symlink_to("../elsewhere/mine.py")
    with pytest.raises(RequestError, match=r"elsewhere/mine\.py"):
        read(file)
    assert read(file, trust=Trust(everywhere=True)).adapters[0].name == named
    assert ran(file)


def test_a_link_to_a_study_does_not_move_it(study, tmp_path):
    file = study("elsewhere/mine.py")
    link = tmp_path / "elsewhere" / "study.toml"
    link.symlink_to(file)
    with pytest.raises(RequestError, match=r"expected it beside the study, in .*given"):
        read(link)
    assert not ran(file)


@pytest.mark.parametrize("command", ["validate", "run", "slurm"])
def test_commands_refuse_in_one_line_and_run_with_trust(study, command, capsys):
    file = study("elsewhere/mine.py")
    words = [command, str(file), *(["--shards", "1"] if command == "slurm" else [])]
    assert cli.call(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not ran(file)
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "mine.py"]
    if command != "run":
        assert cli.call([*words, "--trust"]) == 0
        assert capsys.readouterr().err.startswith("running the code of ")
        assert ran(file)
    if command == "slurm":
        assert " --trust" in Path("array.sbatch").read_text()


def test_a_profile_is_a_study_file_and_a_target_is_not(study):
    file = study("elsewhere/mine.py")
    asked = AuditRequest(configure("quantizers", "adaround"), "adaround", profile=str(file))
    with pytest.raises(RequestError, match="would run the code"):
        audit_study(asked)
    assert audit_study(replace(asked, trust=True)).adapters
