"""The pages about several runs: what they say, what lies beside them, and how they behave in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from _dummies import verdicts
from _dummies.collections import HOSTILE, SMALL, make_collection
from _dummies.html_page import Page, check_form
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis.across import compare_runs, unpaired
from evalsuite.collection import Collection, collect
from reports.page.collection import write_collection
from reports.page.comparison import write_comparison
from reports.words import collection as words
from reports.words import comparison as compared

OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = make_collection(tmp_path_factory.mktemp("collection"))
    (folder / "alike" / "one" / "index.html").write_text("one")
    for page in (folder / "audits").iterdir():
        (page / "audit.html").write_text(page.name)
    hostile = folder / HOSTILE.replace("/", "_")
    hostile.mkdir()
    verdicts.hostile().write(hostile)
    (hostile / "audit.html").write_text("hostile")
    return collect([folder])


@pytest.fixture(scope="module")
def index(found: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(found, tmp_path_factory.mktemp("index") / "index.html")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    old = make_run(folder / "old", **SMALL | {"tasks": ("digits/vit", "digits/resnet")}, images=80)
    new = make_run(folder / "new", **SMALL, images=80, broken=True)
    run = store.load(new)
    for row in run.trials[run.trials["bits"] == "W4A4"].to_dict("records"):
        if row["status"] == "done":
            columns = {name: each.to_numpy() for name, each in run.records_of(row["trial"]).to_pandas().items()}
            right = {"prediction": columns["label"]}
            kept = {name: values for name, values in columns.items() if name != "trial"}
            store.write_trial(new, {"trial": row["trial"]}, kept | right)
    runs = [store.load(old), store.load(new)]
    return write_comparison(runs, compare_runs(runs), unpaired(runs), folder / "compare.html")


def test_every_result_is_in_the_page_and_in_the_files_beside_it(found: Collection, index: Path) -> None:
    page = Page(index.read_text(encoding="utf-8"))
    check_form(page)
    assert not page.all("img")
    assert HOSTILE in "".join(page.text)
    results = sum(len(run.rows) for run in found.runs)
    table = pd.read_csv(index.with_suffix(".csv"))
    facts = json.loads(index.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(table) == results == sum(len(each["rows"]) for each in facts["tables"])
    marks = {row["data-m"] for row in page.all("tr") if "data-m" in row}
    assert marks == {str(place) for place in range(results)}
    assert {run["run"] for run in facts["runs"]} == set(table["run"]) == set(found.names)
    fragile = next(each for each in facts["audits"] if each["target"].startswith("fragile"))
    assert fragile["standings"]["worst class"]["worse"] > 0
    assert {Path(each["folder"]).name for each in facts["left_out"]} == {"half", "torn"}


def test_each_page_of_a_run_or_audit_is_linked(found: Collection, index: Path) -> None:
    page = Page(index.read_text(encoding="utf-8"))
    hrefs = [str(each["href"]) for each in page.all("a")]
    assert not any(urlsplit(href).scheme for href in hrefs)
    linked = {(index.parent / unquote(href)).resolve() for href in hrefs if not href.startswith("#")}
    pages = {each.page for each in (*found.runs, *found.audits) if each.page}
    assert len(pages) == 4
    assert linked == pages


def test_it_says_why_tables_are_apart_and_what_is_left_out(index: Path) -> None:
    text = " ".join("".join(Page(index.read_text(encoding="utf-8")).text).split())
    assert "Not ranked with the first table of this task: other weights." in text
    assert "Not ranked with the first table of this task: other images, corruptions or severities shown." in text
    assert "unfinished: 5 of 9 trials have not ended" in text


def test_the_same_collection_gives_the_same_page(found: Collection, index: Path, tmp_path: Path) -> None:
    again = write_collection(found, tmp_path / "x" / "index.html")
    plain = [re.sub(r'href="[^"#]*"', "", page.read_text(encoding="utf-8")) for page in (index, again)]
    assert plain[0] == plain[1]


def test_the_comparison_shows_what_is_told_apart_and_what_only_one_run_has(comparison: Path) -> None:
    page = Page(comparison.read_text(encoding="utf-8"))
    check_form(page)
    text = " ".join("".join(page.text).split())
    assert "new against old" in text
    assert "it is not asked there" in text
    assert "▲ better" in text
    assert "failed: RuntimeError: out of memory" in text or "refused: no BatchNorm layer" in text
    assert page.all("svg")


@pytest.mark.parametrize(
    ("p", "shown", "difference", "stand"),
    [(0.01, True, -0.1, "better"), (0.01, True, 0.1, "worse"), (0.2, False, 0.1, "not told apart")],
)
def test_a_standing_is_what_the_table_says(p: float, shown: bool, difference: float, stand: str) -> None:
    row = pd.Series({"p_holm": p, "shown": shown, "difference": difference})
    assert compared.standing(row) == stand
    assert compared.standing(pd.Series({"p_holm": float("nan")})) == "not tested"


def test_the_words_are_few(found: Collection) -> None:
    assert len(words.brief(found).split()) <= 60
    assert "0 " not in words.brief(replace(found, runs=(), boards=()))


@pytest.fixture
def opened(browser: Any, index: Path, comparison: Path) -> Iterator[Any]:
    pages = []

    def open_page(name: str, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.problems = []
        page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or page.problems.append(asked.url))
        page.on("dialog", lambda dialog: (page.problems.append(dialog.message), dialog.dismiss()))
        page.goto({"index": index, "comparison": comparison}[name].as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize(
    ("name", "first", "then", "scheme"), [("index", 360, 1280, "dark"), ("comparison", 1280, 360, "light")]
)
def test_in_a_browser_it_asks_for_nothing_fits_and_axe_finds_no_fault(
    opened: Any, name: str, first: int, then: int, scheme: str
) -> None:
    page = opened(name, first, scheme)
    page.evaluate(OPEN)
    for width in (first, then):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    page.evaluate(resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert {each["id"]: each["nodes"][0]["html"][:200] for each in violations} == {}
    assert page.problems == []


def test_a_leaderboard_sorts_and_is_filtered(opened: Any) -> None:
    page = opened("index")
    rows = "[...document.querySelector('#board-1').tBodies[0].rows].filter(r => !r.hidden)"
    errors = page.evaluate(f"{rows}.map(r => Number(r.cells[2].dataset.value))")
    assert errors == sorted(errors)
    button = page.locator("#board-1 thead button").nth(2)
    for _ in range(2):
        button.focus()
        page.keyboard.press("Enter")
    assert page.evaluate(f"{rows}.map(r => Number(r.cells[2].dataset.value))") == errors[::-1]
    page.locator("#choose-adapter").select_option("tent")
    assert 0 < len(page.evaluate(rows + ".map(r => 0)")) < len(errors)
    assert set(page.evaluate(f"{rows}.map(r => r.cells[1].textContent)")) == {"tent"}
    assert "adapter=tent" in page.evaluate("location.href")
