"""The page in a real browser: it works by keyboard, and axe-core finds no serious fault."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from evalsuite.store import Run
from reports.page.build import write_report

pytestmark = pytest.mark.slow

FOCUSABLE = "a[href], button, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def index(study_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(study_run.folder, out=tmp_path_factory.mktemp("browser") / "out")


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, index: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    opened = browser.new_page(color_scheme=request.param)
    opened.set_default_timeout(120_000)
    opened.problems = []
    opened.on("console", lambda message: message.type == "error" and opened.problems.append(message.text))
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or opened.problems.append(asked.url))
    opened.goto(index.as_uri())
    yield opened
    opened.close()


def test_it_opens_without_error_or_request_and_every_figure_loads(page: Any) -> None:
    images = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(images) >= 14
    assert all(images)
    assert page.problems == []


def test_a_table_sorts_by_keyboard_in_both_directions(page: Any) -> None:
    column = 3  # a number with its interval
    values = f"[...document.querySelector('#mean').tBodies[0].rows].map(r => r.cells[{column}].dataset.value)"
    button = page.locator("#mean thead button").nth(column)
    for direction, sign in (("ascending", 1), ("descending", -1)):
        button.focus()
        page.keyboard.press("Enter")
        assert page.locator("#mean thead th").nth(column).get_attribute("aria-sort") == direction
        shown = [sign * float(value) for value in page.evaluate(values) if value]
        assert len(shown) > 5
        assert shown == sorted(shown)


def test_a_table_is_filtered_by_keyboard(page: Any) -> None:
    page.locator("#comparisons-filter").focus()
    page.keyboard.type("FOG adaround")
    rows = page.evaluate(
        "[...document.querySelector('#comparisons').tBodies[0].rows].filter(r => !r.hidden).map(r => r.textContent)"
    )
    everything = page.evaluate("document.querySelector('#comparisons').tBodies[0].rows.length")
    assert 0 < len(rows) < everything
    assert all("fog" in row and "adaround" in row for row in rows)
    said = page.locator("#comparisons-block output").text_content()
    assert said == f"{len(rows)} of {everything} rows"


def test_the_tab_key_reaches_everything(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    numbered = "each.dataset.place = k; return k;"
    expected = page.evaluate(f"[...document.querySelectorAll({FOCUSABLE!r})].map((each, k) => {{ {numbered} }}).length")
    reached = []
    for _ in range(expected):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.place"))
    assert set(reached) == {str(place) for place in range(expected)}


def test_axe_finds_no_serious_fault(page: Any) -> None:
    pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python, which brings axe-core, is not installed"
    )
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    faults = {each["id"]: each["nodes"][0]["html"][:200] for each in found if each["impact"] in ("serious", "critical")}
    assert faults == {}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_itself_never_scrolls_sideways(browser: Any, index: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
