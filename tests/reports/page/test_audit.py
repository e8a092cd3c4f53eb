import base64
import re
from pathlib import Path

import pytest
from _dummies import verdicts
from _dummies.html_page import Page, check_form

from evalsuite.analysis.verdict import Condition
from evalsuite.errors import RequestError
from reports.page.audit import write_audit
from reports.page.audit_tables import (
    check_table,
    claim_tables,
    cost_table,
    drop_table,
    need_table,
    rank_table,
)


@pytest.fixture(params=list(verdicts.ALL))
def name(request):
    return request.param


@pytest.fixture
def page(audits, name):
    return Page(audits[name].read_text(encoding="utf-8"))


def text_of(path: Path) -> str:
    return " ".join(" ".join(Page(path.read_text(encoding="utf-8")).text).split()).replace("\N{NO-BREAK SPACE}", " ")


def test_it_is_well_formed_and_accessible(page):
    ids = check_form(page)
    assert all((link["href"] or "")[1:] in ids for link in page.all("a"))


def test_nothing_is_fetched_and_pictures_are_vectors(audits, name, page):
    text = audits[name].read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed")
        source = attributes.get("src") or attributes.get("srcset") or (tag == "link" and attributes.get("href")) or None
        if source and source != "data:,":
            kind, _, data = source.partition(",")
            assert kind == "data:image/svg+xml;base64"
            assert base64.b64decode(data).lstrip().startswith(b"<?xml")


def test_the_same_verdict_gives_the_same_bytes_and_nothing_beside_them(audits, tmp_path):
    again = write_audit(tmp_path, verdicts.fragile())
    assert again.read_bytes() == audits["fragile"].read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["audit.html"]


def test_hostile_names_are_text_not_markup(audits):
    text = audits["hostile"].read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("b")
    assert len(page.all("script")) == 1
    assert verdicts.HOSTILE not in text
    assert sum(verdicts.HOSTILE in each for each in page.text) > 50
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_what_breaks_and_the_summary_come_before_every_tile_and_table(audits):
    text = text_of(audits["fragile"])
    order = ["fragile", "Verdict reached", "What breaks", "Class three", "p < 0.001", "ruins class three", "Mean error"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert text.index("Mean error") < text.index("Against each rival") < text.index("All claims and losses")


def test_every_standing_is_a_word_and_a_shape(audits):
    text = text_of(audits["fragile"])
    for shape, word in (("▲", "better"), ("▼", "worse"), ("≈", "not told apart"), ("○", "not tested")):
        assert f"{shape} {word}" in text


def test_without_a_verdict_the_check_and_its_mend_are_said_and_no_tile_claims_anything(audits):
    text = text_of(audits["broken"])
    assert "✗ No verdict" in text
    for needle in (
        verdicts.SPOILT.name,
        verdicts.SPOILT.message,
        verdicts.SPOILT.mend,
        "No trial of the target was run",
    ):
        assert needle in text
    page = Page(audits["broken"].read_text(encoding="utf-8"))
    assert not page.all("img")
    assert not any("tile" in (each["class"] or "").split() for each in page.all("li") if "class" in each)


def test_it_says_how_it_was_made(audits):
    verdict, text = verdicts.good(), text_of(audits["good"])
    digests = [digest for task in verdict.tasks.values() for digest in task.values()]
    for needle in (verdict.command, verdict.source_digest, *digests, *verdict.versions.values(), *verdict.left_out):
        assert needle in text
    for needle in (*verdict.trials.reasons, verdict.baselines.origin, verdict.gates[0].expression, '"strength": 0.7'):
        assert needle in text


def test_every_value_of_a_verdict_has_its_row():
    verdict = verdicts.fragile()
    tables = claim_tables(verdict)
    assert sum(len(table.rows) for table in tables) == len(verdict.claims)
    rest = [drop_table(verdict), rank_table(verdict), cost_table(verdict), check_table(verdict), need_table(verdict)]
    sizes = [len(table.rows) for table in rest]
    untold = sum(claim.standing == "not told apart" for claim in verdict.claims)
    assert sizes == [len(verdict.drops), len(verdict.ranks), len(verdict.costs), len(verdict.conformance), untold]
    for table in (*tables, *rest):
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert not any(cell.text in ("nan", "None", "") for row in table.rows for cell in row)


def test_a_claim_is_told_with_both_p_its_n_and_unit_and_both_values():
    table = claim_tables(verdicts.fragile())[1]
    row = dict(zip((column.label for column in table.columns), table.rows[2], strict=True))
    assert row["Standing"].text == "▼ worse"
    assert row["Difference (points)"].text == "38.0 (32.0 to 44.0)"
    assert (row["p"].text, row["p (Holm)"].text) == ("< 0.001", "0.002")
    assert row["n"].text.replace("\N{NO-BREAK SPACE}", " ") == "16 domains"
    assert (row["Target (%)"].text, row["Rival (%)"].text) == ("59.4", "21.4")
    assert (row["Target's group"].text, row["Rival's group"].text) == ("three", "nine")
    assert "Wilcoxon over domains" in table.caption


def without_options(value):
    """Return a value of a verdict with all left out that may be."""
    left = {name: field.default for name, field in type(value).model_fields.items() if field.default is None}
    return value.model_copy(update=left | {"condition": Condition(task="")})


def test_what_a_verdict_may_leave_out_is_a_dash(tmp_path):
    verdict = verdicts.fragile()
    lists = {name: list(map(without_options, getattr(verdict, name))) for name in ("claims", "drops", "ranks", "costs")}
    found = verdict.model_copy(update=lists)
    assert "38.0" not in Page(write_audit(tmp_path, found).read_text(encoding="utf-8")).text
    for table in (*claim_tables(found), drop_table(found), rank_table(found), cost_table(found)):
        assert not any(cell.text in ("nan", "None", "") for row in table.rows for cell in row)
    sizes = [claim.model_copy(update={"low": None}) for claim in verdict.claims]
    row = claim_tables(verdict.model_copy(update={"claims": sizes}))[1].rows[2]
    assert "38.0" in [cell.text for cell in row]


def test_there_is_no_table_of_nothing():
    verdict = verdicts.bare()
    assert claim_tables(verdict) == []
    for made in (drop_table, rank_table, cost_table, check_table, need_table):
        assert made(verdict) is None


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=re.escape("audit.html")) as raised:
        write_audit(tmp_path / "file", verdicts.bare())
    assert "\n" not in str(raised.value)
