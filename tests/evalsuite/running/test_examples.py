import io

import numpy as np
import pytest
from _dummies import plugins
from PIL import Image

from evalsuite import checksums, load
from evalsuite.analysis.flips import mistakes_of
from evalsuite.analysis.outcomes import read_outcomes
from evalsuite.files import read_arrays
from evalsuite.running import examples, harness
from evalsuite.running.task_data import task_data
from evalsuite.study.file import parse

STUDY = {
    "name": "tiny",
    "task": [{"name": plugins.TASK}],
    "calibration": [{"protocol": "calibration", "size": 8}],
    "quantizer": [{"method": "full_precision"}, {"method": plugins.FORGETTING, "bits": "W4A4"}],
    "adapter": [{"method": "none"}],
    "stream": [{"protocol": "continual", "images": 12, "corruptions": ["fog", "contrast"], "clean_first": True}],
}


def run(folder, **changes):
    return harness.run(parse(STUDY | changes), folder, device="cpu", in_process=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run(tmp_path_factory.mktemp("examples") / "run")


def pictures(kept):
    """Yield task, domain, severity, image and the pixels of each picture of a negative flip."""
    places = zip(*(kept[f"flip_{name}"].tolist() for name in ("tasks", "domains", "severities", "images")), strict=True)
    ends = kept["flip_ends"].tolist()
    for place, start, end in zip(places, [0, *ends][: len(ends)], ends, strict=True):
        yield place, np.asarray(Image.open(io.BytesIO(kept["flip_pictures"][start:end].tobytes())))


def test_a_run_keeps_an_image_of_each_domain(folder):
    kept = read_arrays(folder / examples.FILE)
    assert kept["domains"].tolist() == ["clean", "fog 5", "contrast 5"]
    assert kept["images"].shape[0] == len(kept["labels"]) == 3
    assert kept["images"].dtype == np.uint8
    assert not np.array_equal(kept["images"][1], kept["images"][0])


def test_a_run_says_what_its_methods_say_of_themselves(folder):
    told = load(folder).study["methods"]
    assert told["none"] == "Leave the model as it is."
    assert told[plugins.FORGETTING] == "Knows the second class less well than the others."


def test_it_keeps_what_the_worst_groups_lose_as_the_network_met_it(folder):
    found = load(folder)
    mistakes = mistakes_of(found, read_outcomes(found), None)
    wanted = set(mistakes[["task", "domain", "severity", "image"]].itertuples(index=False, name=None))
    kept = dict(pictures(read_arrays(folder / examples.FILE)))
    assert len(wanted) > 2
    assert set(kept) == wanted
    clean = task_data(parse(STUDY).tasks[0], None).test_images
    for (_, domain, _, image), pixels in kept.items():
        assert pixels.shape == clean[image].shape
        if domain == "clean":
            assert np.abs(pixels.astype(float) - clean[image]).mean() < 40  # of 255; WebP loses some


def test_a_file_stays_unless_it_is_damaged_or_of_other_trials(folder):
    file = folder / examples.FILE
    before = file.read_bytes()
    run(folder)
    assert file.read_bytes() == before
    file.write_bytes(before[: len(before) // 2])
    with pytest.warns(checksums.DamageWarning, match="kept again"):
        run(folder)
    assert file.read_bytes() == before
    with checksums.sealing(file) as temporary:  # as an earlier version wrote it
        np.savez_compressed(temporary, images=np.zeros((1, 2, 2, 3), np.uint8), labels=np.array(["a"]))
        checksums.append_blank(temporary)
    run(folder)
    assert file.read_bytes() == before
    np.savez(file, images=np.zeros((1, 2, 2, 3), np.uint8), labels=np.array(["somebody's own"]))
    own = file.read_bytes()
    run(folder)
    assert file.read_bytes() == own
    file.write_bytes(before)


def test_nothing_is_kept_of_a_private_task(folder):
    file = folder / examples.FILE
    before = file.read_bytes()
    run(folder, task=[{"name": plugins.TASK, "private": True}])
    assert not file.exists()
    assert load(folder).study["tasks"][plugins.TASK]["private"] is True
    run(folder)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("name", "most"), [("MOST_PICTURES", 2), ("MOST_BYTES", 1200)])
def test_pictures_are_bounded_in_number_and_bytes(folder, monkeypatch, name, most):
    file = folder / examples.FILE
    before, whole = file.read_bytes(), [place for place, _ in pictures(read_arrays(file))]
    monkeypatch.setattr(examples, name, most)
    file.unlink()
    run(folder)
    kept = read_arrays(file)
    file.write_bytes(before)
    part = [place for place, _ in pictures(kept)]
    assert 0 < len(part) < len(whole)
    assert part == whole[: len(part)]
    assert (len(part) if name == "MOST_PICTURES" else len(kept["flip_pictures"])) <= most


def test_files_of_several_runs_become_one_with_the_pictures_of_all(folder, tmp_path):
    whole = read_arrays(folder / examples.FILE)
    every = dict(examples._flips_in(whole))
    for place, name in enumerate("ab"):
        part = {shown: every[shown] for shown in list(every)[place::2]}
        (tmp_path / name).mkdir()
        examples._write(tmp_path / name / examples.FILE, whole | examples._packed(part))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / examples.FILE).write_bytes((folder / examples.FILE).read_bytes()[:-99])
    (tmp_path / "out").mkdir()
    with pytest.warns(checksums.DamageWarning, match="left out"):
        examples.merge_examples(tmp_path / "out", [tmp_path / name for name in ("a", "missing", "damaged", "b")])
    merged = read_arrays(tmp_path / "out" / examples.FILE)
    assert list(examples._flips_in(merged).items()) == list(every.items())
    assert np.array_equal(merged["images"], whole["images"])


def test_a_large_picture_is_kept_small_in_its_own_shape():
    picture = Image.open(io.BytesIO(examples._webp(np.full((240, 120, 3), 200, np.uint8))))
    assert picture.size == (examples.SIDE // 2, examples.SIDE)
