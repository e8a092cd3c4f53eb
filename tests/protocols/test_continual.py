import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON
from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.streams import round_of
from evalsuite.study.file import read
from evalsuite.study.trials import expand, plan_stream
from protocols.continual import ContinualOrder

LABELS = np.random.default_rng(7).permutation(np.arange(60) % 4)
NAMES = ("fog", "clean", "snow", "contrast")

options = st.fixed_dictionaries(
    {},
    optional={
        "order": st.sampled_from(["usual", "reversed", "random"]),
        "severity": st.integers(1, 5),
        "images": st.integers(20, 30),
        "batch_size": st.integers(1, 70),
        "clean_first": st.booleans(),
        "reset": st.sampled_from(["never", "domain", 1, 3]),
        "corruptions": st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True).map(tuple),
        "gradual": st.booleans(),
        "rounds": st.integers(1, 3),
        "mixed": st.booleans(),
        "label_order": st.sampled_from(["shuffled", "sorted", "dirichlet"]),
        "concentration": st.sampled_from([0.01, 1.0]),
        "slots": st.sampled_from([None, 1, 9]),
        "imbalance": st.sampled_from([1.0, 2.0]),
        "bursts": st.integers(0, 2),
        "burst_length": st.integers(2, 4),
    },
)


def composed(chosen):
    return ContinualOrder(**{"images": 20, "corruptions": NAMES, "burst_length": 4, **chosen})


def planned(seed=0, labels=LABELS, **chosen):
    protocol = ContinualOrder(**{"images": 20, "batch_size": 8, "corruptions": NAMES[:1] + NAMES[2:], **chosen})
    return protocol.plan(labels, np.random.default_rng(seed))


def asked_for(protocol):
    """How often each domain is to be shown, written out plainly."""
    shown = Counter({"clean": protocol.rounds if protocol.clean_first else 0})
    for name, _ in itertools.product(protocol.corruptions, range(protocol.rounds)):
        for severity in [*range(1, protocol.severity), *range(protocol.severity, 0, -1)]:
            if name == "clean":
                shown["clean"] += severity == protocol.severity
            elif protocol.gradual or severity == protocol.severity:
                shown[f"{name} {severity}"] += 1
    return +shown


@given(options, st.integers(0, 1000))
def test_whatever_is_combined_every_image_is_shown_under_every_domain_as_often_as_asked(chosen, seed):
    protocol = composed(chosen)
    stream = protocol.plan(LABELS, np.random.default_rng(seed))
    assert len(stream) == protocol.length
    assert stream.domains == protocol.domains()
    wanted = asked_for(protocol)
    images = np.unique(stream.image)
    assert len(images) == protocol.images
    for number, domain in enumerate(stream.domains):
        assert np.array_equal(np.sort(stream.image[stream.domain == number]), np.repeat(images, wanted[str(domain)])), (
            domain
        )
    assert sum(wanted.values()) * protocol.images == len(stream)
    if protocol.imbalance == 1:
        assert np.array_equal(images, np.arange(protocol.images))


@given(options, st.integers(0, 1000))
def test_images_of_their_own_are_those_that_the_domains_share_and_the_next(chosen, seed):
    shared = composed({**chosen, "imbalance": 1.0})
    own = replace(shared, own_images=True)
    labels = np.random.default_rng(7).permutation(np.arange(1500) % 4)
    one, other = (protocol.plan(labels, np.random.default_rng(seed)) for protocol in (own, shared))
    assert np.array_equal(one.domain, other.domain) or shared.bursts or shared.label_order != "shuffled"
    shown = {str(domain): set(one.image[one.domain == number]) for number, domain in enumerate(one.domains)}
    assert sorted(itertools.chain(*shown.values())) == list(range(own.images * len(one.domains)))
    assert all(len(images) == own.images for images in shown.values())
    reversed_ = replace(own, order="reversed").plan(labels, np.random.default_rng(seed))
    assert {str(each): set(reversed_.image[reversed_.domain == k]) for k, each in enumerate(reversed_.domains)} == shown


@given(options, st.integers(0, 1000))
def test_batches_cover_all_positions_once_and_reset_where_asked(chosen, seed):
    protocol = composed(chosen)
    stream = protocol.plan(LABELS, np.random.default_rng(seed))
    batches = list(stream.batches())
    assert np.array_equal(np.concatenate([batch.image for batch in batches]), stream.image)
    assert np.array_equal(np.concatenate([batch.domain for batch in batches]), stream.domain)
    assert max(len(batch.image) for batch in batches) <= protocol.batch_size
    resets = [batch.start for batch in batches if batch.reset]
    if protocol.reset == "never":
        assert resets == []
    elif protocol.reset == "domain":
        apart = len(stream) // protocol.rounds if protocol.mixed else protocol.images
        assert resets == list(range(0, len(stream), apart))
        assert all(len(set(batch.domain)) == 1 for batch in batches) or protocol.mixed
    else:
        assert resets == [batch.start for batch in batches][:: protocol.reset]


@given(options, options, st.integers(0, 1000))
def test_digests_are_equal_for_equal_settings_and_for_equal_streams_only(one, other, seed):
    plans = [composed(chosen).plan(LABELS, np.random.default_rng(seed)) for chosen in (one, one, other)]
    assert plans[0].digest() == plans[1].digest()
    alike = plans[0].domains == plans[2].domains and all(
        np.array_equal(getattr(plans[0], part), getattr(plans[2], part))
        for part in ("image", "domain", "starts", "resets")
    )
    assert alike == (plans[0].digest() == plans[2].digest())


@pytest.mark.parametrize("seed", range(5))
def test_every_option_changes_the_stream(seed):
    changes = [
        {},
        {"order": "reversed"},
        {"severity": 4},
        {"images": 21},
        {"batch_size": 9},
        {"clean_first": True},
        {"reset": "domain"},
        {"reset": 2},
        {"corruptions": ("fog",)},
        {"gradual": True},
        {"rounds": 2},
        {"mixed": True},
        {"label_order": "sorted"},
        {"label_order": "dirichlet"},
        {"label_order": "dirichlet", "concentration": 0.5},
        {"label_order": "dirichlet", "slots": 7},
        {"imbalance": 2.0},
        {"bursts": 1},
        {"bursts": 2, "burst_length": 3},
        {"own_images": True},
    ]
    changes = [{"burst_length": 4} | change for change in changes]
    assert len({planned(seed, **change).digest() for change in changes}) == len(changes)


def test_streams_are_those_of_the_first_version():
    """Options that were added later, left at their defaults, change no stream of a study."""
    known = {"quick": ["647ffadbd78e99a2", "cb8819e27b325c3e"], "cifar10": ["5221a8fa53920a1a"]}
    for name, digests in known.items():
        study = read(name)
        trials = expand(study, dict.fromkeys(study.tasks, ""))
        streams = {trial.stream: plan_stream(trial, np.zeros(2000, np.int64)) for trial in trials}
        assert [stream.digest() for stream in streams.values()] == digests


def test_reversed_is_the_usual_list_backwards():
    usual, back = (ContinualOrder(order=order).domains() for order in ("usual", "reversed"))
    assert usual == back[::-1]
    assert [domain.name for domain in usual] == list(COMMON)


def sequence(stream):
    """The domains as they come."""
    changes = np.flatnonzero(np.diff(stream.domain, prepend=-1))
    return [str(stream.domains[number]) for number in stream.domain[changes]]


def test_random_order_is_drawn_from_the_seed_and_kept_over_rounds():
    orders = [
        sequence(planned(seed, order="random", corruptions=COMMON, rounds=2, clean_first=True)) for seed in (0, 1)
    ]
    for order in orders:
        assert order[:16] == order[16:]
        assert order[0] == "clean"
        assert sorted(order[1:16]) == sorted(f"{name} 5" for name in COMMON)
    assert orders[0] != orders[1]


def test_gradual_severity_rises_and_falls_within_each_corruption():
    shown = sequence(planned(gradual=True, severity=3, corruptions=("fog", "clean", "snow")))
    fog, snow = ([f"{name} {severity}" for severity in (1, 2, 3, 2, 1)] for name in ("fog", "snow"))
    assert shown == [*fog, "clean", *snow]
    assert sequence(planned(gradual=True, severity=1, corruptions=("fog",))) == ["fog 1"]


def test_rounds_repeat_the_domains_with_images_shuffled_anew():
    stream = planned(rounds=3)
    which = round_of(np.arange(len(stream)), len(stream), 3)
    rounds = [stream.domain[which == k] for k in range(3)]
    assert np.array_equal(rounds[0], rounds[1])
    assert np.array_equal(rounds[0], rounds[2])
    assert not np.array_equal(stream.image[which == 0], stream.image[which == 1])


def test_mixed_batches_hold_several_domains_of_one_round():
    stream = planned(mixed=True, rounds=2, batch_size=20, reset="domain")
    assert all(len(set(batch.domain)) == 3 for batch in stream.batches())
    assert stream.resets.sum() == 2
    for half in np.split(stream.domain, 2):
        assert np.array_equal(np.bincount(half), [20, 20, 20])


@given(st.booleans(), st.integers(0, 100))
def test_sorted_labels_rise_within_each_domain_or_mixed_round(mixed, seed):
    stream = planned(seed, label_order="sorted", mixed=mixed, rounds=2)
    shown = LABELS[stream.image].reshape(2 if mixed else 6, -1)
    assert (np.diff(shown, axis=1) >= 0).all()
    assert (shown[:, 0] == 0).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_correlation_survives_mixing(mixed):
    labels = np.random.default_rng(3).permutation(np.arange(2000) % 10)
    common = {"images": 2000, "labels": labels, "mixed": mixed, "slots": 50, "label_order": "dirichlet"}
    same = []
    for concentration in (1e-4, 1e4):
        shown = labels[planned(concentration=concentration, **common).image]
        same.append(np.mean(shown[1:] == shown[:-1]))
    assert same[0] > 0.5
    assert same[1] == pytest.approx(0.1, abs=0.03)


def test_long_tail_is_the_same_in_every_domain_and_its_head_the_seeds():
    heads = set()
    for seed in range(20):
        stream = planned(seed, imbalance=4.0, rounds=2)
        counts = [np.bincount(LABELS[part], minlength=4) for part in stream.image.reshape(6, -1)]
        assert all(np.array_equal(count, counts[0]) for count in counts)
        assert counts[0].max() == 9
        assert counts[0].min() == 2
        heads.add(int(counts[0].argmax()))
    assert heads == {0, 1, 2, 3}
    with pytest.raises(RequestError, match="long tail"):
        planned(images=60, imbalance=4.0)


def test_label_shift_without_corruption():
    for corruptions, clean_first in ((("clean",), False), ((), True)):
        stream = planned(
            corruptions=corruptions, clean_first=clean_first, imbalance=4.0, label_order="sorted", images=20
        )
        assert [str(domain) for domain in stream.domains] == ["clean"]
        assert (np.diff(LABELS[stream.image]) >= 0).all()
        assert len(stream) == 20


def test_other_options_leave_the_draws_alone():
    usual, sorted_ = planned(), planned(label_order="sorted")
    for part, own in zip(usual.image.reshape(3, -1), sorted_.image.reshape(3, -1), strict=True):
        assert np.array_equal(part[np.argsort(LABELS[part], kind="stable")], own)
    one, two = (configure("protocols", "continual", {"gradual": gradual}) for gradual in (False, True))
    assert one.as_dict() != two.as_dict()


def test_clean_comes_first_in_either_order():
    for order in ("usual", "reversed"):
        assert ContinualOrder(order=order, clean_first=True).domains()[0].name == "clean"


def test_batches_run_across_domains_unless_an_oracle_resets():
    assert any(len(set(batch.domain)) == 2 for batch in planned().batches())
    assert all(len(set(batch.domain)) == 1 for batch in planned(reset="domain").batches())


@pytest.mark.parametrize(
    ("chosen", "label"),
    [
        ({}, "usual order, severity 5"),
        ({"order": "reversed", "severity": 3, "reset": "domain"}, "reversed order, severity 3, oracle reset"),
        ({"gradual": True, "rounds": 2}, "usual order, severity 1 to 5 and back, 2 rounds"),
        ({"mixed": True, "label_order": "sorted"}, "usual order, severity 5, mixed domains, sorted labels"),
        ({"corruptions": ("clean",), "imbalance": 10.0, "reset": 5}, "clean, long tail 10, reset every 5 batches"),
        (
            {"label_order": "dirichlet", "bursts": 2, "batch_size": 1},
            "usual order, severity 5, Dirichlet 0.1 labels, 2 bursts of 16, batches of 1",
        ),
    ],
)
def test_label(chosen, label):
    assert str(ContinualOrder(**chosen)) == label


def test_more_images_than_the_test_set_has():
    with pytest.raises(RequestError, match="61 images a domain: the test set has 60"):
        planned(images=61)
    with pytest.raises(RequestError, match="21 images a domain for each of 3, none shown by two: the test set has 60"):
        planned(images=21, own_images=True)


@pytest.mark.parametrize(
    "chosen",
    [
        {"severity": 6},
        {"corruptions": ()},
        {"corruptions": ("foggy",)},
        {"images": 0},
        {"batch_size": 0},
        {"rounds": 0},
        {"reset": 0},
        {"slots": 0},
        {"slots": 21, "images": 20},
        {"concentration": 0.0},
        {"concentration": float("inf")},
        {"imbalance": 0.5},
        {"imbalance": 2.0, "own_images": True},
        {"bursts": -1},
        {"burst_length": 1},
    ],
)
def test_impossible_streams_are_refused(chosen):
    with pytest.raises(RequestError):
        ContinualOrder(**chosen)


def test_a_study_may_give_either_kind_of_reset():
    assert [configure("protocols", "continual", {"reset": reset}).values()["reset"] for reset in ("domain", 4)] == [
        "domain",
        4,
    ]
    with pytest.raises(RequestError, match="reset"):
        configure("protocols", "continual", {"reset": "sometimes"})
