import pandas as pd
import pytest
from _dummies import plugins
from _dummies.studies import tiny

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.trials import expand, labels, reference

DIGESTS = {plugins.TASK: "d"}


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
    assert not {t.identity for t in expand(tiny(), {plugins.TASK: "e"})} & base


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
        ({"quantizer.levls": 1}, "matches no trial"),
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
    assert set(found["stream_label"]) == {"usual order, severity 1", "reversed order, severity 1"}
    assert set(found["calibration_label"]) == {"none", "6 images"}


def test_labels_tell_equal_names_apart():
    stream = {"protocol": "continual", "images": 24, "batch_size": [4, 8], "clean_first": True}
    quantizer = {"method": plugins.SCALED, "fold_norm": [True, False]}
    found = pd.DataFrame(labels(expand(tiny(stream=[stream], quantizer=[quantizer]), DIGESTS)).values())
    assert set(found["stream_label"]) == {f"usual order, severity 5 batch size={n}" for n in (4, 8)}
    assert {"Scaled fold norm W8A8", "Scaled W8A8"} <= set(found["quantizer_label"])


def test_every_setting_has_a_column():
    trial = next(t for t in expand(tiny(), DIGESTS) if t.quantizer.bits)
    columns = trial.settings()
    assert columns["bits"] == "W4A4"
    assert columns["first_last_bits"] == 8
    assert columns["stream.batch_size"] == 7
    assert columns["stream.corruptions"] == '["gaussian_noise","contrast","brightness"]'
    assert '"size":6' in columns["calibration"]
