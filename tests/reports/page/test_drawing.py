import os
from pathlib import Path

import pandas as pd
import pytest

from reports import style
from reports.appearance import Appearance
from reports.page.drawing import Drawing, Leaf

PLUGIN = '''
import os
import warnings

from matplotlib.figure import Figure


class Mine:
    """Mine."""

    def data(self, run):
        return run.trials

    def draw(self, data):
        what = data["what"].iloc[0]
        if what == "fails":
            raise ValueError("no such panel")
        if what == "warns":
            warnings.warn("a glyph is missing", UserWarning)
        if what == "dies" and os.getpid() != HERE:
            os._exit(9)
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, what)
        return figure
'''


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(f"HERE = {os.getpid()}\n{PLUGIN}", encoding="utf-8")
    return f"{file}:Mine"


def leaf(plugin: str, folder: Path, what: str, name: str) -> Leaf:
    folder.mkdir(exist_ok=True)
    return Leaf(plugin, pd.DataFrame({"what": [what]}), folder, name, f"alt of {name}")


def test_helpers_and_this_process_draw_the_same_bytes_in_order_whoever_dies(plugin: str, tmp_path: Path) -> None:
    whats = ["plain", "dies", "plain", "plain"]
    look = Appearance(formats=("pdf", "png", "svg"), font_size=6)
    drawn = {}
    for helpers in (0, 2):
        folder = tmp_path / str(helpers)
        with Drawing([plugin], helpers) as drawing, style.applied(look):
            for place, what in enumerate(whats):
                drawing.add(leaf(plugin, folder, what, f"page_{place}"))
            drawn[helpers] = drawing.sheets()
    assert drawn[0] == drawn[2]
    assert [sheet.name for sheet in drawn[2]] == [f"page_{place}" for place in range(4)]
    files = sorted(file.name for file in (tmp_path / "0").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "2").iterdir())
    assert len(files) == 12
    for name in files:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_errors_and_warnings_are_those_of_this_process(plugin: str, tmp_path: Path) -> None:
    with Drawing([plugin], 1) as drawing, style.applied():
        drawing.add(leaf(plugin, tmp_path / "out", "warns", "page"))
        with pytest.warns(UserWarning, match="a glyph is missing"):
            sheets = drawing.sheets()
        assert len(sheets) == 1
        drawing.add(leaf(plugin, tmp_path / "out", "fails", "other"))
        with pytest.raises(ValueError, match="no such panel"):
            drawing.sheets()
    assert not list((tmp_path / "out").glob("other*"))
    assert not list((tmp_path / "out").glob(".*"))


def test_no_process_lasts(plugin: str) -> None:
    with Drawing([plugin], 1) as drawing:
        (process,) = [helper._process for helper in drawing._helpers]
        assert process.poll() is None
    assert process.poll() == 0
