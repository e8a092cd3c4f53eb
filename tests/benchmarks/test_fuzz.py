"""The short version of ``benchmarks/fuzz.py``: other seeds, fewer files, no run of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import benchmarks

GOOD = {"noticed", "without effect", "done", "refused", "kinds"}


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))
    import fuzz

    with fuzz.damage_is_an_error():
        yield fuzz


def test_flipped_bits_are_noticed_or_without_effect(fuzz, tmp_path):
    fuzz.corpus(tmp_path)
    counts = fuzz.flips(tmp_path / "run", 60, np.random.default_rng(3))
    assert set(counts) <= GOOD
    assert counts["kinds"] == 4
    assert counts["noticed"] > 50


def test_mutated_study_files_are_read_or_refused(fuzz, tmp_path):
    counts = fuzz.studies(tmp_path, 80, np.random.default_rng(4))
    assert set(counts) <= GOOD
    assert counts["refused"] > 20


def test_mutated_binary_files_are_read_or_refused(fuzz, tmp_path):
    counts = fuzz.binaries(tmp_path, 130, np.random.default_rng(5))
    assert set(counts) <= GOOD
    assert counts["refused"] > 50
