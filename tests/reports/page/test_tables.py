import math
import re
from pathlib import Path

import pandas as pd
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports.frames.adaptation import adaptation
from reports.frames.evidence import Evidence, evidence
from reports.frames.methods import labelled
from reports.page import cells
from reports.page.tables import missing_table, result_tables
from reports.words.columns import COLUMNS


def test_every_method_has_its_row_and_every_row_a_cell_per_column(run: Run) -> None:
    found = evidence(run)
    adapted = adaptation(run)
    tables = {table.name: table for table in result_tables(found, adapted)}
    expected = ["mean", "worst-class", "worst-domain", "adaptation", "costs", "comparisons", "rankings"]
    assert list(tables) == expected
    assert [name for name in tables if name not in ("adaptation", "costs")] == [
        table.name for table in result_tables(found, adapted.iloc[:0])
    ]
    for name, table in tables.items():
        frame = {"comparisons": found.comparisons, "rankings": found.rankings.dropna(subset="p")}
        frame |= {"adaptation": adapted}
        assert len(table.rows) == len(frame.get(name, found.methods))
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert not any(cell.text in ("nan", "None", "") for row in table.rows for cell in row)
        assert [label for label, _ in table.hows] == [column.label for column in table.columns]


def test_numbers_sort_by_their_value_and_missing_ones_have_none(run: Run) -> None:
    table = result_tables(evidence(run), adaptation(run))[1]
    column = [each.label for each in table.columns].index("By chance")
    values = [row[column].value for row in table.rows]
    expected = evidence(run).methods["worst_drop_class_null"]
    assert [math.isnan(value) for value in expected] == [value == "" for value in values]
    assert [float(value) for value in values if value] == list(expected.dropna())


def test_a_column_of_one_value_is_left_out(run: Run) -> None:
    found = evidence(run)
    labels = [column.label for column in result_tables(found, adaptation(run))[0].columns]
    assert labels[:3] == ["Network", "Adapter", "Task"]
    assert "Stream" not in labels
    one = Evidence(found.analysis, found.methods[found.methods["task"] == "digits/vit"])
    assert "Task" not in [column.label for column in result_tables(one, adaptation(run))[0].columns]


def test_missing_trials_come_with_their_reasons(run: Run, tmp_path) -> None:
    table = missing_table(labelled(run))
    assert table is not None
    assert sorted(row[-1].text for row in table.rows) == ["RuntimeError: out of memory", "no BatchNorm layer"]
    assert sorted(row[-2].text for row in table.rows) == ["failed", "refused"]
    complete = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog"], images=10)
    assert missing_table(labelled(store.load(complete))) is None


def test_a_missing_reason_is_a_dash(run: Run) -> None:
    trials = run.trials.assign(reason=pd.NA)
    fake = store.Run(run.folder)
    fake.__dict__["trials"] = trials
    table = missing_table(labelled(fake))
    assert table is not None
    assert {row[-1].text for row in table.rows} == {"\N{EN DASH}"}


def test_every_way_of_making_a_number_is_one_sentence_that_leads_to_more(run: Run) -> None:
    method = (Path(cells.__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    for name, how in COLUMNS.items():
        assert how.text.endswith("."), name
        assert ". " not in how.text, name
        assert not how.anchor or f'id="{how.anchor}"' in method, name
    acronyms = {word for how in COLUMNS.values() for word in re.findall(r"\b[A-Z][A-Za-z]*[A-Z]\w*\b", how.text)}
    assert acronyms == {"ECE", "CVaR", "McNemar"}
    for short, whole in (("ECE", "expected calibration error"), ("CVaR", "conditional value at risk")):
        assert any(f"{whole} ({short})" in how.text.lower().replace(short.lower(), short) for how in COLUMNS.values())
