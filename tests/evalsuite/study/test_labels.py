"""Two settings of a study never have one label: records are pooled and compared by it."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from _dummies.studies import tiny

from evalsuite.study.labels import labels
from evalsuite.study.trials import expand

RANGES = ["minmax", "percentile", "mse"]
GRIDS = {
    "rtn": {"range": RANGES, "weight_range": ["same", *RANGES]},
    "gptq": {"range": RANGES, "weight_range": ["same", "minmax"]},
    "repq_vit": {"range": ["tails", "minmax"], "weight_range": ["minmax", "mse"]},
}


@pytest.mark.parametrize("method", sorted(GRIDS))
def test_a_word_that_two_options_may_hold_names_one_setting(method):
    study = tiny(quantizer=[{"method": method, "bits": ["W4A4", "W3A3"]} | GRIDS[method]])
    settings = defaultdict(set)
    for identity, named in labels(trials := expand(study, dict.fromkeys(study.tasks, ""))).items():
        trial = next(one for one in trials if one.identity == identity)
        settings[named["quantizer_label"]].add(json.dumps(trial.quantizer.as_dict(), sort_keys=True))
    assert all(len(own) == 1 for own in settings.values())
    assert len(settings) == 2 * len(GRIDS[method]["range"]) * len(GRIDS[method]["weight_range"]) + 1


def test_names_that_tell_settings_apart_stay_short():
    study = tiny(quantizer=[{"method": "rtn", "bits": "W4A4", "range": ["mse", "minmax"]}])
    named = {own["quantizer_label"] for own in labels(expand(study, dict.fromkeys(study.tasks, ""))).values()}
    assert named == {"full precision", "rtn mse W4A4", "rtn minmax W4A4"}
