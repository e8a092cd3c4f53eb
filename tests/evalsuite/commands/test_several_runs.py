"""The commands about several runs: what they print, where they write, what they refuse."""

from __future__ import annotations

import json

import pytest
from _dummies import verdicts
from _dummies.collections import SMALL, change
from _dummies.runs import make_run

from evalsuite import cli, registry, store

pytestmark = pytest.mark.skipif(
    not {"collection", "comparison", "card"} <= set(registry.names("reports")),
    reason="evalsuite is installed as it was before it had these pages: install it again",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "one", **SMALL)
    change(make_run(folder / "two", **SMALL), "weights_digest")
    half = store.load(make_run(folder / "half", **SMALL))
    store.write_study(half.folder, half.study | {"trials": 9})
    (folder / "audit").mkdir()
    verdicts.good().write(folder / "audit")
    return folder


def test_index_says_what_it_wrote_and_what_it_left_out(runs, tmp_path, capsys):
    out = tmp_path / "site" / "all.html"
    assert cli.call(["index", str(runs), "--out", str(out)]) == 0
    left, said = capsys.readouterr().out.splitlines()
    assert left == f"left out: {runs / 'half'}: unfinished: 5 of 9 trials have not ended"
    assert said == f"2 runs, 2 tables, 1 audit: {out}"
    assert {each.name for each in out.parent.iterdir()} == {"all.html", "all.csv", "all.json"}
    assert cli.call(["index", str(runs), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "absent"], "absent is no folder"),
        (["index", "empty"], "no run or audit under empty"),
        (["index", "one", "--out", "one/index.html"], "this folder is a run's"),
        (["index", "one", "--out", "one"], "expected a file such as index.html"),
        (["compare", "one", "two", "--page", "empty"], "expected a file such as compare.html"),
        (["report", "one", "--card", "--digits", "1"], "--card: expected --out or --json alone"),
        (["report", "empty", "--card"], "is not a run's folder"),
        (["report", "one", "--out", "new", "--font-size", "nan"], "font size nan: expected a finite number"),
        (
            ["report", "one", "--out", "new", "--rename", "names.toml"],
            "names.toml names nothing: expected lines such as",
        ),
        (["report", "one", "--out", "new", "--style", "bad.mplstyle"], "style bad.mplstyle: matplotlib cannot read it"),
        (["compare", "one", "two", "./one"], "one is given twice: expected runs that differ"),
    ],
)
def test_wrong_requests_are_one_line_and_write_nothing(arguments, message, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(runs / name)
    (tmp_path / "names.toml").touch()
    (tmp_path / "bad.mplstyle").write_text("no style\n")
    before = set(runs.rglob("*"))
    assert cli.call(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert set(runs.rglob("*")) == before
    assert {each.name for each in tmp_path.iterdir()} == {"empty", "one", "two", "names.toml", "bad.mplstyle"}


def test_compare_writes_a_page(runs, tmp_path, capsys):
    page = tmp_path / "compare.html"
    assert cli.call(["compare", str(runs / "one"), str(runs / "two"), "--page", str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {page}"
    text = page.read_text(encoding="utf-8")
    assert "two against one" in text
    assert "weights of digits/vit" in text


def test_a_card_is_all_that_is_written(runs, tmp_path, capsys):
    for name, title in (("one", "## "), ("audit", "## Audit of mine")):
        assert cli.call(["report", str(runs / name), "--card", "--out", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"card: {tmp_path / name / 'card.md'}\n"
        assert [each.name for each in (tmp_path / name).iterdir()] == ["card.md"]
        assert (tmp_path / name / "card.md").read_text(encoding="utf-8").startswith(title)
