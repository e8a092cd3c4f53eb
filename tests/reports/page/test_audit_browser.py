"""The page of an audit in a real browser: its first screen, its keyboard, a telephone, two sheets of paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FOCUSABLE = "a[href], button, input, summary, [tabindex='0']"
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


@pytest.fixture
def opened(browser: Any, audits: dict[str, Path]) -> Iterator[Any]:
    """Open the page of a verdict; what it complains of or asks for is in ``problems``."""
    pages = []

    def open_page(name: str, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(120_000)
        page.problems = []
        page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or page.problems.append(asked.url))
        page.on("dialog", lambda dialog: (page.problems.append(dialog.message), dialog.dismiss()))
        page.goto(audits[name].as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", ["fragile", "broken", "hostile"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_opens_without_error_or_request_and_never_scrolls_sideways(opened: Any, name: str, width: int) -> None:
    page = opened(name, width)
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(OPEN)
    assert page.problems == []


@pytest.mark.parametrize(("width", "tiles"), [(1280, 6), (360, 0)])
def test_the_ruined_class_and_the_summary_are_in_the_first_screen(opened: Any, width: int, tiles: int) -> None:
    page = opened("fragile", width)
    ends = "[...document.querySelectorAll(selector)].map(each => each.getBoundingClientRect().bottom)"
    for selector in ("h1", ".state", ".breaks", ".summary", ".gates"):
        assert all(end <= 800 for end in page.evaluate(ends.replace("selector", repr(selector)))), selector
    assert "Class three" in page.locator(".breaks").inner_text()
    shown = [end for end in page.evaluate(ends.replace("selector", "'.tile'")) if end <= 800]
    assert len(shown) >= tiles


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["fragile", "broken"])
def test_axe_finds_no_fault(opened: Any, name: str, scheme: str) -> None:
    pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python, which brings axe-core, is not installed"
    )
    page = opened(name, scheme=scheme)
    page.evaluate(OPEN)
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert {each["id"]: each["nodes"][0]["html"][:200] for each in found} == {}


def test_the_tab_key_reaches_everything_and_enter_opens_a_fold(opened: Any) -> None:
    page = opened("fragile")
    fold = page.locator("#claims details").first
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.evaluate("each => each.open")
    page.evaluate(OPEN)
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    numbered = "each.dataset.place = k; return k;"
    expected = page.evaluate(f"[...document.querySelectorAll({FOCUSABLE!r})].map((each, k) => {{ {numbered} }}).length")
    reached = set()
    for _ in range(2 * expected):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.place"))
    assert {str(place) for place in range(expected)} <= reached


def test_a_table_of_claims_sorts_by_keyboard(opened: Any) -> None:
    page = opened("fragile")
    page.evaluate(OPEN)
    labels = page.evaluate("[...document.querySelectorAll('#claims-adaptation thead th')].map(h => h.textContent)")
    column = labels.index("Difference (points)")
    page.locator("#claims-adaptation thead button").nth(column).focus()
    page.keyboard.press("Enter")
    rows = "[...document.querySelector('#claims-adaptation').tBodies[0].rows]"
    values = page.evaluate(f"{rows}.map(row => Number(row.cells[{column}].dataset.value))")
    assert len(values) > 5
    assert values == sorted(values)


@pytest.mark.parametrize("name", ["fragile", "good", "broken"])
@pytest.mark.parametrize("margin", ["8mm", "15mm"])
def test_it_prints_on_two_sheets(opened: Any, name: str, margin: str) -> None:
    page = opened(name, scheme="dark")
    margins = dict.fromkeys(("top", "right", "bottom", "left"), margin)
    printed = page.pdf(format="A4", margin=margins)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 2


def test_paper_keeps_tiles_pictures_and_what_breaks_in_ink_on_white(opened: Any) -> None:
    page = opened("fragile", scheme="dark")
    page.emulate_media(media="print")
    for selector, number in ((".tile", 9), ("figure img", 2), (".breaks", 1), (".summary", 1), ("#needs-section", 1)):
        found = page.locator(selector)
        assert found.count() == number
        assert all(found.nth(place).is_visible() for place in range(number))
    assert not page.locator("#claims").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
