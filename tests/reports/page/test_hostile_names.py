"""Names as a stranger's data may bear them, through the report of a run: nothing of them is markup or a formula."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest
from _dummies.runs import make_run

from evalsuite import store
from reports.page.build import write_report

MARKUP = "</script><script>alert(1)</script>"
ATTRIBUTE = "\" onload='alert(1)' hostile=\""
TEMPLATE = "{{7*7}}{% raw %}-->"
NAMES = (*(MARKUP, ATTRIBUTE, TEMPLATE, "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a\r=1", "$x^$ \\input{/etc/passwd}"),)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(
        tmp_path_factory.mktemp("hostile"), tasks=[MARKUP], quantizers=[(ATTRIBUTE, "FP32"), ("=rtn", "W4A4")],
        adapters=["@none"], streams=[TEMPLATE], domains=["fog", "snow"], images=20, permutations=20, bootstrap=20,
    )  # fmt: skip
    study = store.read_study(folder)
    study |= {"title": MARKUP, "description": ATTRIBUTE, "command": TEMPLATE + MARKUP, "notes": list(NAMES)}
    study["tasks"][MARKUP]["classes"] = list(NAMES)
    store.write_study(folder, study)
    return write_report(folder, figures=["class_drops"]).parent


class Tags(HTMLParser):
    """Collects the scripts, names of attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs))
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_text_of_the_page_and_nothing_else(report: Path) -> None:
    page = Tags()
    page.feed((report / "index.html").read_text())
    assert page.scripts == [{"type": "application/json", "id": "methods"}, {}]  # data for the filters, and the program
    assert not {name for name in page.attributes if name.startswith("on")} | page.attributes & {"hostile", "srcdoc"}
    for name in (MARKUP, ATTRIBUTE, TEMPLATE, "=1+1"):
        assert name in page.text
    assert "49" not in page.text.partition("{{7*7}}")[2][:10]


def test_no_cell_of_any_table_is_a_formula_and_numbers_are_numbers(report: Path) -> None:
    files = sorted(report.rglob("*.csv"))
    assert {"summary.csv", "class_drops.csv", "mean_error.csv"} <= {file.name for file in files}
    found = set()
    for file in files:
        with file.open(newline="") as opened:
            cells = {cell for row in csv.reader(opened) for cell in row}
        for cell in cells:
            if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
                float(cell)
        found |= cells
    assert {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "a\n=1"} <= found


def test_latex_reads_no_command_of_a_name(report: Path) -> None:
    text = "\n".join(file.read_text() for file in (report / "tables").glob("*.tex"))
    assert "\\textless{}/script\\textgreater{}" in text
    assert "\\input" not in text
    assert "{{7*7}}" not in text
    assert "<" not in text.replace("$<$", "").replace("p < ", "")
