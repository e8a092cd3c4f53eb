import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from _dummies.runs import make_run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalsuite import store
from evalsuite.store import Run
from reports import style
from reports.frames.adaptation import adaptation
from reports.frames.evidence import Comparison, Evidence, evidence
from reports.latex import (
    adaptation_tex,
    escape,
    mean_error,
    mean_error_tex,
    rankings,
    rankings_tex,
    worst_group,
    worst_group_tex,
    write_tables,
)
from reports.tabular import Block, Column, digits_for, floats, text_points

HOSTILE = r"[5pt]*<b>&_50% $x$ {y} ~^\#" + "\n\n\0\u202e"


def without_escapes(tex: str) -> str:
    return re.sub(r"\\[&%$#_{}]|\{[\[\]*]\}", "", tex)


def check_structure(tex: str) -> None:
    """Parse booktabs floats: balanced braces and environments, as many cells in each row as columns."""
    bare = without_escapes(tex)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    parts = re.split(r"\\begin\{table\*?\}", bare)[1:]
    assert parts
    for part in parts:
        check_float(part)


def check_float(bare: str) -> None:
    assert re.findall(r"\\(begin|end)\{(\w+)\*?\}", bare) == [
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]
    found = re.search(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}\n(.*)\\end\{tabular\}", bare, re.DOTALL)
    assert found is not None
    columns = len(re.sub(r">\{[^}]*\}p\{\d+pt\}", "l", found[1]))
    body = found[2]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    for row in rows:
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert row.count("&") + 1 + sum(spans) == columns, row
    assert 2 < len(rows) < 45
    assert [body.count(rule) for rule in (r"\toprule", r"\bottomrule")] == [1, 1]
    assert body.count("$") % 2 == 0


@given(st.text(alphabet=HOSTILE + "ab", max_size=20))
def test_escaped_text_has_no_command_of_its_own(text: str) -> None:
    escaped = escape(text)
    assert not re.search(r"(?<!\\)[&%$#_]", escaped)
    rest = re.sub(r"\\text(backslash|asciitilde|asciicircum|less|greater)\{\}", "", without_escapes(escaped))
    assert not set(rest) & set(r"\{}~^<>[]*")
    assert rest.isprintable()


def test_the_structure_holds_with_hostile_names(run: Run) -> None:
    found = evidence(run)
    names = {"network": found.methods["network"] + HOSTILE, "adapter_label": found.methods["adapter_label"] + HOSTILE}
    hostile = Evidence(found.analysis, found.methods.assign(**names, task=HOSTILE))
    check_structure(mean_error_tex(mean_error(run, hostile)))
    check_structure(worst_group_tex(worst_group(hostile)))


def test_files(run: Run, tmp_path) -> None:
    write_tables(run, evidence(run), tmp_path)
    for name in ("mean_error", "worst_group"):
        check_structure((tmp_path / f"{name}.tex").read_text())
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(evidence(run).summary)


def test_the_best_of_equal_bits_is_bold_and_the_others_are_tested_against_it(run: Run) -> None:
    table = mean_error(run, evidence(run)).set_index(["task", "network", "adapter_label"])
    own = table.loc[("digits/resnet", slice(None), "none")]
    assert own["best"].to_dict() == {
        "full precision": False,
        "rtn W8A8": False,
        "rtn W4A4": False,
        "adaround W4A4": True,
    }
    assert not own.drop("rtn W4A4")["not_distinct"].any()  # which, in two draws alone, is not told from the best
    assert table.loc[("digits/resnet", "rtn W4A4", "tent"), "adapted"]
    assert not table.loc[(slice(None), slice(None), "none"), "adapted"].any()


@pytest.mark.parametrize(
    ("difference", "marked"),
    [
        (Comparison(0.1, 0.05, 0.15, 0.01, 15), False),
        (Comparison(0.1, 0.05, 0.15, 0.05, 15), True),
        (Comparison(0.1, -0.05, 0.15, 0.01, 15), True),
        (Comparison(0.1, 0.05, 0.15, float("nan"), 15), True),
        (None, False),  # nothing compares the two
    ],
)
def test_a_dagger_where_nothing_shows_a_difference(run: Run, difference: Comparison | None, marked: bool) -> None:
    found = SimpleNamespace(
        methods=evidence(run).methods,
        against_quantizer=lambda row, other: difference,
        against_unadapted=lambda row, other: difference,
    )
    table = mean_error(run, found)  # type: ignore[arg-type]
    others = table[table["network"] == "rtn W4A4"]
    assert (others["not_distinct"] == marked).all()
    changed = difference is not None and not marked
    assert (table.loc[table["adapter_label"] == "tent", "adapted"] == changed).all()
    tex = mean_error_tex(table)
    body = tex[tex.index(r"\midrule") :]
    assert (r"\dagger" in body) == marked
    assert r"\textbf{" in body


def test_no_number_is_a_dash_and_p_is_never_zero(run: Run) -> None:
    found = evidence(run)
    table = worst_group(found).assign(worst_drop_class_p_holm=0.0001)
    tex = worst_group_tex(table)
    assert r"\textbf{$<$0.001}" in tex
    lines = tex.splitlines()
    reference = lines[next(k for k, line in enumerate(lines) if "full precision" in line) + 1]
    assert reference.startswith("none &")
    assert "--" in reference
    assert "nan" not in tex.lower()


def test_rankings_mark_the_best_and_what_is_within_the_critical_difference(study_run: Run) -> None:
    table = rankings(evidence(study_run))
    text = rankings_tex(table)
    text = text.replace("\\textbf{Bold}", "")
    ranked = table.groupby(["task", "factor", "context"])["mean_rank"]
    firsts = ranked.agg(lambda ranks: (ranks == ranks.min()).sum()).sum()
    assert text.count(r"\textbf{") == firsts
    for _, own in table.groupby(["task", "factor", "context"]):
        assert own["mean_rank"].is_monotonic_increasing
        near = own["mean_rank"] - own["mean_rank"].min() <= own["critical_difference"]
        assert own.loc[near | (own["p"] >= 0.05), "among_best"].astype(bool).all()
        for row in own.itertuples():  # at least as wide as the semiorder of the critical difference says
            apart = own["p"].iloc[0] < 0.05
            reach = row.critical_difference if apart else float("inf")
            assert row.best_rank <= 1 + (row.mean_rank - own["mean_rank"] > reach).sum()
            assert row.worst_rank >= len(own) - (own["mean_rank"] - row.mean_rank > reach).sum()
            assert row.worst_rank == len(own) - len(json.loads(row.before))
    assert text.count(r"$^{\dagger}$") == table["among_best"].astype(bool).sum() - firsts
    assert text.count("all alike") == len(table.groupby(["task", "factor", "context"]))


def test_best_and_not_distinct_follow_the_comparisons(study_run: Run) -> None:
    found = evidence(study_run)
    table = mean_error(study_run, found)
    assert table["best"].sum() == 5 * 3
    pairs = found.comparisons[found.comparisons["factor"] == "quantizer"]
    for place in table.index[table["best"]]:
        best = found.methods.loc[place]
        alike = ["calibration_label", "adapter_label"]
        rivals = found.methods[(found.methods[alike] == best[alike]).all(axis=1)]
        assert best["error"] == rivals["error"].min()
        for other in rivals.drop(index=place).itertuples():
            both = {best["quantizer_label"], other.quantizer_label}
            same = (pairs[alike] == best[alike]).all(axis=1)
            own = pairs[same & pairs["a"].isin(both) & pairs["b"].isin(both)].iloc[0]
            assert table.loc[other.Index, "not_distinct"] == (not own["shown"])


def test_adaptation_has_a_row_per_adapter_and_network(run: Run) -> None:
    table = adaptation(run)
    tex = adaptation_tex(table.assign(hit_rate=0.25))
    check_structure(tex)
    assert tex.count("tent") == 2 * len(table)  # what changes, and what it costs
    assert tex.count("& 25.0 &") >= len(table)
    bold = (table["p"] < 0.05) & (table["low"] * table["high"] > 0)
    assert tex.count(r"& \textbf{") == bold.sum()


@given(st.floats(0.0001, 0.4), st.floats(0, 0.5))
def test_digits_are_those_of_the_interval(half: float, middle: float) -> None:
    digits = digits_for([middle - half], [middle + half])
    shown = 100 * half * 10**digits
    assert 9 <= shown < 101 or digits in (0, 3)


TEXTWIDTH = {"table": 229.5, "table*": 469.0}  # points of a column, and of both, of LaTeX's own article in two columns
cells = st.text(alphabet=HOSTILE + "abW4 ", min_size=1, max_size=60)


def points_of(specification: str, rows: list[list[str]]) -> float:
    """Return the width of a tabular: of each column that of its widest cell, or what it is given."""
    found = [int(own[3:-3]) if own[0] == "p" else None for own in re.findall(r"p\{\d+pt\}|[lr]", specification)]
    own = [max(map(text_points, column)) for column in zip(*rows, strict=True)]
    inner = [least if given is None else given for given, least in zip(found, own, strict=True)]
    return sum(inner) + 6.0 * len(inner) - 6.0  # 3 points on either side of each, none at the edges


@settings(max_examples=30, deadline=None)
@example(["W" * 60 + "&"])
@example(["a", "W 4 " * 15, "b"])
@given(st.lists(cells, min_size=1, max_size=12, unique=True))
def test_no_float_is_wider_than_a_column(names: list[str]) -> None:
    columns = [Column(escape(name), "lr"[len(name) % 2]) for name in names]
    rows = tuple((escape(name), *["12.3"] * len(names)) for name in names)
    check_widths(floats("x", "Title.", "Caption.", "Network", columns, [Block(escape(names[0]), rows)]))


def check_widths(tex: str) -> None:
    check_structure(tex)
    for environment, part in re.findall(r"\\begin\{(table\*?)\}(.*?)\\end\{table", tex, re.DOTALL):
        specification = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", part)[0]
        specification = re.sub(r">\{[^}]*\}", "", specification)
        lines = [line[:-3] for line in part.splitlines() if line.endswith(r" \\") and "multicolumn" not in line]
        assert points_of(specification, [line.split(" & ") for line in lines]) <= TEXTWIDTH[environment]


def test_no_table_of_a_run_is_wider_than_a_column_or_cut_between_its_columns(run: Run, tmp_path) -> None:
    write_tables(run, evidence(run), tmp_path)
    for path in tmp_path.glob("*.tex"):
        tex = path.read_text()
        check_widths(tex)
        assert len(set(re.findall(r"\\toprule\n(.*)", tex))) == 1 + (path.stem in ("worst_group", "adaptation"))


@pytest.mark.parametrize(
    ("tex", "points"),
    [
        ("12.3", 15.11),
        (r"$-$36.5 to $-$28.7", 56.67),
        (r"{\scriptsize $-$36.5 to $-$28.7}", 53.44),
        (r"\textbf{$<$0.001}", 28.93),
        (r"9.7$^{\dagger,\ast}$ {\scriptsize$\pm$ 1.7}", 42.93),
        ("zoa without activation shift", 102.52),
        (r"\textbf{rtn percentile W4A4}", 89.13),
        (r"\textit{rtn percentile W4A4}", 77.23),
        (r"\shortstack[r]{zoa without\\ activation}", 43.92),
        (r"a\_b \& 5\% \textbackslash{}", 42.73),
        (r"\textit{$p<0.001$}", 34.97),
    ],
)
def test_text_is_no_wider_than_it_is_taken_for(tex: str, points: float) -> None:
    """Widths in ``\\footnotesize`` of LaTeX's article, by pdfTeX 1.40.26."""
    assert points <= text_points(tex) <= 1.2 * points


def test_a_table_that_a_column_would_cut_takes_both_and_its_heads_are_broken() -> None:
    heads = ["none", "tent", "bn adapt", "zoa without activation shift"]
    wide = [Column(head) for head in heads]
    rows = (("rtn percentile W4A4", *[r"12.8$^{\dagger}$ {\scriptsize$\pm$ 1.6}"] * 4),)
    tex = floats("x", "Title.", "Caption.", "Network", wide, [Block("digits", rows)])
    assert tex.count(r"\begin{table*}") == 1
    assert r"\shortstack[r]{zoa without\\ activation" in tex
    check_widths(tex)
    with style.applied(style.Appearance(column=3.25, page=3.25)):  # where a width is asked for, it holds
        narrow = floats("x", "Title.", "Caption.", "Network", wide, [Block("digits", rows)])
    assert narrow.count(r"\begin{table}") == 2
    assert [row.count("&") for row in re.findall(r"\\toprule\n(.*)", narrow)] == [2, 2]  # not three and one
    check_widths(narrow)


def test_later_floats_refer_to_the_first_and_say_again_what_blocks_have_in_common() -> None:
    blocks = [Block(f"network {k}", (("tent", "1.0"),) * 9, "digits") for k in range(8)]
    tex = floats("a_b", "Title.", "Caption.", "Adapter", [Column("error")], blocks)
    captions = re.findall(r"\\caption\{(.*)\}\\label\{(.*)\}", tex)
    assert captions[0] == ("Title. Caption. Part 1 of 3.", "tab:a-b")
    assert captions[1] == (r"Title. Part 2 of 3; signs as in Table~\ref{tab:a-b}.", "tab:a-b-2")
    assert tex.count(r"\textbf{digits}") == 3
    assert tex.count(r"\addlinespace") == 5


def test_p_never_lies_on_the_wrong_side_of_the_level(run: Run) -> None:
    found = worst_group(evidence(run))
    for p, text in ((0.0499, "$<$0.05"), (0.05, "0.050"), (0.0491, "0.049"), (0.00096, "$<$0.001")):
        assert f"& {text} " in worst_group_tex(found.assign(worst_drop_class_p_holm=p, worst_drop_class_shown=False))


def test_a_table_without_a_row_is_none_and_an_older_one_goes(tmp_path) -> None:
    """docs/figures.md puts every table that is there into a paper."""
    few = make_run(tmp_path / "run", tasks=("a",), domains=("fog", "snow", "frost"), adapters=("none",), images=20)
    run = store.load(few)
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("rankings.tex", "rankings.csv", "adaptation.tex", "mine.tex"):
        (tables / name).write_text("of another report")
    write_tables(run, evidence(run), tables)
    assert {file.name for file in tables.iterdir()} == {
        f"{name}.{suffix}" for name in ("mean_error", "worst_group") for suffix in ("csv", "tex")
    } | {"mine.tex"}
