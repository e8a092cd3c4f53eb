import pandas as pd
import pytest
from _dummies import plugins
from _dummies.studies import tiny

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.study.labels import labels, task_labels
from evalsuite.study.trials import expand, reference, shows_corruption

TASK = registry.configure("tasks", plugins.TASK)
DIGESTS = {TASK: "d"}


def test_product_without_repetition():
    trials = expand(tiny(), DIGESTS)
    assert len(trials) == 3 * 2 * 2
    assert len({t.identity for t in trials}) == len(trials)


def test_identity_is_stable_and_sees_every_setting():
    base = {t.identity for t in expand(tiny(), DIGESTS)}
    assert base == {t.identity for t in expand(tiny(), DIGESTS)}
    for change in (
        {"seeds": [1]},
        {"calibration": [{"protocol": "calibration", "size": 5}]},
        {"stream": [{"protocol": "continual", "images": 24, "batch_size": 8}]},
        {"adapter": [{"method": plugins.DRIFTING, "size": 0.2}]},
    ):
        quantized = {t.identity for t in expand(tiny(**change), DIGESTS) if t.quantizer.bits}
        assert not quantized & base, change
    assert not {t.identity for t in expand(tiny(), {TASK: "e"})} & base


def test_what_plays_no_role_is_no_identity():
    """Full precision does not depend on the calibration set, a fixed model not on source images."""
    sizes = [{"protocol": "calibration", "size": [5, 6]}]
    trials = expand(tiny(calibration=sizes), DIGESTS)
    assert sum(t.quantizer.bits is None for t in trials) == 4
    assert sum(t.quantizer.bits is not None for t in trials) == 16
    few, many = (expand(tiny(source_images=n), DIGESTS) for n in (4, 8))
    same = {t.identity for t in few} & {t.identity for t in many}
    assert same == {t.identity for t in few if t.adapter.name == "none"}


def test_reference_is_added_where_the_study_does_not_ask_for_it():
    study = tiny(quantizer=[{"method": plugins.SCALED}], adapter=[{"method": plugins.DRIFTING}])
    trials = expand(study, DIGESTS)
    own = {reference(t, study).identity for t in trials}
    assert len(own) == 2  # one a stream
    assert own == {t.identity for t in trials if t.is_reference}
    assert len(trials) == 2 + 2


def test_exclusion():
    study = tiny(exclude=[{"adapter": plugins.DRIFTING, "bits": ["FP32"]}, {"quantizer.levels": 1}])
    trials = expand(study, DIGESTS)
    assert not any(t.quantizer.bits is None and t.adapter.name != "none" for t in trials)
    assert not any(t.settings().get("quantizer.levels") == 1 for t in trials)


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ({"quantizer": "full_precission"}, "matches no trial"),
        ({"quantizer.levels": 7}, "matches no trial"),
        ({"task": plugins.TASK}, "leaves no trial"),
    ],
)
def test_filters_that_match_nothing_or_everything_are_refused(exclude, message):
    with pytest.raises(RequestError, match=message):
        expand(tiny(exclude=[exclude]), DIGESTS)


def test_full_precision_is_one_model_for_all_seeds():
    trials = [t for t in expand(tiny(seeds=[0, 1]), DIGESTS) if t.quantizer.bits is None]
    assert len({t.quantization for t in trials}) == 1
    assert len({t.identity for t in trials}) == 8


def test_plugins_of_one_name_keep_apart(tmp_path):
    code = "from _dummies.plugins import Scaled\n\n\nclass Mine(Scaled):\n    'Mine.'\n"
    names = []
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.py").write_text(code)
        names.append(f"{tmp_path / folder / 'm.py'}:Mine")
    trials = expand(tiny(quantizer=[{"method": names}], adapter=[{"method": "none"}]), DIGESTS)
    found = {labels(trials)[t.identity]["quantizer_label"] for t in trials if t.quantizer.bits}
    assert found == {f"Mine ({name}) W8A8" for name in names}


def test_an_option_called_name_is_no_plugin_s_name():
    settings = [
        registry.configure("quantizers", f"_dummies.plugins:{cls}", {"name": "x"}) for cls in ("Named", "AlsoNamed")
    ]
    assert settings[0].as_dict() != settings[1].as_dict()


def test_labels_name_what_differs():
    trials = expand(tiny(), DIGESTS)
    found = pd.DataFrame(labels(trials).values())
    assert set(found["quantizer_label"]) == {"full precision", "Scaled levels=1 W4A4", "Scaled levels=3 W4A4"}
    assert set(found["adapter_label"]) == {"none", "Drifting"}
    assert set(found["stream_label"]) == {f"{order} order, severity 1, batches of 7" for order in ("usual", "reversed")}
    assert set(found["calibration_label"]) == {"none", "6 images"}


def test_tasks_are_told_apart_by_what_differs():
    published = "_dummies.plugins:PublishedStripes"
    task = [{"name": published, "variant": ["a_b", ""]}, {"name": published, "variant": "a_b", "mirrored": True}]
    study = tiny(task=task)
    found = task_labels(study.tasks)
    assert list(found.values()) == [plugins.TASK, f"{published} a_b", published, f"{published} mirrored a_b"]
    trials = expand(study, dict.fromkeys(study.tasks, "same"))
    assert {row["task"] for row in labels(trials).values()} == set(found.values())
    assert len({t.identity for t in trials}) == 4 * 12
    columns = next(t for t in trials if t.task.values().get("mirrored")).settings()
    assert (columns["task"], columns["task.variant"], columns["task.mirrored"]) == (published, "a_b", True)


def test_tasks_can_be_excluded_by_an_option():
    table = {"name": "_dummies.plugins:PublishedStripes", "variant": ["a", "b"]}
    study = tiny(task=[table], exclude=[{"task.variant": "a"}])
    trials = expand(study, dict.fromkeys(study.tasks, ""))
    assert {t.task.values().get("variant") for t in trials} == {None, "b"}


def test_corruption_is_identity_only_where_corrupted_images_are_shown():
    streams = [{"protocol": "continual", "images": 24, "corruptions": [["clean"], ["fog"]]}]
    kinds = ({}, {"files": "published"}, {"seed": 1}, {"engine": "reference"}, {"constants": "imagenet"})
    found = [expand(tiny(stream=streams, corruption=kind), DIGESTS) for kind in kinds]
    for trials in found[1:]:
        same = {t.identity for t in trials} & {t.identity for t in found[0]}
        assert same == {t.identity for t in trials if t.corrupted_images == ""}
        assert len(same) == len(trials) / 2
        assert {t.quantization for t in trials} == {t.quantization for t in found[0]}
    assert {t.settings()["corrupted_images"] for t in found[1]} == {"", "published files"}
    assert {t.settings()["corrupted_images"] for t in found[2]} == {"", "regenerated"}
    ignored = expand(tiny(stream=streams, corruption={"files": "published", "seed": 4}), DIGESTS)
    assert {t.identity for t in ignored} == {t.identity for t in found[1]}


def test_a_stream_whose_domains_fail_is_taken_to_be_corrupted(monkeypatch):
    monkeypatch.setattr(plugins.Aimless, "domains", lambda self: 1 / 0)
    shows_corruption.cache_clear()
    assert shows_corruption(registry.configure("protocols", "_dummies.plugins:Aimless"))
    shows_corruption.cache_clear()


def test_labels_tell_equal_names_apart():
    stream = {"protocol": "continual", "images": [12, 24], "clean_first": True}
    quantizer = {"method": plugins.SCALED, "fold_norm": [True, False]}
    found = pd.DataFrame(labels(expand(tiny(stream=[stream], quantizer=[quantizer]), DIGESTS)).values())
    assert set(found["stream_label"]) == {f"usual order, severity 5 images={n}" for n in (12, 24)}
    assert {"Scaled fold norm W8A8", "Scaled W8A8"} <= set(found["quantizer_label"])


def test_every_setting_has_a_column():
    trial = next(t for t in expand(tiny(), DIGESTS) if t.quantizer.bits)
    columns = trial.settings()
    assert columns["bits"] == "W4A4"
    assert columns["first_last_bits"] == 8
    assert columns["stream.batch_size"] == 7
    assert columns["stream.corruptions"] == '["gaussian_noise","contrast","brightness"]'
    assert '"size":6' in columns["calibration"]


def test_overrides_are_part_of_an_identity_and_a_column_of_json():
    def quantized(**options):
        study = tiny(quantizer=[{"method": plugins.SCALED, "bits": "W4A4", **options}])
        return [trial for trial in expand(study, DIGESTS) if trial.quantizer.bits]

    plain, mixed = quantized(), quantized(overrides={"1": "w8a8", "0": "W2A2"})
    assert not {trial.identity for trial in plain} & {trial.identity for trial in mixed}
    assert {trial.identity for trial in mixed} == {
        trial.identity for trial in quantized(overrides={"0": "W2A2", "1": "W8A8"})
    }
    assert mixed[0].settings()["overrides"] == '{"0":"W2A2","1":"W8A8"}'
    assert plain[0].settings()["overrides"] == "{}"
