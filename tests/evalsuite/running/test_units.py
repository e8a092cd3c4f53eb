from collections import Counter

import pytest
from _dummies import plugins
from _dummies.studies import tiny

from evalsuite import store
from evalsuite.running.estimates import Estimates, Measured, kind_of, learnt
from evalsuite.running.units import GROUPS_PER_WORKER, Schedule, Shown, unit
from evalsuite.study.trials import adapts, expand, passes_of


def trials_of(**changes):
    study = tiny(**changes)
    return expand(study, dict.fromkeys(study.tasks, ""))


def shows_of(trials, images=24):
    """By seed other images of three domains, which both orders of a seed show."""
    return {
        (t.task, t.stream, t.seed): Shown(3 * images, {f"{t.seed} {domain}": images for domain in range(3)})
        for t in trials
    }


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_groups_are_a_partition_in_order(workers):
    trials = trials_of(seeds=list(range(30)))
    groups = Schedule(workers, Estimates(), shows_of(trials)).groups(trials)
    assert Counter(t.identity for group in groups for t in group) == Counter(t.identity for t in trials)
    place = {trial.identity: number for number, trial in enumerate(trials)}
    for group in groups:
        assert len({unit(trial) for trial in group}) == 1
        if adapts(group[0].adapter):
            assert [place[t.identity] for t in group] == sorted(place[t.identity] for t in group)


@pytest.mark.parametrize("workers", [2, 4])
def test_no_group_is_more_than_a_share_unless_it_cannot_be_parted(workers):
    """2,000 trials of one network and adapter are many groups, and the longest come first."""
    trials = [t for t in trials_of(seeds=list(range(500))) if t.quantizer.bits is None]
    shows = shows_of(trials)
    schedule = Schedule(workers, Estimates(), shows)
    groups = schedule.groups(trials)
    passes = [passes_of(group[0].adapter) * _images(group, shows) for group in groups]
    assert passes == sorted(passes, reverse=True)
    assert max(passes) <= schedule.share(sum(passes))
    assert len({unit(group[0]) for group in groups}) == 2
    assert len(groups) <= 2 * workers * GROUPS_PER_WORKER + 2


def _images(group, shows):
    shown = [shows[t.task, t.stream, t.seed] for t in group]
    if adapts(group[0].adapter):
        return sum(each.length for each in shown)
    return sum({key: count for each in shown for key, count in each.images.items()}.values())


@pytest.mark.parametrize("workers", [2, 3])
def test_predictions_that_trials_share_are_never_parted(workers):
    trials = trials_of(seeds=list(range(20)))
    shows = shows_of(trials)
    of_key = {}
    for number, group in enumerate(Schedule(workers, Estimates(), shows).groups(trials)):
        if not adapts(group[0].adapter):
            for trial in group:
                for key in shows[trial.task, trial.stream, trial.seed].images:
                    of_key.setdefault((trial.quantization, key), set()).add(number)
    assert all(len(numbers) == 1 for numbers in of_key.values())


def test_trials_whose_streams_are_joined_by_a_third_stay_together():
    trials = [t for t in trials_of(seeds=[0, 1, 2, 3]) if t.quantizer.bits is None and not adapts(t.adapter)]
    keys = {0: "ab", 1: "cd", 2: "bc", 3: "e"}
    shows = {(t.task, t.stream, t.seed): Shown(9, dict.fromkeys(keys[t.seed], 9)) for t in trials}
    groups = Schedule(2, Estimates(), shows).groups(trials)
    assert sorted(sorted({t.seed for t in group}) for group in groups) == [[0, 1, 2], [3]]


def test_estimates_are_those_of_the_most_alike():
    trials = trials_of()
    fixed, adapting = (next(t for t in trials if t.quantizer.bits and adapts(t.adapter) == x) for x in (False, True))
    task, quantizer, bits, adapter = kind_of(adapting)
    assert Estimates().image_seconds(adapting) == 3 * Estimates().image_seconds(fixed) == 3

    def measured(bits, images, seconds, quantizing):
        return Measured(task, quantizer, bits, adapter, 3, images, seconds, quantizing, 0)

    known = [measured(bits, 10, 1.0, 4.0), measured(bits, 30, 1.0, 6.0), measured("W8A8", 10, 7.0, 50.0)]
    estimates = Estimates(known)
    assert estimates.image_seconds(adapting) == pytest.approx(2 / 40)
    assert estimates.quantize_seconds(adapting) == pytest.approx(5.0)
    assert Estimates(known[2:]).image_seconds(adapting) == pytest.approx(0.7)  # other bits of the same method
    assert Estimates(known[2:]).quantize_seconds(adapting) == pytest.approx(50.0)
    assert estimates.image_seconds(fixed) == pytest.approx(9.0 / (3 * 50))  # nothing alike: the mean price of a pass
    assert Estimates().quantize_seconds(adapting) is None
    full = next(t for t in trials if t.quantizer.bits is None)
    assert Estimates().quantize_seconds(full) == 0.0


def test_networks_of_which_nothing_is_known_are_made_first_then_the_slow():
    trials = [
        t
        for t in trials_of(quantizer=[{"method": plugins.SCALED, "bits": ["W4A4", "W8A8", "W2A2"]}])
        if t.quantizer.bits and not adapts(t.adapter)
    ][::2]
    kinds = [kind_of(t) for t in trials]
    took = dict(zip(kinds, (1.0, 9.0, 4.0), strict=True))
    known = [Measured(*kind, 1, 10, 1.0, seconds, 0) for kind, seconds in took.items()]
    ordered = Schedule(2, Estimates(known), {}).quantizing_order(trials)
    assert [kind_of(t)[2] for t in ordered] == ["W8A8", "W2A2", "W4A4"]
    assert Schedule(2, Estimates(), {}).quantizing_order(trials) == trials


def test_estimates_come_from_the_rows_of_the_run(finished):
    trials = expand(tiny(), dict.fromkeys(tiny().tasks, ""))
    rows = store.read_rows(finished.folder)
    assert learnt(trials, rows).count == 0  # of other digests: other trials
    named = dict(zip((t.identity for t in trials), rows.values(), strict=True))
    assert learnt(trials, named).count == 12
