from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from reports import style


def test_what_was_set_before_comes_back() -> None:
    before = mpl.rcParams["font.size"]
    with style.applied():
        assert mpl.rcParams["font.size"] == 7
        assert mpl.rcParams["pdf.fonttype"] == 42
        assert not mpl.rcParams["axes.spines.top"]
    assert mpl.rcParams["font.size"] == before


def test_63_adapters_look_different_nine_in_colour_and_none_has_that_of_alarm() -> None:
    looks = [style.look(place) for place in range(63)]
    assert len(set(looks)) == 63
    assert len({each.colour for each in looks[:9]}) == 9
    assert style.ALERT.lower() not in {each.colour.lower() for each in looks}


@pytest.mark.parametrize(("colour", "value"), [((0, 0, 0), 0), ((1, 1, 1), 1), ((1, 0, 0), 0.2126)])
def test_luminance(colour: tuple[float, ...], value: float) -> None:
    assert style.luminance(colour) == pytest.approx(value)


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with style.applied():
            figure = Figure(figsize=(1, 1))
            figure.add_subplot().plot([0, 1], [1, 0], label="x")
            for suffix in ("pdf", "png", "svg"):
                style.save(figure, tmp_path / f"{name}.{suffix}")
    for suffix in ("pdf", "png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with style.applied():
        assert style.svg(figure) == (tmp_path / "a.svg").read_bytes()
