"""Published results: what a page says stands in the tables beside it."""

import re
from pathlib import Path

import pandas as pd
import pytest

from reports.words.numbers import number

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGES = sorted(RESULTS.glob("*.md"))
LIMIT = 15_000_000
"""Bytes of all results."""


def linked(page):
    return re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))


def sections(page):
    """Yield (the folder of a run, the rows of its table of networks)."""
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        (folder,) = {target.rpartition("/")[0] for target in re.findall(r"\]\(([^)#]+)\)", section)}
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"
        ]
        yield page.parent / folder, rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_number_is_one_of_the_tables(page):
    for folder, (heads, _, *rows) in sections(page):
        summary = pd.read_csv(folder / "summary.csv")
        shown = summary[summary["adapter_label"] == "none"].set_index("quantizer_label")
        assert len(rows) > 1
        for row in rows:
            cells = dict(zip(heads, row, strict=True))
            own = shown.loc[cells["Network"].replace("\\", "")]
            low, high = (number(100 * own[f"error_{edge}"]) for edge in ("low", "high"))
            assert cells["Error (%)"] == f"{number(100 * own['error'])} ({low} to {high})"
            if cells["Network"] != "full precision":
                assert cells["Drop (points)"].startswith(f"{number(100 * own['drop'])} (")
                assert cells["Worst class"] == f"class {own['worst_drop_class']}"
                assert cells["Its drop"].startswith(f"{number(100 * own['worst_drop_class_value'])} (")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_is_there(page):
    assert [target for target in linked(page) if "://" not in target and not (page.parent / target).is_file()] == []


def test_results_stay_small():
    assert PAGES, "no results are published"
    assert sum(file.stat().st_size for file in RESULTS.rglob("*") if file.is_file()) < LIMIT
