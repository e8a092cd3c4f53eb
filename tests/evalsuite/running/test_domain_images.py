from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from _dummies import plugins
from _dummies.studies import execute, tiny
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import checksums, registry
from evalsuite.corruptions import corrupt
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running import domain_images
from evalsuite.running.domain_images import OpenImages, StreamImages, published, trim
from evalsuite.running.workspace import Workspace
from evalsuite.streams import Domain, Stream
from evalsuite.study.tables import Corruption
from evalsuite.study.trials import expand

TASK = registry.configure("tasks", "_dummies.plugins:PublishedStripes")
IMAGES = plugins.StripesTask().data(None).test_images
DOMAINS = (Domain(), Domain("brightness", 2), Domain("contrast", 3))


def trial(**corruption):
    first = expand(tiny(tasks=[TASK.name]), {TASK: ""})[0]
    return replace(first, corruption=Corruption(**corruption))


def stream(image, domain, domains=DOMAINS) -> Stream:
    return Stream(
        domains,
        np.asarray(image, np.int32),
        np.asarray(domain, np.int16),
        np.array([0], np.int64),
        np.array([False]),
    )


def keys(task_trial, *arguments) -> list[str]:
    return [shown.key for shown in domain_images.domain_images(task_trial, stream(*arguments), None)]


MIXED = ([5, 40, 3, 5, 7, 3], [1, 0, 2, 2, 1, 0])


def test_mixed_batches_show_each_image_as_its_domain_does(tmp_path: Path):
    shown = StreamImages(trial(), stream(*MIXED), Workspace(tmp_path))
    image, domain = np.array(MIXED[0]), np.array(MIXED[1])
    fetched = shown.fetch(image, domain)
    for row, i, d in zip(fetched, image, domain, strict=True):
        if d == 0:
            assert (row == IMAGES[i]).all()
        else:
            alone = corrupt(IMAGES[i : i + 1], DOMAINS[d].name, DOMAINS[d].severity, first_index=int(i))
            assert (row == alone[0]).all()
    assert isinstance(shown.images[1].pixels, np.memmap)
    assert [len(one.indices) for one in shown.shown] == [2, 2, 2]


@given(st.data())
def test_fetching_is_what_a_loop_over_images_gives(data):
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    indices = [np.sort(generator.choice(50, size, replace=False)) for size in sizes]
    images = [
        OpenImages(generator.integers(0, 256, (size, 2, 2, 3), dtype=np.uint8), own)
        for size, own in zip(sizes, indices, strict=True)
    ]
    shown = object.__new__(StreamImages)
    shown.images = images
    domain = generator.integers(0, len(sizes), data.draw(st.integers(1, 30)))
    image = np.array([generator.choice(indices[d]) for d in domain])
    expected = [images[d].pixels[list(indices[d]).index(i)] for i, d in zip(image, domain, strict=True)]
    assert (shown.fetch(image, domain) == np.stack(expected)).all()


def test_a_key_is_all_that_the_pixels_depend_on():
    base = keys(trial(), *MIXED)
    assert len(set(base)) == 3
    for other in ({"seed": 1}, {"engine": "reference"}, {"constants": "imagenet"}, {"files": "published"}):
        changed = keys(trial(**other), *MIXED)
        assert changed[0] == base[0], "clean images are clean whatever the corruption"
        assert not set(changed[1:]) & set(base)
    assert keys(trial(), [5, 41, 3, 5, 7, 3], MIXED[1])[1:] == base[1:]
    assert keys(trial(), [6, 40, 3, 5, 7, 3], MIXED[1])[1] != base[1]


def test_tasks_on_the_same_images_share_them():
    other = registry.configure("tasks", TASK.name, {"variant": "another network"})
    assert keys(replace(trial(), task=other), *MIXED) == keys(trial(), *MIXED)


def test_chunks_do_not_show(tmp_path: Path, monkeypatch):
    whole = StreamImages(trial(), stream(*MIXED), Workspace(tmp_path / "a"))
    monkeypatch.setattr(domain_images, "_CHUNK", 1)
    parts = StreamImages(trial(), stream(*MIXED), Workspace(tmp_path / "b"))
    for a, b in zip(whole.images, parts.images, strict=True):
        assert (np.asarray(a.pixels) == np.asarray(b.pixels)).all()


def test_published_images_are_what_is_shown(tmp_path: Path):
    shown = StreamImages(trial(files="published"), stream(*MIXED), Workspace(tmp_path))
    fetched = shown.fetch(np.array([5, 5, 40]), np.array([1, 2, 0]))
    assert (fetched == np.stack([IMAGES[5] // 3, IMAGES[5] // 4, IMAGES[40]])).all()


def test_published_images_that_are_not_there():
    with pytest.raises(RequestError, match="no file stripes-c/fog/2"):
        keys(trial(files="published"), [1], [0], (Domain("fog", 2),))
    with pytest.raises(RequestError, match=r"has no published corrupted images: expected \[corruption\] files"):
        published(registry.configure("tasks", plugins.TASK), None, Domain("fog", 2), np.arange(3))


def test_vanished_and_broken_files_are_made_again(tmp_path: Path):
    workspace = Workspace(tmp_path)
    one = domain_images.domain_images(trial(), stream(*MIXED), None)[1]
    one.make(workspace)
    expected = np.array(one.open(workspace).pixels)
    file = one.files(workspace)[-1]
    assert file is not None
    assert one.size(workspace) == expected.nbytes
    file.unlink()
    assert (one.open(workspace).pixels == expected).all()
    content = file.read_bytes()
    other = tmp_path / "other.npy"
    np.save(other, expected[:1])
    checksums.append_blank(other)
    checksums.seal(other)
    flipped = content[:300] + bytes([content[300] ^ 128]) + content[301:]
    for damaged in (content[:100], content[:-9], flipped, other.read_bytes()):
        file.write_bytes(damaged)
        with pytest.warns(DamageWarning, match="its images are made again"):
            assert (one.open(workspace).pixels == expected).all()


def test_shared_folder_takes_the_images(tmp_path: Path):
    workspace = Workspace(tmp_path / "run", cache=tmp_path / "shared")
    StreamImages(trial(), stream(*MIXED), workspace)
    assert len(list((tmp_path / "shared" / "images").iterdir())) == 2
    assert not (tmp_path / "run").exists()


def test_least_recently_used_files_go_first(tmp_path: Path):
    for number, name in enumerate("abcde"):
        (tmp_path / f"{name}.npy").write_bytes(b"0" * 100)
        os.utime(tmp_path / f"{name}.npy", (number, number))
    (tmp_path / ".c.tmp.npy").write_bytes(b"0" * 100)
    (tmp_path / "other.txt").write_bytes(b"0" * 100)
    os.utime(tmp_path / "a.npy", (9, 9))
    trim(tmp_path, 500, [])
    assert len(list(tmp_path.iterdir())) == 7
    trim(tmp_path, 300, [tmp_path / "b.npy"])
    assert {file.name for file in tmp_path.glob("[!.]*.npy")} == {"a.npy", "b.npy", "e.npy"}
    trim(tmp_path, -1000, [tmp_path / "b.npy"])
    assert {file.name for file in tmp_path.iterdir()} == {"b.npy", ".c.tmp.npy", "other.txt"}
    trim(tmp_path / "absent", 0, [])


def test_opening_counts_as_use(tmp_path: Path):
    workspace = Workspace(tmp_path)
    one = domain_images.domain_images(trial(), stream(*MIXED), None)[1]
    one.make(workspace)
    file = one.files(workspace)[-1]
    os.utime(file, (1, 1))
    one.open(workspace)
    assert file.stat().st_mtime > 1


@contextmanager
def unprivileged():
    """As somebody to whom rights apply, which they do not to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def everybodys():
    """A folder in which everybody may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    for place in folder.rglob("*/"):
        place.chmod(0o755)
    shutil.rmtree(folder)


def test_what_a_read_only_folder_lacks_or_has_damaged_is_kept_in_the_run(everybodys):
    cache, images = everybodys / "cache", everybodys / "cache" / "images"
    assert execute(tiny(), everybodys / "first", cache=cache).done == 12
    made = sorted(images.iterdir())
    os.utime(made[0], (0, 0))  # its next use would be noted
    made[1].write_bytes(made[1].read_bytes()[:-1])
    made[2].unlink()
    images.chmod(0o555)
    cache.chmod(0o555)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in images.iterdir()}
    with unprivileged(), pytest.warns(DamageWarning, match=made[1].name):
        assert execute(tiny(), everybodys / "second", cache=cache).done == 12
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in images.iterdir()} == before
    own = everybodys / "second" / ".work" / "images"
    assert sorted(file.name for file in own.iterdir()) == [file.name for file in made[1:]]
    records = [{f.name: pq.read_table(f) for f in (everybodys / r / "records").iterdir()} for r in ("first", "second")]
    assert records[0] == records[1]
