from pathlib import Path

import numpy as np
import pytest

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.files import read_arrays
from evalsuite.store import Run
from reports.frames.kept_images import FILE, domain_examples, flip_pictures, private_tasks


def with_file(run: Run, folder: Path, **changes: object) -> Run:
    """Return a run like another, with arrays of its file of images replaced, or taken out where they are None."""
    arrays = {**read_arrays(run.folder / FILE), **changes}
    np.savez(folder / FILE, **{name: own for name, own in arrays.items() if own is not None})
    made = Run(folder)
    made.__dict__["study"] = run.study
    return made


def test_pictures_come_by_what_they_show(study_run: Run) -> None:
    pictures = flip_pictures(study_run)
    kept = read_arrays(study_run.folder / FILE)
    assert len(pictures) == len(kept["flip_ends"]) > 5
    assert {(shot.width, shot.height) for shot in pictures.values()} == {(12, 8)}
    assert b"".join(shot.webp for shot in pictures.values()) == kept["flip_pictures"].tobytes()
    assert {task for task, *_ in pictures} == {"digits/vit"}


def test_nothing_of_a_private_task_is_read(study_run: Run, tmp_path: Path) -> None:
    run = with_file(study_run, tmp_path)
    task = "digits/vit"
    run.__dict__["study"] = study_run.study | {"tasks": {task: study_run.study["tasks"][task] | {"private": True}}}
    assert private_tasks(run) == {task}
    assert flip_pictures(run) == domain_examples(run) == {}


def test_a_run_without_pictures_has_none(study_run: Run, tmp_path: Path) -> None:
    names = ("pictures", "ends", "tasks", "domains", "severities", "images")
    assert flip_pictures(with_file(study_run, tmp_path, **{f"flip_{name}": None for name in names})) == {}
    assert flip_pictures(store.Run(tmp_path / "nothing")) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"flip_ends": np.array([10, 20])},
        {"flip_pictures": np.arange(10, dtype=np.uint8)},
        {"flip_tasks": None},
        {"flip_ends": np.array(["a"])},
    ],
)
def test_pictures_that_are_none_are_refused_in_a_line(
    study_run: Run, tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(RequestError, match=r"examples\.npz: expected pictures of negative flips") as refused:
        flip_pictures(with_file(study_run, tmp_path, **changes))
    assert "\n" not in str(refused.value)
