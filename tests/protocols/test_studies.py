from pathlib import Path

import pytest

from evalsuite.corruptions import HELD_OUT
from evalsuite.errors import NotHere
from evalsuite.registry import names
from evalsuite.running.options import RunOptions
from evalsuite.running.plan import checked_images, planned
from evalsuite.study.file import read

CHOICES = sorted((Path(__file__).parents[2] / "benchmarks" / "choices").glob("*.toml"))


@pytest.mark.parametrize("name", names("studies"))
def test_registered_studies_are_sound_and_named_as_registered(name):
    study = read(name)
    assert study.name == name
    assert study.quantizers[0].bits is None, "the first is the reference, full precision"


@pytest.mark.parametrize("name", names("studies"))
def test_registered_studies_find_the_images_that_they_ask_for(name, request, tmp_path, monkeypatch):
    """A study may be sound and still ask a pool for more images of a class than it has."""

    def look(root):
        workspace = RunOptions(device="cpu", data_root=root).workspace(tmp_path / "run")
        assert checked_images(planned(read(name), workspace, "").missing, workspace).images

    try:
        with monkeypatch.context() as changed:
            changed.delenv("EVALSUITE_DATA", raising=False)
            look(None)
    except NotHere:
        look(str(request.getfixturevalue("data_root")))


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.stem)
def test_options_are_chosen_on_corruptions_that_no_test_shows(file):
    study = read(file)
    assert study.name == file.stem
    for stream in study.streams:
        assert set(stream.build().corruptions) <= set(HELD_OUT)
