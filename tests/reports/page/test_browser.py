"""The page in a real browser: it works by keyboard, and axe-core finds no serious fault."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from evalsuite.store import Run
from reports.page.build import write_report

pytestmark = pytest.mark.slow

FOCUSABLE = "a[href], button:enabled, input, select, summary, [tabindex='0']"
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
FEW = "table.sortable tbody tr:nth-child(n + 9), .lot:nth-of-type(n + 4)"
PRUNE = f"document.querySelectorAll({FEW!r}).forEach(each => each.remove())"
"""Takes away what is like eight rows, or three networks, before it."""
BOTH_SCHEMES = pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
ROWS = "[...document.querySelectorAll('#tables table')].map(t => [...t.rows].filter(r => !r.hidden).length)"
"""Rows shown, heads included, of every table."""


@pytest.fixture(scope="module")
def index(study_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "out"
    return write_report(study_run.folder, out=out, report={"formats": ["svg"]})  # which the page holds anyway


@pytest.fixture(params=["light"])
def page(browser: Any, index: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page as it opens, light unless a test asks for both schemes: the scheme changes colours alone."""
    opened = browser.new_page(color_scheme=request.param)
    opened.set_default_timeout(120_000)
    opened.problems = []
    opened.on("console", lambda message: message.type == "error" and opened.problems.append(message.text))
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or opened.problems.append(asked.url))
    opened.goto(index.as_uri())
    yield opened
    opened.close()


@BOTH_SCHEMES
def test_it_opens_without_error_or_request_and_every_figure_loads(page: Any) -> None:
    page.evaluate(OPEN)
    page.evaluate("[...document.images].forEach(each => { each.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.images.length") >= 13
    assert page.problems == []


def test_the_first_screen_holds_verdict_tiles_and_picture(page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    assert len(page.locator(".brief").inner_text().split()) <= 60
    assert page.locator(".tile").count() == 5
    key, matrix = page.locator("#matrix-key"), page.locator(".matrix").first
    assert key.bounding_box()["y"] < matrix.bounding_box()["y"]
    first = "[...document.querySelectorAll('h1, .asked, .brief, .tile, .hero thead')]"
    assert max(page.evaluate(f"{first}.map(each => each.getBoundingClientRect().bottom)")) < 800


def test_a_cell_of_the_matrix_filters_the_whole_page_and_its_address_brings_it_back(page: Any, index: Path) -> None:
    everything = page.evaluate(ROWS)
    cell = page.locator(".matrix td button").nth(6)
    cell.focus()
    page.keyboard.press("Enter")
    shown = page.evaluate(ROWS)
    assert all(0 < part < whole for part, whole in zip(shown, everything, strict=True))
    assert cell.get_attribute("aria-pressed") == "true"
    chosen = page.locator("#choose-quantizer option:checked").text_content()
    heads = "[...document.querySelectorAll('#mean tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    assert all(head.startswith(chosen) for head in page.evaluate(heads))
    assert 0 < page.locator(".hero tr[data-m]:visible").count() < page.locator(".hero tr[data-m]").count()
    address = page.evaluate("location.href")
    assert "quantizer=" in address
    page.goto("about:blank")
    page.goto(address)
    assert page.evaluate(ROWS) == shown
    lot = page.locator(".lot:visible")
    assert lot.count() == 1
    assert lot.locator("summary").text_content().startswith(chosen)
    page.locator("#filter-said a").focus()
    page.keyboard.press("Enter")
    lot.locator(".confused").wait_for()
    assert 0 <= lot.bounding_box()["y"] < 400
    assert page.evaluate(ROWS) == shown
    page.locator("#reset").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(ROWS) == everything


def test_a_network_of_the_picture_leads_to_the_images_it_loses(page: Any) -> None:
    link = page.locator(".hero a.whose").first
    lot = page.locator(link.get_attribute("href"))
    assert not lot.locator(".shots").first.is_visible()
    link.focus()
    page.keyboard.press("Enter")
    lot.locator(".shots").first.wait_for()
    shot = lot.locator("svg.shot").first
    assert shot.get_attribute("aria-label")
    assert shot.evaluate("each => each.querySelector('use').getBBox().width") > 0
    assert {"use", "image", "symbol"} <= set(
        page.evaluate("[...document.querySelectorAll('svg *')].map(e => e.tagName)")
    )


def test_every_column_says_how_it_is_made(page: Any) -> None:
    heads = page.locator("#tables table.sortable thead th")
    told = (
        "heads => heads.map(head => document.getElementById(head.getAttribute('aria-describedby'))?.textContent.length)"
    )
    assert min(heads.evaluate_all(told)) > 20
    page.locator("#tables > details > summary").first.click()
    how = page.locator("#mean-block .columns-how")
    how.locator("summary").focus()
    page.keyboard.press("Enter")
    how.locator("dd").first.wait_for()


def test_a_table_sorts_by_keyboard_in_both_directions(page: Any, index: Path) -> None:
    page.evaluate(OPEN)
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
    first = page.evaluate(values)
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    assert page.evaluate(values) == first


def test_columns_are_chosen_and_what_is_shown_is_copied(page: Any, browser: Any, index: Path) -> None:
    page.evaluate(OPEN)
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    page.locator("#mean-block .columns input").last.focus()
    page.keyboard.press("Space")
    heads = page.evaluate(
        "[...document.querySelector('#mean').tHead.rows[0].cells].map(c => [c.textContent, c.hidden])"
    )
    assert [hidden for _, hidden in heads] == [False] * (len(heads) - 1) + [True]
    page.locator("#mean-filter").fill("adaround zoa")
    copied = {}
    for kind in ("CSV", "LaTeX", "Markdown"):
        page.locator("#mean-block").get_by_role("button", name=f"Copy as {kind}").click()
        copied[kind] = page.evaluate("window.copied")
    table = list(csv.reader(copied["CSV"].splitlines()))
    assert table[0] == [name for name, hidden in heads if not hidden]
    assert len(table) > 1
    assert all("adaround" in row[0] and "zoa" in row[1] for row in table[1:])
    body = copied["LaTeX"].partition("\\midrule")[2].partition("\\bottomrule")[0]
    assert body.count("\\\\") == len(table) - 1
    assert all(line.count("&") == len(table[0]) - 1 for line in body.strip().splitlines())
    assert len(copied["Markdown"].splitlines()) == len(table) + 1


def test_with_scripts_off_all_pictures_tables_and_strips_are_there(browser: Any, index: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(index.as_uri())
    for name in ("mean", "comparisons", "worst-class"):
        assert page.locator(f"#{name} tbody tr").count() > 5
    assert page.locator("tr[hidden], .hero tbody[hidden]").count() == 0
    assert page.locator("figure img").count() >= 13
    assert page.locator(".hero tr[data-m] svg circle").count() == page.locator(".hero tr[data-m]").count() > 5
    assert page.locator(".matrix td[data-m]").count() > 5
    page.locator("#tables summary").first.click()
    page.locator("#mean").wait_for()
    cell = page.locator(".matrix td a").last
    lot = page.locator(cell.get_attribute("href"))
    cell.click()
    lot.locator(".confused").wait_for()  # a browser opens what a link leads into
    context.close()


def test_a_table_is_filtered_by_keyboard(page: Any) -> None:
    page.evaluate(OPEN)
    page.locator("#comparisons-filter").focus()
    page.keyboard.type("FOG adaround")
    rows = page.evaluate(
        "[...document.querySelector('#comparisons').tBodies[0].rows].filter(r => !r.hidden).map(r => r.textContent)"
    )
    everything = page.evaluate("document.querySelector('#comparisons').tBodies[0].rows.length")
    assert 0 < len(rows) < everything
    assert all("fog" in row and "adaround" in row for row in rows)
    said = page.locator("#comparisons-block .filter output").text_content()
    assert said == f"{len(rows)} of {everything} rows"


def test_the_tab_key_reaches_everything(page: Any) -> None:
    page.evaluate(PRUNE)
    page.evaluate("[...document.images].forEach(each => each.remove())")  # to be drawn again wherever the key leads
    page.evaluate(OPEN)
    numbered = "each.dataset.place = k; return k;"
    expected = page.evaluate(f"[...document.querySelectorAll({FOCUSABLE!r})].map((each, k) => {{ {numbered} }}).length")
    page.evaluate("reached = []; addEventListener('focusin', event => reached.push(event.target.dataset.place))")
    for _ in range(expected):
        page.keyboard.press("Tab")
    assert set(page.evaluate("reached")) == {str(place) for place in range(expected)}


@BOTH_SCHEMES
def test_axe_finds_no_serious_fault(page: Any) -> None:
    pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python, which brings axe-core, is not installed"
    )
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    page.evaluate(PRUNE)
    page.evaluate(OPEN)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    faults = {each["id"]: each["nodes"][0]["html"][:200] for each in found if each["impact"] in ("serious", "critical")}
    assert faults == {}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_itself_never_scrolls_sideways(browser: Any, index: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(index.as_uri())
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(OPEN)
    page.close()
