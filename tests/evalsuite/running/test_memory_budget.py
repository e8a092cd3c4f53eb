"""A memory budget changes how trials are done and never what they give; what cannot fit is said in a line."""

import dataclasses
import itertools

import pytest
from _dummies.studies import execute, tiny
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import registry, store
from evalsuite.errors import RequestError
from evalsuite.plugins import COST_ONLY, GIGABYTES
from evalsuite.running.memory_budget import build_within, check_fits, gigabytes, with_fewer
from evalsuite.running.system import free_memory


@pytest.mark.parametrize(
    ("text", "size"), [("4", 4), ("4G", 4), (" 4 gb", 4), ("1.5GiB", 1.5), ("500M", 0.5), ("2T", 2000)]
)
def test_sizes_are_read(text, size):
    assert gigabytes(text) == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "0", "-1", "4X", "G", "1e400G4", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(RequestError, match="expected a size such as 4, 4G or 500M"):
        gigabytes(text)


def test_caches_of_all_quantizers_take_a_part_of_a_budget():
    capped = []
    for name in registry.names("quantizers"):
        if "path" in {field.name for field in dataclasses.fields(registry.load("quantizers", name))}:
            continue  # somebody's network, which has no cache
        setting = registry.configure("quantizers", name)
        plugin, within = setting.build(), build_within(setting, 0.4e9)
        for field in dataclasses.fields(plugin):
            before, after = getattr(plugin, field.name), getattr(within, field.name)
            assert (GIGABYTES in field.metadata) == field.name.endswith("_gigabytes")
            if GIGABYTES in field.metadata:
                assert field.metadata[COST_ONLY]
                assert after == pytest.approx(0.1e9 / 2**30)
                assert after < before
                capped.append(name)
            else:
                assert after == before
        assert build_within(setting, 1e12) == plugin == build_within(setting, None)
    assert {"brecq", "ptq4vit"} <= set(capped)


@given(st.integers(1, 300), st.integers(1, 300))
def test_half_as_many_until_they_fit(wanted, fitting):
    asked = []

    def take(count):
        asked.append(count)
        if count > fitting:
            raise MemoryError
        return count

    assert with_fewer(take, wanted) == (asked[-1], asked[-1])
    assert asked[-1] <= fitting
    assert all(2 * later >= sooner for sooner, later in itertools.pairwise(asked))


def test_other_errors_and_one_that_is_too_many_come_through():
    def fail(error):
        raise error

    with pytest.raises(ZeroDivisionError):
        with_fewer(lambda count: fail(ZeroDivisionError()), 8)
    with pytest.raises(MemoryError):
        with_fewer(lambda count: fail(MemoryError()), 8)


def test_a_network_that_cannot_fit_is_named():
    check_fits([("small", 10)], 10)
    with pytest.raises(RequestError, match=r"about 6\.0 GB for the networks of task 'large'.* not 4 GB \(--memory\)"):
        check_fits([("small", 1), ("large", 6_000_000_000)], 4e9)


def test_a_run_keeps_to_its_budget(tmp_path):
    if free_memory() is None:
        pytest.skip("the system does not say what memory is used")
    study = tiny(
        quantizer=[{"method": "_dummies.plugins:Hungry", "bits": "W4A4"}],
        adapter=[{"method": ["none", "_dummies.plugins:Drifting"]}],
        stream=[{"protocol": "continual", "images": 24, "batch_size": 24, "severity": 1, "corruptions": ["contrast"]}],
    )
    with pytest.raises(RequestError, match=r"expected at least so much memory, not 0\.3 GB"):
        execute(study, tmp_path / "narrow", in_process=False, memory=0.3)
    assert not (tmp_path / "narrow").exists()
    execute(study, tmp_path / "free")
    execute(study, tmp_path / "kept", in_process=False, memory=0.75)
    free, kept = (store.load(tmp_path / name) for name in ("free", "kept"))
    fixed, adapted = (
        kept.trials[kept.trials["bits"] == "W4A4"].set_index("adapter_label").loc[name] for name in ("none", "Drifting")
    )
    assert fixed["status"] == "done"
    assert free.records_of(fixed["trial"]).equals(kept.records_of(fixed["trial"]))
    assert (adapted["status"], adapted["reason_code"]) == ("failed", "memory")
    assert adapted["reason"].startswith("more than the memory limit of 0.75 GB (--memory-limit or --memory)")
