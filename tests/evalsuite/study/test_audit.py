from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from _dummies import plugins

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.study.audit import AFFORDABLE, AuditRequest, audit_study, options_of
from evalsuite.study.file import read
from evalsuite.study.trials import expand


@dataclass(frozen=True)
class Ticking(plugins.Scaled):
    """Iterates, at no rate of its own."""

    iterations: int = 20_000


def asked(target="gptq", options=None, **given):
    return AuditRequest(configure("quantizers", target, options), target, **given)


def methods(study):
    return [(each.method.name, str(each.bits)) for each in study.quantizers if each.bits]


@pytest.mark.parametrize("profile", ["quick", "standard", "full"])
def test_a_profile_asks_the_target_what_it_asks_the_others(profile):
    own, baselines = audit_study(asked(profile=profile)), read(f"audit_{profile}")
    digests = dict.fromkeys(own.tasks, "d")
    trials = expand(own, digests)

    def settings(name):
        return {
            (t.task, t.calibration, t.quantizer.bits, t.adapter, t.stream, t.seed)
            for t in trials
            if t.quantizer.method.name == name
        }

    assert settings("gptq") == settings("rtn") == settings("adaround")
    assert {t.identity for t in expand(baselines, digests)} < {t.identity for t in trials}
    assert len(own.seeds) >= 5
    assert len(own.calibrations) >= 4


def test_the_target_keeps_its_defaults_and_rivals_their_options():
    study = audit_study(asked("adaround", against=("rtn", "adaround", f"{__name__}:Ticking")))
    target = next(each.method for each in study.quantizers if each.bits)
    assert target == configure("quantizers", "adaround")
    by_name = {each.method.name: each.method.values() for each in study.quantizers if each.method != target}
    assert by_name["adaround"]["iterations"] == 300  # the profile's
    assert by_name["rtn"]["range"] == "mse"
    assert by_name[f"{__name__}:Ticking"]["iterations"] == AFFORDABLE["iterations"]


def test_options_of_target_rivals_and_tasks_reach_them():
    own, rivals = options_of(["target.range=minmax", "adaround.iterations=7"])
    study = audit_study(asked("rtn", own, against=("adaround",), rival_options=rivals, bits=("W3A3",)))
    assert methods(study) == [("rtn", "W3A3"), ("adaround", "W3A3")]
    values = [each.method.values() for each in study.quantizers if each.bits]
    assert (values[0]["range"], values[1]["iterations"]) == ("minmax", 7)
    folder = asked(tasks=("digits/vit", "folder"), task_options={"images": "photos", "network": "net.py:make"})
    tasks = {task.name: task.values() for task in audit_study(folder).tasks}
    assert tasks["folder"]["images"] == "photos"
    assert "images" not in tasks["digits/vit"]
    private = audit_study(asked(tasks=("digits/vit",), task_options={"private": True}))
    assert private.private == set(private.tasks)


def test_the_profile_can_be_a_changed_copy_and_overridden(tmp_path):
    text = Path(read.__globals__["find"]("audit_quick")).read_text().replace("size = 16", "size = 24")
    (tmp_path / "mine.toml").write_text(text)
    study = audit_study(asked(profile=str(tmp_path / "mine.toml"), overrides=("seeds=[7]", "stream.images=20")))
    assert [str(each) for each in study.calibrations][1] == "24 images"
    assert study.seeds == (7,)
    assert {stream.values()["images"] for stream in study.streams} == {20}


def test_folders_differ_where_what_is_asked_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "from evalsuite.quantizers.rtn import RoundToNearest as Mine\nOther = Mine\n"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(source)
    plain = [asked(f"{name}/mine.py:{cls}") for name in ("a", "b") for cls in ("Mine", "Other")]
    changed = [
        asked("a/mine.py:Mine", {"range": "minmax"}),
        asked("a/mine.py:Mine", tasks=("digits/vit",)),
        asked("a/mine.py:Mine", bits=("W4A4",)),
        asked("a/mine.py:Mine", profile="full"),
        asked("a/mine.py:Mine", rival_options={"rtn": {"range": "minmax"}}),
    ]
    names = [each.name for each in (*plain, *changed)]
    assert len(set(names)) == len(names)
    assert asked(str(tmp_path / "a" / "mine.py") + ":Mine").name == names[0] == "audit-a-mine-Mine"


def test_a_target_is_no_rival_of_itself_however_its_file_is_spelt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from evalsuite.quantizers.rtn import RoundToNearest as Mine\n")
    with pytest.raises(RequestError, match="nothing to compare"):
        audit_study(asked("./mine.py:Mine", against=("mine.py:Mine",)))
    assert ("rtn", "W4A4") in methods(audit_study(asked("./mine.py:Mine")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rival_options": {"adarond": {"iterations": 1}}}, "no such method in this audit"),
        ({"rival_options": {"rtn": {"rang": "mse"}}}, "did you mean 'range'"),
        ({"task_options": {"imags": 1}}, "--task-option imags: no option of digits/resnet"),
        ({"tasks": ("digits/resne",)}, "did you mean 'digits/resnet'"),
        ({"bits": ("W0A4",)}, "weight_bits = 0"),
        ({"profile": "quik"}, "unknown profile 'quik': did you mean 'quick'?"),
        ({"against": ("rtnn",)}, "did you mean 'rtn'"),
        ({"overrides": ("stream.imags=1",)}, "did you mean 'images'"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, message):
    with pytest.raises(RequestError, match=message):
        audit_study(asked(**given))


@pytest.mark.parametrize("text", ["strength=0.7", "target.strength", "=1", "target.=1"])
def test_an_option_names_its_method(text):
    with pytest.raises(RequestError, match="expected"):
        options_of([text])
