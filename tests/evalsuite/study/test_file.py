import json

import pytest
from _dummies import plugins
from _dummies.studies import raw, tiny

from evalsuite.errors import RequestError
from evalsuite.study.file import find, parse, read
from evalsuite.study.tables import Corruption


def write(path, text):
    path.write_text(text)
    return path


PUBLISHED = "_dummies.plugins:PublishedStripes"
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


def test_a_task_may_be_private_which_changes_no_trial():
    table = {"name": PUBLISHED, "variant": ["a", "b"]}
    study = tiny(task=[{**table, "private": True}, {"name": plugins.TASK, "private": False}])
    assert {task.name for task in study.private} == {PUBLISHED}
    assert len(study.private) == 2
    assert set(study.tasks) == set(tiny(task=[table, {"name": plugins.TASK}]).tasks)
    assert [table.get("private", False) for table in study.as_dict()["task"]] == [
        task in study.private for task in study.tasks
    ]
    with pytest.raises(RequestError, match=r"\[\[task\]\] in study, private = 'yes': expected true or false"):
        tiny(task=[{**table, "private": "yes"}])


def test_calibration_steps_compose():
    steps = [{"protocol": "calibration", "size": [4, 8]}, {"protocol": "noise", "corruption": ["fog", "snow"]}]
    study = tiny(calibration=[{"steps": steps}])
    assert [str(c) for c in study.calibrations] == [
        f"{size} images, {corruption} 3" for size in (4, 8) for corruption in ("fog", "snow")
    ]


def test_tasks_may_have_options_and_options_grids():
    table = {"name": PUBLISHED, "variant": ["a", "b"]}
    study = tiny(task=[table, {"name": [PUBLISHED, plugins.TASK]}])
    found = [(task.name, task.values().get("variant")) for task in study.tasks]
    assert found == [(plugins.TASK, None), (PUBLISHED, "a"), (PUBLISHED, "b"), (PUBLISHED, "")]
    assert study.as_dict()["task"][1] == {"name": PUBLISHED, "options": {"variant": "a", "mirrored": False}}
    assert "tasks" not in study.as_dict()


def test_tasks_alone_or_tables_alone_are_enough():
    alone = raw(task=[{"name": plugins.TASK}])
    del alone["tasks"]
    assert parse(alone) == tiny()


def test_a_task_s_options_can_be_set(tmp_path):
    file = write(tmp_path / "mine.toml", MINIMAL.replace(plugins.TASK, PUBLISHED))
    assert read(file, ["task.variant=x"]).tasks[0].values()["variant"] == "x"
    assert [t.values()["variant"] for t in read(file, ['task.variant=["x", "y"]']).tasks] == ["x", "y"]
    swapped = read(file, ["task.variant=x", f'tasks=["{plugins.TASK}"]'])
    assert [task.name for task in swapped.tasks] == [plugins.TASK]
    with pytest.raises(RequestError, match=r"unknown option of \[\[task\]\] 'varant': did you mean 'variant'"):
        read(file, ["task.varant=x"])


def test_corruption_table(tmp_path):
    assert tiny().corruption == Corruption("regenerated", "fast", None, 0)
    given = tiny(corruption={"engine": "reference", "constants": "imagenet", "seed": 3})
    assert given.as_dict()["corruption"] == {
        "files": "regenerated",
        "engine": "reference",
        "constants": "imagenet",
        "seed": 3,
    }
    file = write(tmp_path / "mine.toml", MINIMAL)
    assert read(file, ["corruption.files=published"]).as_dict()["corruption"] == {"files": "published"}


def test_resolved_study_parses_to_itself():
    study = tiny(exclude=[{"adapter": "none", "bits": ["W4A4"]}])
    values = study.as_dict()

    def table(setting, key):
        return {key: setting["name"], **setting["options"]}

    again = {
        **{k: values[k] for k in ("name", "title", "seeds", "source_images", "analysis", "exclude")},
        "task": [table(t, "name") for t in values["task"]],
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
        ({"tasks": ["folder"]}, "task 'folder' has no 'images'"),
        ({"task": [{"name": "digits/resnt"}]}, "did you mean 'digits/resnet'"),
        ({"task": [{"nam": "digits/resnet"}]}, r"\[\[task\]\] in study has no 'name': it has nam"),
        ({"task": [{"name": "digits/resnet", "test_set": "x"}]}, "unknown option of task 'digits/resnet' 'test_set'"),
        ({"task": [{"name": "cifar10/vit", "tset_set": "cifar10"}]}, "did you mean 'test_set'"),
        ({"corruption": {"file": "published"}}, r"unknown key in \[corruption\] of study 'file': did you mean 'files'"),
        ({"corruption": {"files": "publshed"}}, "files = 'publshed'"),
        ({"corruption": {"engine": "fats"}}, "did you mean 'fast'"),
        ({"corruption": {"constants": "cifra"}}, "did you mean 'cifar'"),
        ({"corruption": {"engine": "reference", "constants": "cifar"}}, "the reference engine has 'imagenet' only"),
        ({"corruption": {"seed": -1}}, "seed = -1"),
        ({"analysis": {"bootstrap": "many"}}, "bootstrap"),
        ({"diagnosis": {}}, r"\[diagnosis\] is empty: expected how many images of a domain, such as images = 16"),
        ({"calibration": [{"steps": [{"protocol": "calibration", "sise": 3}]}]}, "did you mean 'size'"),
        ({"stream": [{"protocol": "continual", "imagse": 3}]}, "did you mean 'images'"),
        ({"quantizer": [{"method": plugins.SCALED, "weight_bit": 4}]}, "did you mean 'weight_bits'"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": "0"}, "seeds = '0'"),
        ({"source_images": 0}, "expected at least 1"),
        ({"analysis": {"bootstraps": 5}}, "did you mean 'bootstrap'"),
        ({"analysis": {"bootstrap": 0}}, "expected at least 1"),
        ({"exclude": [{"adaptor": "none"}]}, "did you mean 'adapter'"),
        ({"exclude": [{"quantizer.levls": 1}]}, "did you mean 'quantizer.levels'"),
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


def test_overrides_of_single_layers_are_a_grid_of_tables(tmp_path):
    mixed = '\noverrides = [{ "b.*" = "w8a8", "*.a" = "W4A8" }, { "*.a" = "W4A8", "b.*" = "W8A8" }, { "c" = "W2A2" }]\n'
    quantizer = f'[[quantizer]]\nmethod = "rtn"\nbits = "W4A4"{mixed}'
    file = write(tmp_path / "mine.toml", MINIMAL + quantizer)
    found = {quantizer.bits.overrides for quantizer in read(file).quantizers if quantizer.bits}
    assert found == {(("*.a", "W4A8"), ("b.*", "W8A8")), (("c", "W2A2"),)}
    single = read(file, ['quantizer.overrides={"d" = "W3A3"}']).quantizers
    assert {quantizer.bits.overrides for quantizer in single if quantizer.bits} == {(("d", "W3A3"),)}
    with pytest.raises(RequestError, match="expected the form W4A8"):
        read(file, ['quantizer.overrides={"d" = "eight"}'])


def test_filters_say_nothing_of_what_an_override_takes_away_and_keep_the_rest(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        """
name = "filtered"
tasks = ["digits/resnet", "digits/vit"]
[[calibration]]
protocol = "calibration"
[[quantizer]]
method = "rtn"
bits = ["W8A8", "W4A4"]
[[adapter]]
method = ["none", "tent"]
[[stream]]
protocol = "continual"
[[exclude]]
task = "digits/vit"
adapter = "tent"
[[exclude]]
task = ["digits/resnet", "digits/vit"]
bits = "W8A8"
[[exclude]]
task = "digits/restnet"
adapter = "none"
"""
    )
    kept = [json.loads(text) for text in read(file, ['tasks=["digits/resnet"]']).exclude]
    assert kept == [{"bits": "W8A8", "task": ["digits/resnet"]}, {"adapter": "none", "task": "digits/restnet"}]
    assert [json.loads(text) for text in read(file, ["source_images=8"]).exclude] == [
        *({"adapter": "tent", "task": "digits/vit"}, {"bits": "W8A8", "task": ["digits/resnet", "digits/vit"]}),
        {"adapter": "none", "task": "digits/restnet"},  # misspelt, so that it is still said to match nothing
    ]
    whole = file.read_text()
    file.write_text(whole.replace('tasks = ["digits/resnet", "digits/vit"]', "tasks = []"))
    assert len(read(file, ['tasks=["digits/resnet"]']).exclude) == 3, "no study without the override"
