import os
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from reports import style
from reports.appearance import Appearance
from reports.page.drawing import Drawing, Leaf
from reports.page.helpers import Helpers

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


def test_bytes_errors_and_warnings_are_those_of_one_process(plugin: str, tmp_path: Path) -> None:
    def leaf(what: str, folder: str) -> Leaf:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Leaf(plugin, pd.DataFrame({"what": [what]}), tmp_path / folder, what, f"alt of {what}")

    look = Appearance(formats=("pdf", "png", "svg"), font_size=6)
    whats = ["plain", "warns", "dies", "after"]
    with Helpers([plugin], 0) as none, style.applied(look):
        alone = Drawing(none)
        for what in whats:
            with pytest.warns(UserWarning, match="a glyph is missing") if what == "warns" else nullcontext():
                alone.add(leaf(what, "alone"))
        expected = alone.sheets()
    with Helpers([plugin], 1) as helpers, style.applied(look):
        drawing, process = Drawing(helpers), helpers._all[0].process
        drawing.add(leaf("plain", "both"))
        assert drawing.sheets() == expected[:1]
        assert process.poll() is None
        drawing.add(leaf("warns", "both"))
        with pytest.warns(UserWarning, match="a glyph is missing"):
            drawing.sheets()
        for what in ("dies", "after"):
            drawing.add(leaf(what, "both"))
        assert process.wait(timeout=300) == 9  # before this process can begin with what ends the other
        assert drawing.sheets() == expected
        drawing.add(leaf("fails", "both"))
        with pytest.raises(ValueError, match="no such panel"):
            drawing.sheets()
    names = {f"{what}.{suffix}" for what in whats for suffix in look.formats}
    assert {file.name for file in (tmp_path / "both").iterdir()} == names
    for name in names:
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
