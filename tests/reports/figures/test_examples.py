import io

import numpy as np
import pandas as pd
import pytest

from evalsuite import store
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
