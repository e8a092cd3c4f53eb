import pytest
from _dummies.studies import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.study.cost import cost_of
from evalsuite.study.shards import Shard, part_of, split
from evalsuite.study.trials import expand, reference

STUDY = tiny(seeds=[0, 1, 2], adapter=[{"method": ["none", "_dummies.plugins:Drifting"]}])
TRIALS = expand(STUDY, {STUDY.tasks[0]: "d"})
MODELS = len({trial.quantization for trial in TRIALS})


@settings(max_examples=15)
@given(st.integers(1, MODELS), st.permutations(range(len(TRIALS))))
def test_every_trial_is_in_one_part_whatever_their_order(parts, order):
    dealt = split(TRIALS, STUDY, parts)
    assert sorted(t.identity for part in dealt for t in part) == sorted(t.identity for t in TRIALS)
    models = [{trial.quantization for trial in part} for part in dealt]
    assert sum(map(len, models)) == MODELS
    assert all(models)
    again = split([TRIALS[index] for index in order], STUDY, parts)
    assert [{t.identity for t in part} for part in again] == [{t.identity for t in part} for part in dealt]
    loads = [cost_of(STUDY, part)["image_passes"] + len(part) for part in dealt]
    assert max(loads) - min(loads) <= max(
        cost_of(STUDY, [t for t in TRIALS if t.quantization == model])["image_passes"] + len(TRIALS)
        for model in {t.quantization for t in TRIALS}
    )


@pytest.mark.parametrize("parts", [1, 2, MODELS])
def test_a_part_has_the_references_of_its_trials(parts):
    for number in range(1, parts + 1):
        part = {trial.identity for trial in part_of(TRIALS, STUDY, Shard(number, parts))}
        assert {reference(t, STUDY).identity for t in TRIALS if t.identity in part} <= part


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "a/b", "1", "1/", "-1/4", "1.5/4", "1/4/2", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(RequestError, match="expected K/N"):
        Shard.parse(text)


def test_more_parts_than_models_are_refused():
    with pytest.raises(RequestError, match=f"{MODELS + 1} shards of {MODELS} models"):
        part_of(TRIALS, STUDY, Shard(1, MODELS + 1))
