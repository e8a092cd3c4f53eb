"""What users' records depend on: identities, columns and names of trials stay what they are, bit for bit."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from _dummies.studies import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json, digest, digest_list, digest_text
from evalsuite.study.file import read
from evalsuite.study.filters import Filters
from evalsuite.study.labels import labels
from evalsuite.study.trials import SCHEMA, adapts, expand, shows_corruption

# Of the shipped studies with the digest "pinned" for every task: number of trials, then digests of their identities,
# columns and labels in order, as the program of November 2026 made them.
PINNED = {
    "ablation": (48, "d672f8f9686e9c29", "e102f21fd9312ecf", "efc0abce96499eb9"),
    "adaptation": (28, "123f95572492b34d", "850f557237194167", "b0950ecf82d862d3"),
    "adapters": (84, "10218b3a8f018893", "888c01d0c086ca98", "3e2cb33b1e73f159"),
    "audit_full": (10160, "a971e17941e14e56", "30a89efad9f9c5b6", "e111f14816ba7508"),
    "audit_quick": (220, "96361dcb9731ee80", "afee008991632a16", "45695facd5cac97b"),
    "audit_standard": (1300, "65cd2c3c24352da4", "9bb558977d1c40db", "8fadd9fc9b8e9317"),
    "cifar10": (12, "caf1c485ab084c71", "f9ad0fc4b059360d", "2e6cb32c4ff9a3a6"),
    "continual": (288, "2560e27a189f60b2", "eb21da9a595da220", "992f04b9cafc7801"),
    "quick": (160, "ca8fe34f01fa35ad", "28631f2a9c4f349f", "1b2a686d5ed04faa"),
    "reliability": (19450, "0428cc6c5f607a71", "c9850926ec96dcbb", "7b346165e55fa784"),
    "reliability_cifar10": (740, "2846d94fe996810d", "f14938c471dd85f1", "caa583147fcdaa54"),
    "reliability_small": (515, "7380e61fa7f88846", "7ebe66e0a6bc09e9", "8d23eebc5581134c"),
    "shift": (60, "692fe66099f9eff1", "9175fd3263921dee", "85bc35436377a11e"),
    "ttaq": (185, "edf35d82a36b4474", "32adca38cf3fdc9c", "fc1d43cf1089c610"),
    "ttaq_hosts": (480, "b7f1ffbfe0b10528", "e3ab6476436a9ba0", "92b219ca0e5f74fc"),
    "zoa": (10, "403b3285a10aa20e", "f3a83be16e0055a9", "6712f8f2f6c915b8"),
    "zoa_foa": (4, "f2522c1b1f22a5ed", "08627a807c8770d5", "95cceaecc45d0652"),
    "zoa_rounds": (45, "d15c71cda32b6806", "1fcaced8ddeb4526", "142ded9ecc71b892"),
    "zoa_transformer": (7, "39eff7604e7bc4e6", "233f746a4da666e9", "118a66bfe8ce1aad"),
}


@pytest.fixture(scope="module")
def shipped():
    studies = {name: read(name) for name in PINNED}
    return {name: expand(study, dict.fromkeys(study.tasks, "pinned")) for name, study in studies.items()}


def test_shipped_studies_keep_identities_columns_and_labels(shipped):
    found = {}
    for name, trials in shipped.items():
        identities = digest_text("\n".join(trial.identity + trial.quantization for trial in trials))
        columns = digest_text(json.dumps([trial.settings() for trial in trials]))
        found[name] = (len(trials), identities, columns, digest_text(json.dumps(labels(trials))))
    assert found == PINNED


def test_an_identity_is_the_digest_of_the_settings(shipped):
    """Whatever is kept ready between trials, the text that is hashed is that of the settings themselves."""
    for trial in itertools.chain.from_iterable(trials[::97] for trials in shipped.values()):
        draw = trial.seed if trial.quantizer.bits is not None else None
        own = [trial.calibration.as_dict(), trial.quantizer.as_dict(), draw]
        assert trial.quantization == digest([SCHEMA, trial.task.as_dict(), trial.digests, *own])
        source = trial.source_images if adapts(trial.adapter) else 0
        corruption = trial.corruption.as_dict() if shows_corruption(trial.stream) else None
        shown = [trial.adapter.as_dict(), trial.stream.as_dict(), trial.seed, source, corruption]
        assert trial.identity == digest([trial.quantization, *shown])


def test_labels_are_unique_within_a_study(shipped):
    for name, trials in shipped.items():
        named = labels(trials)
        for column, setting in (
            ("calibration_label", lambda t: t.calibration),
            ("quantizer_label", lambda t: t.quantizer),
            ("adapter_label", lambda t: t.adapter),
            ("stream_label", lambda t: t.stream),
        ):
            pairs = {(setting(trial), named[trial.identity][column]) for trial in trials}
            assert len(pairs) == len({s for s, _ in pairs}) == len({label for _, label in pairs}), (name, column)


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
            lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
        ),
        max_size=4,
    )
)
@settings(max_examples=50, deadline=None)
def test_a_list_is_hashed_by_its_items(values):
    assert digest_list(map(canonical_json, values)) == digest(values)


def test_filters_leave_out_what_they_match():
    """By axis or by trial is the same, for filters of any number of axes and of options that not all settings have."""
    axes = [
        [{"a": 1, "x": "p"}, {"a": 2}, {"a": 2, "x": "q"}],
        [{"b": "u", "b.k": 0.5}, {"b": "v"}],
        [{"c": number} for number in range(4)],
    ]
    generator = np.random.default_rng(0)
    values = {"a": [1, 2], "x": ["p", "q", "r"], "b": ["u", "v"], "b.k": [0.5, 1], "c": [0, 1, 2, 3], "none": [1]}
    for _ in range(200):
        chosen = []
        for _ in range(generator.integers(1, 4)):
            keys = generator.choice(list(values), generator.integers(1, 4), replace=False)
            drawn = {str(key): [v for v in values[key] if generator.random() < 0.6] for key in keys}
            chosen.append({k: v[0] if len(v) == 1 else v for k, v in drawn.items()})
        filters = Filters([json.dumps(each) for each in chosen], axes)
        met = set()
        for place in itertools.product(*(range(len(axis)) for axis in axes)):
            columns = {k: v for axis, number in zip(axes, place, strict=True) for k, v in axis[number].items()}
            own = {
                number
                for number, each in enumerate(chosen)
                if all(columns.get(k) in (v if isinstance(v, list) else [v]) for k, v in each.items())
            }
            met |= own
            assert filters.match(place) == bool(own), (chosen, columns)
        if len(met) == len(chosen):
            filters.check_used()
        else:
            with pytest.raises(RequestError, match="matches no trial"):
                filters.check_used()


def test_twenty_thousand_trials_are_all_different():
    study = replace(tiny(), seeds=tuple(range(2000)))
    trials = expand(study, dict.fromkeys(study.tasks, ""))
    assert len(trials) == 3 * 2 * 2 * 2000
    assert len({trial.identity for trial in trials}) == len(trials)
    assert len({trial.quantization for trial in trials}) == 2 * 2000 + 1
    assert {trial.identity for trial in expand(tiny(seeds=[1999]), dict.fromkeys(study.tasks, ""))} == {
        trial.identity for trial in trials if trial.seed == 1999
    }
    assert len(labels(trials)) == len(trials)
