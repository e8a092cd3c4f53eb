import pandas as pd

from evalsuite.analysis.families import (
    IN_COMMON,
    comparison_families,
    context_in_words,
    family_in_words,
    wider_families,
    worst_group_families,
    worst_group_family_in_words,
)

QUANTIZERS = {"task": "t", "factor": "quantizer", "question": "quantizers_at_bits", "bits": "W4A4"}
COMMON = {"quantizer_label": None, "calibration_label": "c", "adapter_label": "none", "stream_label": "s"}


def test_labels_that_read_alike_are_not_one_family():
    # Both are worded "calibration c, adapter a, adapter b, stream s".
    labels = [("c, adapter a", "b"), ("c", "a, adapter b")]
    rows = [QUANTIZERS | COMMON | {"calibration_label": c, "adapter_label": a} for c, a in labels]
    assert len({context_in_words(row) for row in rows}) == 1
    frame = pd.DataFrame(rows)
    assert comparison_families(frame).nunique() == wider_families(frame).nunique() == 2


def test_bits_divide_a_family_and_not_the_wider_one():
    rows = [QUANTIZERS | COMMON | {"bits": bits} for bits in ("W4A4", "W8A8", "W4A4")]
    frame = pd.DataFrame(rows, columns=[*QUANTIZERS, *IN_COMMON])
    assert comparison_families(frame).tolist() == [0, 1, 0]
    assert wider_families(frame).tolist() == [0, 0, 0]


def test_what_varies_is_not_worded():
    row = QUANTIZERS | COMMON
    assert context_in_words(row) == "calibration c, adapter none, stream s"
    assert context_in_words(row | {"quantizer_label": float("nan")}) == context_in_words(row)
    assert family_in_words(row) == "quantizers at W4A4, calibration c, adapter none, stream s"


def test_networks_without_adaptation_are_asked_together_and_the_adapters_of_each_apart():
    columns = ["task", "question", "calibration_label", "quantizer_label", "stream_label"]
    rows = [
        ("t", "networks_without_adaptation", "c", "rtn", "s"),
        ("t", "networks_without_adaptation", "c", "gptq", "s"),
        ("t", "adapters_of_network", "c", "rtn", "s"),
        ("t", "adapters_of_network", "c", "gptq", "s"),
        ("t", "adapters_of_network", "c", "rtn", "s"),
    ]
    frame = pd.DataFrame(rows, columns=columns)
    assert worst_group_families(frame).tolist() == [0, 0, 1, 2, 1]
    words = [worst_group_family_in_words(row) for row in frame.to_dict("records")]
    assert words[0] == words[1] == "networks without adaptation, calibration c, stream s"
    assert words[2] == "adapters of rtn, calibration c, stream s"
