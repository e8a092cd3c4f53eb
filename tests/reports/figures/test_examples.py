import io

import numpy as np
import pandas as pd
import pytest

from evalsuite import store
from evalsuite.checksums import append_blank, seal
from evalsuite.errors import RequestError
from evalsuite.store import Run
from reports import style
from reports.figures.examples import Examples


def test_examples_are_the_images_of_the_file(study_run: Run) -> None:
    data = Examples().data(study_run)
    assert list(data["label"]) == [f"class {k}" for k in range(6)]
    assert set(data["domain"]) == {"clean", "gaussian noise"}
    with style.applied():
        figure = Examples().draw(pd.read_csv(io.StringIO(data.to_csv(index=False))))
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    with np.load(study_run.folder / "examples.npz") as file:
        np.testing.assert_array_equal(shown, file["images"])


def test_other_files_are_refused(run: Run, tmp_path) -> None:
    assert Examples().data(run).empty
    np.savez(tmp_path / "examples.npz", images=np.zeros((2, 4, 4), np.uint8), labels=[0, 1])
    with pytest.raises(RequestError, match=r"expected arrays images \(n, H, W, 3\) uint8"):
        Examples().data(store.Run(tmp_path))


def test_tall_images_make_no_tall_page(run: Run, tmp_path) -> None:
    (tmp_path / "study.json").write_text((run.folder / "study.json").read_text())
    images = np.zeros((5, 60_000, 2, 3), np.uint8)
    np.savez_compressed(tmp_path / "examples.npz", images=images, labels=np.arange(5))
    data = Examples().data(store.Run(tmp_path))
    with style.applied():
        figure = Examples().draw(data)
    assert figure.get_figheight() < 4
    assert max(axes.images[0].get_array().shape[0] for axes in figure.axes) <= 1024


@pytest.mark.parametrize("damage", ["bomb", "lengths", "empty", "noise", "flip"])
def test_damaged_examples_are_one_line(run: Run, tmp_path, damage) -> None:
    file, images = tmp_path / "examples.npz", np.zeros((2, 4, 4, 3), np.uint8)
    if damage == "bomb":
        np.savez_compressed(file, images=np.zeros((1, 10**5, 10**3, 3), np.uint8), labels=[0])
    elif damage == "lengths":
        np.savez(file, images=images, labels=[0])
    elif damage == "empty":
        np.savez(file, images=images[:, :0], labels=[0, 1])
    elif damage == "noise":
        file.write_bytes(b"\xff" * 100)
    else:
        np.savez(file, images=images, labels=[0, 1])
        append_blank(file)
        seal(file)
        content = file.read_bytes()
        file.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])
    with pytest.raises(RequestError, match=r"examples\.npz[^\n]*$"):
        Examples().data(store.Run(tmp_path))


def test_a_name_is_cut_only_where_its_severity_on_a_line_of_its_own_does_not_help(study_run: Run) -> None:
    data = Examples().data(study_run).iloc[:2].assign(domain=["jpeg compression 5", "incomprehensibility 5"])
    with style.applied(style.Appearance(column=3.17, page=3.17, font_size=8.0)):
        figure = Examples().draw(data)
    first, second = (axes.texts[0].get_text().splitlines() for axes in figure.axes)
    assert first[1:] == ["jpeg", "compression", "5"]
    assert second[1].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert second[2] == "5"
