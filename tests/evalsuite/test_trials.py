import pandas as pd
from _dummies import plugins
from _dummies.studies import tiny

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
