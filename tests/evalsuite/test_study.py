import pytest
from _dummies import plugins
from _dummies.studies import raw, tiny

from evalsuite.errors import RequestError
from evalsuite.study import find, parse, read


def write(path, text):
    path.write_text(text)
    return path


MINIMAL = f"""
name = "mine"
tasks = ["{plugins.TASK}"]
[[calibration]]
protocol = "calibration"
[[quantizer]]
method = "full_precision"
[[adapter]]
method = "none"
[[stream]]
protocol = "continual"
"""


def test_lists_are_grids():
    study = tiny(quantizer=[{"method": plugins.SCALED, "levels": [1, 2, 3], "bits": ["W4A4", "W8A8"]}])
    assert len(study.quantizers) == 6
    assert {str(q.bits) for q in study.quantizers} == {"W4A4", "W8A8"}


def test_an_option_that_is_a_list_is_one_value_unless_nested():
    stream = {"protocol": "continual", "corruptions": ["fog", "snow"]}
    assert len(tiny(stream=[stream]).streams) == 1
    nested = tiny(stream=[{**stream, "corruptions": [["fog", "snow"], ["fog"]]}]).streams
    assert [len(setting.build().corruptions) for setting in nested] == [2, 1]


def test_calibration_steps_compose():
    steps = [{"protocol": "calibration", "size": [4, 8]}, {"protocol": "noise", "corruption": ["fog", "snow"]}]
    study = tiny(calibration=[{"steps": steps}])
    assert [str(c) for c in study.calibrations] == [
        f"{size} images, {corruption} 3" for size in (4, 8) for corruption in ("fog", "snow")
    ]


def test_resolved_study_parses_to_itself():
    study = tiny(exclude=[{"adapter": "none", "bits": ["W4A4"]}])
    values = study.as_dict()

    def table(setting, key):
        return {key: setting["name"], **setting["options"]}

    again = {
        **{k: values[k] for k in ("name", "title", "tasks", "seeds", "source_images", "analysis", "exclude")},
        "calibration": [{"steps": [table(s, "protocol") for s in c]} for c in values["calibration"]],
        "quantizer": [table(q["method"], "method") | (q["bits"] or {}) for q in values["quantizer"]],
        "adapter": [table(a, "method") for a in values["adapter"]],
        "stream": [table(s, "protocol") for s in values["stream"]],
    }
    assert parse(again) == study


def test_minimal_file_and_overrides(tmp_path):
    file = write(tmp_path / "mine.toml", MINIMAL)
    study = read(
        file, ["stream.images=12", "seeds=[3, 4]", "title=Mine", "analysis.bootstrap=7", "stream.order=reversed"]
    )
    assert study.streams[0].values()["images"] == 12
    assert study.streams[0].values()["order"] == "reversed"
    assert study.seeds == (3, 4)
    assert study.title == "Mine"
    assert study.analysis.bootstrap == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stream.imagse=3", "unknown option of .* 'imagse': did you mean 'images'"),
        ("sedes=[1]", "unknown key in .*: did you mean 'seeds'"),
        ("stream.images", "expected KEY=VALUE"),
        ("quantizer.bits=W4A4", "unknown option of"),
        ("name.first=3", "has no options"),
        ("adapter=5", "adapter = 5"),
    ],
)
def test_wrong_overrides(tmp_path, override, message):
    with pytest.raises(RequestError, match=message):
        read(write(tmp_path / "mine.toml", MINIMAL), [override])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adaptor": []}, "did you mean 'adapter'"),
        ({"tasks": []}, "has no 'tasks'"),
        ({"tasks": ["digits/resnt"]}, "did you mean 'digits/resnet'"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": "0"}, "seeds = '0'"),
        ({"source_images": 0}, "expected at least 1"),
        ({"analysis": {"bootstraps": 5}}, "did you mean 'bootstrap'"),
        ({"analysis": {"bootstrap": 0}}, "expected at least 1"),
        ({"exclude": [{"adaptor": "none"}]}, "did you mean 'adapter'"),
        ({"stream": [{"protocol": "calibration"}]}, "is a calibration step, not a stream"),
        ({"calibration": [{"protocol": "continual"}]}, "is a stream, not a calibration step"),
        ({"calibration": [{"steps": [], "size": 3}]}, "either steps or one protocol"),
        ({"calibration": [{"size": 3}]}, "has no 'protocol'"),
        ({"quantizer": [{"method": "full_precision", "bits": "W4A4"}]}, "takes no bits"),
        ({"quantizer": [{"method": plugins.SCALED, "bits": "4/4"}]}, "expected the form W4A8"),
        ({"quantizer": [{"method": plugins.SCALED, "bits": "W9A4"}]}, "weight_bits = 9: expected 2 to 8"),
        ({"quantizer": [{"method": plugins.SCALED, "bits": "W4A4", "weight_bits": 4}]}, "give either bits or"),
        ({"quantizer": [{"method": plugins.SCALED, "fold_norm": "perhaps"}]}, "fold_norm = 'perhaps'"),
        ({"adapter": [{"method": "none", "rate": []}]}, r"rate = \[\]: expected at least one value"),
        ({"adapter": [{"method": []}]}, "expected a name or a list of names"),
        ({"adapter": [{"method": 5}]}, "expected a name or a list of names"),
        ({"adapter": {"method": "none"}}, "valid list"),
        ({"calibration": [{"steps": 5}]}, "expected a list of tables"),
        ({"calibration": [{"protocol": "calibration", "size": True}]}, "size = True"),
        ({"calibration": [{"protocol": "calibration", "size": "6"}]}, "size = '6'"),
        ({"exclude": [{}]}, "is empty"),
        ({"exclude": [{"bits": {"a": 1}}]}, "expected text, a number or a list"),
        ({"seeds": [2**70]}, "below 2"),
    ],
)
def test_wrong_studies_are_refused_in_one_line(changes, message):
    with pytest.raises(RequestError, match=message) as caught:
        parse(raw(**changes))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_study(tmp_path):
    with pytest.raises(RequestError, match="no study file"):
        read(tmp_path / "absent.toml")
    with pytest.raises(RequestError, match="is not a TOML file"):
        read(write(tmp_path / "broken.toml", "name = "))
    with pytest.raises(RequestError, match="did you mean 'quick'"):
        read("quikc")


def test_registered_studies_are_sound():
    study = read("quick")
    assert find("quick").is_file()
    assert len(study.quantizers) >= 4
    assert len(study.adapters) >= 4
    assert len(study.streams[0].build().domains()) == 15
    assert len(study.tasks) == 2


def test_override_of_an_option_in_a_table_of_the_wrong_form(tmp_path):
    file = write(tmp_path / "mine.toml", MINIMAL.replace("[[stream]]", "[stream]"))
    with pytest.raises(RequestError, match="stream = "):
        read(file, ["stream.images=3"])
