"""Published results: what a page says stands in the tables beside it, and claims are answered from these alone."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from _dummies.runs import USUAL_SET, CalibrationSet, make_run
from _dummies.verdicts import good

from benchmarks import claims, publish
from benchmarks.glance import at_a_glance
from evalsuite import store
from evalsuite.study import file as studies
from evalsuite.study.labels import labels
from evalsuite.study.trials import expand
from reports.frames.evidence import evidence
from reports.words.numbers import number
from reports.words.verdict import named_class

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = sorted(page for page in RESULTS.glob("*.md") if page.stem != "claims")
LIMIT = 15_000_000
"""Bytes of all results."""
EVERY = [(claim, asked) for paper in claims.papers() for claim in paper.claims for asked in claim.asked]


def linked(page):
    return re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))


def rows_of(text):
    """The rows of a table by its heads, as text."""
    heads, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    )
    return [dict(zip(heads, (cell.replace("\\", "") for cell in row), strict=True)) for row in rows]


def sections(page):
    """Yield (the folder of a run, the rows of its table of networks)."""
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        (folder,) = {target.rpartition("/")[0] for target in re.findall(r"\]\(([^)#]+)\)", section)}
        yield page.parent / folder, rows_of(section)


def network(summary, cells):
    """The row of ``summary.csv`` that a row of a page is about: without adaptation, of the calibration set named."""
    own = summary[summary["adapter_label"] == "none"]
    own = own[own["task"] == cells["Task"]] if "Task" in cells else own
    named = own["quantizer_label"] + " (" + own["calibration_label"] + ")"
    return own[(own["quantizer_label"] == cells["Network"]) | (named == cells["Network"])].iloc[0]


def check_numbers(page):
    for folder, rows in sections(page):
        summary = claims.read_table(folder / "summary.csv")
        assert len(rows) > 1
        for cells in rows:
            if "Adapter" in cells:  # of networks in full precision
                own = summary[
                    (summary["stream_label"] == cells["Stream"]) & (summary["adapter_label"] == cells["Adapter"])
                ]
                assert cells["Error (%)"].startswith(f"{number(100 * own['error'].item())} (")
                continue
            own = network(summary, cells)
            low, high = (number(100 * own[f"error_{edge}"]) for edge in ("low", "high"))
            assert cells["Error (%)"] == f"{number(100 * own['error'])} ({low} to {high})"
            if cells["Network"] != "full precision":
                assert cells["Drop (points)"].startswith(f"{number(100 * own['drop'])} (")
                assert cells["Worst class"] == named_class(own["worst_drop_class"])
                assert cells["Its drop"].startswith(f"{number(100 * own['worst_drop_class_value'])} (")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_number_is_one_of_the_tables(page):
    check_numbers(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_several_networks_begins_with_a_row_for_each(page):
    text, expected = page.read_text(encoding="utf-8"), at_a_glance(page.with_suffix(""))
    before = text.partition("\n## ")[0].partition("\n")[2].strip()
    assert before == expected, "publish again"
    assert bool(expected) == (text.count("\n## ") > 1)


@pytest.mark.parametrize("page", [*PAGES, RESULTS / "claims.md"], ids=lambda page: page.stem)
def test_what_a_page_links_is_there(page):
    assert [target for target in linked(page) if "://" not in target and not (page.parent / target).is_file()] == []


def test_results_stay_small():
    assert PAGES, "no results are published"
    assert sum(file.stat().st_size for file in RESULTS.rglob("*") if file.is_file()) < LIMIT


def test_claims_and_the_readme_are_those_of_the_tables_as_they_are_now():
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == claims.page(RESULTS), "python -m benchmarks.publish"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == publish.with_results(readme, RESULTS), "python -m benchmarks.publish"


def test_the_table_of_the_readme_stands_in_the_tables():
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split(publish.MARKS[0])[1].split(publish.MARKS[1])[0]
    rows = rows_of(shown)
    assert 1 < len(rows) <= 10
    for cells in rows:
        study = re.match(r"\[(\w+)\]", cells["Study"])[1]
        own = network(pd.concat(map(claims.read_table, RESULTS.glob(f"{study}/*/summary.csv"))), cells)
        assert cells["Mean drop"] == number(100 * own["drop"])
        assert cells["Worst class"] == named_class(own["worst_drop_class"])
        assert cells["Its drop"] == number(100 * own["worst_drop_class_value"])
        assert cells["By chance"] == number(100 * own["worst_drop_class_null"])


def test_a_claim_without_tables_shows_no_number_but_its_paper_s():
    for paper in claims.papers():
        for claim in paper.claims:
            found = claims.answer(claim, Path("nowhere"))
            assert found.standing == (claims.BEYOND if claim.beyond else claims.NOT_MEASURED)
            studies_named = re.sub(r"`[^`]+`", "", found.figure)
            assert not re.search(r"\d+\.\d", studies_named)


@pytest.fixture(scope="module")
def known():
    """By study that a claim asks, the labels that its trials will have, run as a whole or a task at a time."""
    found = {}
    for name in {asked.study for _, asked in EVERY}:
        file = ROOT / "protocols" / "studies" / f"{name}.toml"
        if file.is_file():
            whole = studies.read(file)
            parts = [whole, *(studies.read(file, [f'tasks=["{task.name}"]']) for task in whole.tasks)]
            trials = [expand(study, dict.fromkeys(study.tasks, "")) for study in parts]
            found[name] = pd.DataFrame([row for each in trials for row in labels(each).values()])
    return found


def test_what_claims_ask_will_be_in_the_tables_of_their_studies(known):
    assert len(known) >= 4
    for _, asked in EVERY:
        if asked.study not in known:
            continue
        rows = known[asked.study]
        for column, pattern in asked.where.items():
            if column in rows:
                rows = rows[rows[column].map(lambda label, like=pattern: claims.matches(label, like))]
        varied = {"quantizers_at_bits": "quantizer_label"}.get(asked.where.get("question"), "adapter_label")
        for pair in asked.pairs:
            for pattern in pair:
                assert rows[varied].map(lambda label, like=pattern: claims.matches(label, like)).any(), (asked, pattern)
        assert len(rows), asked


TABLE = pd.DataFrame(
    {
        "task": "digits/resnet",
        "question": "adapters_in_pairs",
        "family": ["one", "one", "two", "two"],
        "quantizer_label": ["rtn W4A4", "rtn W4A4", "rtn W8A8", "rtn W8A8"],
        "adapter_label": None,
        "a": ["zoa", "foa", "zoa", "tent"],
        "b": ["foa", "zoa", "foa", "foa"],
        "difference": [-0.05, 0.04, 0.01, 0.5],
        "low": [-0.06, 0.03, -0.01, 0.4],
        "high": [-0.04, 0.05, 0.02, 0.6],
        "p_holm": [0.001, 0.01, 0.5, 0.001],
    }
)


def test_a_published_study_without_rows_for_a_claim_has_not_measured_it(tmp_path):
    folder = tmp_path / "mine" / "run"
    folder.mkdir(parents=True)
    for name in ("summary.csv", "comparisons.csv"):
        TABLE.to_csv(folder / name, index=False)
    nothing = claims.Asked("mine", "mean error", "lower", {"question": "adapters_in_pairs"}, pairs=(("neo", "foa"),))
    found = claims.answer(claims.Claim("It helps.", (nothing,)), tmp_path)
    assert found.standing == claims.NOT_MEASURED
    assert "0 of 0" not in found.figure


@pytest.mark.parametrize(
    ("measure", "pairs", "said", "seen"),
    [
        ("lower", (("zoa", "foa"),), "lower in 2 and higher in 0 of 3", True),
        ("lower", (("foa", "zoa"),), "lower in 0 and higher in 2 of 3", False),
        ("lower", (("t*", "foa"),), "lower in 0 and higher in 1 of 1", False),
        ("changes", (("zoa", "foa"),), "higher in 0 and lower in 2 of 3", True),
        ("changes", (), "higher in 2 and lower in 1 of 4", True),
    ],
)
def test_pairs_are_counted_in_the_direction_that_is_claimed(tmp_path, measure, pairs, said, seen):
    folder = tmp_path / "mine" / "run"
    folder.mkdir(parents=True)
    TABLE.to_csv(folder / "comparisons.csv", index=False)
    (folder / "summary.csv").touch()
    asked = claims.Asked("mine", "error", measure, {"question": "adapters*"}, pairs)
    found = claims.answer(claims.Claim("it helps", (asked,)), tmp_path)
    assert said in found.figure.replace("\N{NO-BREAK SPACE}", " ")
    assert found.standing == (claims.SEEN if seen else claims.NOT_SEEN)
    assert claims.answer(claims.Claim("elsewhere", (asked,), beyond="no images"), tmp_path).standing == claims.BEYOND


def test_networks_that_lose_more_under_shift_are_counted(tmp_path):
    table = TABLE.assign(
        quantizer_label="rtn W4A4", adapter_label="none", calibration_label="128 images", excess=TABLE["difference"]
    ).drop(columns=["a", "b", "difference"])
    for shown, standing in (([0, 1, 2], claims.NOT_SEEN), ([0, 1], claims.NOT_SEEN), ([0, 1, 3], claims.SEEN)):
        folder = tmp_path / str(shown) / "mine" / "run"
        folder.mkdir(parents=True)
        table.iloc[shown].to_csv(folder / "shift_excess.csv", index=False)
        (folder / "summary.csv").touch()
        asked = claims.Asked("mine", "drop", "fragile", {"adapter_label": "none"}, table="shift_excess.csv")
        found = claims.answer(claims.Claim("fragile", (asked,)), tmp_path / str(shown))
        more = sum(each in (1, 3) for each in shown)
        assert f"exceed that on clean images in {more} and to be less in 1 of {len(shown)}" in found.figure
        assert found.standing == standing


def test_a_change_that_holds_in_one_of_many_families_alone_is_not_seen(tmp_path):
    folder = tmp_path / "mine" / "run"
    folder.mkdir(parents=True)
    TABLE.assign(p_holm=[0.03, 1.0, 1.0, 1.0]).to_csv(folder / "comparisons.csv", index=False)
    (folder / "summary.csv").touch()
    found = claims.answer(claims.Claim("", (claims.Asked("mine", "", "changes", {}),)), tmp_path)
    assert found.standing == claims.NOT_SEEN


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A page made of a run of two tasks and two calibration sets, with a figure and a verdict."""
    folder = make_run(
        tmp_path_factory.mktemp("published") / "made",
        quantizers=(("full_precision", "FP32"), ("rtn", "W4A4"), ("gptq", "W4A4")),
        adapters=("none",),
        streams=("usual",),
        calibrations=(
            USUAL_SET,
            CalibrationSet("size 16", [("calibration", {"size": 16})], 0.6),
            CalibrationSet("size 64, herding", [("sampling", {"size": 64, "method": "herding"})], 0.2),
        ),
        domains=("clean", "fog", "contrast"),
        images=20,
        seeds=(0, 1),
        permutations=50,
        bootstrap=20,
    )
    run = store.load(folder)
    found = evidence(run)
    for name, frame in (("summary", found.summary), ("comparisons", found.comparisons), ("rankings", found.rankings)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    good().write(folder)
    results = folder.parent / "results"
    results.mkdir()
    publish.publish("mine", [folder], ["none_such"], results)
    return results / "mine.md"


def test_a_page_made_of_a_run_answers_the_questions_and_stands_in_its_tables(published):
    check_numbers(published)
    assert [target for target in linked(published) if not (published.parent / target).is_file()] == []
    text = published.read_text(encoding="utf-8")
    for question in ("distribution of the calibration set", "calibration paradigm", "augmentation and sampling"):
        assert question in text
    assert "sampling" in set(pd.read_csv(published.parent / "mine" / "made" / "calibration_effects.csv")["factor"])
    assert (published.parent / "mine" / "made" / "verdict.json").is_file()
    assert publish.table_of_all(published.parent).count("[mine]") == 4  # two networks a task


def test_a_network_that_is_added_leaves_the_sections_of_others_as_they_are(published, tmp_path):
    run, results = published.parents[1] / "made", tmp_path / "results"
    for name in ("b", "a", "b"):
        shutil.copytree(run, tmp_path / name, dirs_exist_ok=True)
        publish.publish("mine", [tmp_path / name], ["none_such"], results)
    text, alone = ((folder / "mine.md").read_text(encoding="utf-8") for folder in (results, published.parent))
    before, section = alone.split("\n## ", 1)
    sections = [f"\n\n## {section.strip()}".replace("mine/made/", f"mine/{name}/") for name in "ab"]
    title, glance = before.partition("\n")[0], at_a_glance(results / "mine")
    assert glance.count("\n| digits/") == 4, "two runs of two tasks"
    assert text == f"{title}\n\n{glance}" + "".join(sections) + "\n"


def test_of_many_tasks_the_readme_has_the_worst(published, tmp_path):
    summary = (published.parent / "mine" / "made" / "summary.csv").read_text(encoding="utf-8")
    for place in range(6):
        (tmp_path / f"study{place}" / "made").mkdir(parents=True)
        (tmp_path / f"study{place}" / "made" / "summary.csv").write_text(summary, encoding="utf-8")
    first = claims.read_table(tmp_path / "study0" / "made" / "summary.csv").query("calibration_label == 'size 64'")
    worst = first.groupby("task")["worst_drop_class_value"]
    shown = [cells["Task"] for cells in rows_of(publish.table_of_all(tmp_path))]
    assert len(shown) == 8
    assert shown.count(worst.max().idxmax()) == 6


def test_a_task_of_few_images_a_class_has_no_worst_class(tmp_path):
    networks = pd.DataFrame(
        {
            "task": "a", "calibration_label": "one", "stream_label": "usual", "adapter_label": "none",
            "quantizer_label": ["full precision", "rtn", "gptq"], "drop": [0.0, 0.1, 0.3],
            "worst_drop_class": [None, "cat", "dog"], "worst_drop_class_value": [0.0, 1.0, 0.9],
            "worst_drop_class_null": 0.5, "worst_drop_class_p_holm": 0.2, "worst_drop_class_shown": False,
            "worst_class_size": [9, 9, 9],
        }
    )  # fmt: skip
    for size, least, worst in ((9, "gptq", "\N{EN DASH}"), (10, "rtn", "cat")):
        for run in ("one", "two"):
            folder = tmp_path / str(size) / run
            folder.mkdir(parents=True)
            networks.assign(worst_class_size=size, task=run).to_csv(folder / "summary.csv", index=False)
            (folder / "comparisons.csv").write_text(
                "question,adapter_label,task,calibration_label,stream_label,p_holm\n"
            )
        text = at_a_glance(tmp_path / str(size))
        rows = rows_of(text)
        assert [row["Least reliable"] for row in rows] == [least, least]
        assert [worst in row.get("Worst class", "\N{EN DASH}") for row in rows] == [True, True]


def test_a_figure_is_followed_by_what_it_shows_and_stands_once():
    picture = "![{0}](study/run/{0}.png)".format
    section = "\n\n".join(
        ["## run", *map(picture, ("stream_error", "class_drops", "class_drops_2", "recurring_rounds"))]
    )
    parts = publish._captioned(section).split("\n\n")
    assert parts[:3] == ["## run", picture("class_drops"), picture("class_drops_2")]
    assert parts[3].startswith("*A dot is a group")
    assert parts[4] == picture("recurring_rounds")
    assert len(parts) == 6
    alone = publish._captioned("\n\n".join(["## run", picture("stream_error"), "Behind the numbers"]))
    assert alone.split("\n\n")[1] == picture("stream_error")
