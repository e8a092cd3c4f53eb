from pathlib import Path

import pytest

from evalsuite.corruptions import HELD_OUT
from evalsuite.registry import names
from evalsuite.study.file import read

CHOICES = sorted((Path(__file__).parents[2] / "benchmarks" / "choices").glob("*.toml"))


@pytest.mark.parametrize("name", names("studies"))
def test_registered_studies_are_sound_and_named_as_registered(name):
    study = read(name)
    assert study.name == name
    assert study.quantizers[0].bits is None, "the first is the reference, full precision"


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.stem)
def test_options_are_chosen_on_corruptions_that_no_test_shows(file):
    study = read(file)
    assert study.name == file.stem
    for stream in study.streams:
        assert set(stream.build().corruptions) <= set(HELD_OUT)
