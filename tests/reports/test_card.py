from __future__ import annotations

from pathlib import Path

import pytest
from _dummies import verdicts
from _dummies.runs import make_run
from markdown_it import MarkdownIt

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.store import Run
from reports.card import of_run, of_verdict, write_card
from reports.frames.evidence import evidence
from reports.words.numbers import NOTHING

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")


def rows_of(markdown: str) -> list[list[str]]:
    """Return the cells of the tables of a document."""
    rows: list[list[str]] = []
    inside = False
    for token in PARSER.parse(markdown):
        inside = (inside and token.type not in ("td_close", "th_close")) or token.type in ("td_open", "th_open")
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and inside:
            rows[-1].append("".join(piece.content for piece in token.children or ()))
    return rows


def test_the_card_of_a_run_says_what_was_found_with_intervals(run: Run, tmp_path: Path) -> None:
    card = write_card(run.folder, tmp_path)
    assert card == tmp_path / "card.md"
    heads, *rows = rows_of(card.read_text(encoding="utf-8"))
    methods = evidence(run).methods
    own = methods[methods["unadapted"] & (methods["task"] == "digits/vit")].set_index("network")
    for row in (dict(zip(heads, row, strict=True)) for row in rows):
        if row["Task"] == "digits/vit":
            known = own.loc[row["Network"]]
            assert row["Error (%)"].split()[0] == f"{100 * known['error']:.1f}"
            assert f"{100 * known['error_high']:.1f})" in row["Error (%)"]
            assert (row["p"] == NOTHING) == known["full_precision"]
    assert {row[1] for row in rows} == set(own.index)
    assert all(len(row) == len(heads) for row in rows)
    text = card.read_text(encoding="utf-8")
    assert "**Asked:**" in text
    assert "class 3" in text.partition("**Verdict:**")[2].splitlines()[0]
    assert run.study["command"] in text


@pytest.mark.parametrize("name", sorted(verdicts.ALL))
def test_the_card_of_a_verdict_holds_no_markup_of_anyone_s(name: str) -> None:
    verdict = verdicts.ALL[name]()
    text = of_verdict(verdict).markdown
    tokens = PARSER.parse(text)
    pieces = [piece for token in tokens for piece in token.children or ()]
    assert not [each for each in [*tokens, *pieces] if each.type.startswith(("html", "link", "image", "hr"))]
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h2", "h3"]
    rows = rows_of(text)
    assert len({len(row) for row in rows}) <= 1
    assert bool(rows) == bool(verdict.reached and verdict.claims)
    assert ("No verdict" in text) == (not verdict.reached)


def test_the_ruined_class_is_in_the_card(tmp_path: Path) -> None:
    verdicts.fragile().write(tmp_path)
    text = write_card(tmp_path).read_text(encoding="utf-8")
    assert "Class three loses 45.0" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "▼ worse" in text


def test_what_is_neither_run_nor_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a run's folder"):
        write_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_run_that_quantizes_nothing_has_its_adapters(tmp_path: Path) -> None:
    options = {"tasks": ["a"], "streams": ["usual"], "domains": ["fog", "snow"], "images": 20}
    folder = make_run(tmp_path / "run", quantizers=[("full_precision", "FP32")], adapters=["none", "tent"], **options)
    card = of_run(store.load(folder))
    heads, none, tent = rows_of(card.markdown)
    assert heads[2:] == ["Adapter", "Error (%)", "Change (points)", "p"]
    assert (none[2], none[4:]) == ("none", [NOTHING, NOTHING])
    known = evidence(store.load(folder)).methods.set_index("adapter_label")["error"]
    assert tent[2] == "tent"
    assert tent[4].startswith(f"{100 * (known['tent'] - known['none']):.1f}".replace("-", "\N{MINUS SIGN}"))
    assert "over the adapters" in card.note
