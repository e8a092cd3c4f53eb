import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from _dummies.html_page import Page, check_form
from _dummies.runs import make_run

from evalsuite import analysis, registry, store
from evalsuite.errors import RequestError
from evalsuite.store import Run
from reports.page import build
from reports.page.build import write_report

HOSTILE = "<b>&\"'$x_1$</script>\\"


@pytest.fixture(scope="module")
def index(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run.folder, out=tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def page(index: Path) -> Page:
    return Page(index.read_text(encoding="utf-8"))


def test_every_path_of_the_contract_exists(index: Path) -> None:
    names = ["class_drops", "error_heatmap", "mean_against_worst", "stream_error"]
    names += ["paradigm_comparison", "critical_difference", "performance_profile", "rank_stability"]
    names += ["cost_against_error", "shift_excess"]
    tables = ["summary", "comparisons", "rankings", "across_draws", "calibration_draws", "group_drops", "profiles"]
    tables += ["stream_errors", "views", "confusions", "flips", "mistakes", "shift_excess"]
    expected = {"index.html", *(f"{name}.csv" for name in tables)}
    expected |= {f"figures/{name}.{suffix}" for name in names for suffix in ("pdf", "png", "csv")}
    expected |= {
        f"tables/{name}.{suffix}"
        for name in ("mean_error", "worst_group", "rankings", "adaptation")
        for suffix in ("tex", "csv")
    }
    assert {str(file.relative_to(index.parent)) for file in index.parent.rglob("*") if file.is_file()} == expected


def test_the_csv_files_are_those_of_the_analysis(run: Run, index: Path, tmp_path: Path) -> None:
    analysis.analyse(run).write(tmp_path)
    for name in ("summary.csv", "comparisons.csv", "rankings.csv"):
        assert (index.parent / name).read_text() == (tmp_path / name).read_text()


def test_nothing_is_fetched_from_anywhere(index: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        source = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        assert source is None or source.startswith("data:")
        assert tag not in ("iframe", "object", "embed")
    for link in page.all("a"):
        assert not re.match(r"\w+:|//", link["href"] or "")
    text = index.read_text(encoding="utf-8")
    assert "@import" not in text
    assert all(place.startswith("%23") for place in text.split("url(")[1:])  # a place in the same drawing


def test_links_lead_somewhere(index: Path, page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for link in page.all("a"):
        target = link["href"] or ""
        assert target[1:] in ids if target.startswith("#") else (index.parent / target).is_file()
    linked = {link["href"] for link in page.all("a")}
    assert {f"tables/{file.name}" for file in (index.parent / "tables").glob("*.tex")} <= linked


def test_the_page_is_well_formed_and_accessible(page: Page) -> None:
    check_form(page)
    assert len(page.all("img")) == 10


def test_the_verdict_comes_before_figures_and_tables(page: Page) -> None:
    sections = [section["id"] for section in page.all("section")]
    assert sections == ["verdict", "answers", "images", "figures", "tables", "missing", "notes", "method", "reproduce"]
    assert any(text.startswith("By its worst class, the least reliable network is") for text in page.text)


def test_the_page_says_how_it_was_made(run: Run, page: Page) -> None:
    text = " ".join(page.text)
    for needle in (run.study["command"], *run.study["notes"], "600 times", "200 resamples", "made up", "RuntimeError"):
        assert needle in text


def test_figures_are_embedded_as_vector_graphics(page: Page) -> None:
    for image in page.all("img"):
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/svg+xml"
        drawing = ElementTree.fromstring(unquote(data))
        assert drawing.tag.endswith("svg")
        assert len(list(drawing.iter())) > 50


def test_the_same_run_gives_the_same_bytes(run: Run, index: Path, tmp_path: Path) -> None:
    again = write_report(run.folder, out=tmp_path, figures=["class_drops", "rank_stability"]).parent
    files = [file for file in again.rglob("*.*") if file.name != "index.html"]
    assert len([file for file in files if file.parent.name == "figures"]) >= 6
    for file in files:
        assert file.read_bytes() == (index.parent / file.relative_to(again)).read_bytes(), file.name


def test_a_selection_reaches_tables_matrix_and_images_and_the_page_says_so(run: Run, tmp_path: Path) -> None:
    asked = {"select": {"quantizer": ["rtn"]}, "rename": {"rtn W4A4": "RTN & <four>"}}
    file = write_report(run.folder, figures=["class_drops"], out=tmp_path, report=asked)
    text = file.read_text(encoding="utf-8")
    body = text.partition("<main>")[2]
    heads = {html.unescape(head) for head in re.findall(r'<th scope="row"[^>]*>([^<]*)</th>', body)}
    assert {"RTN & <four>", "rtn W8A8"} <= heads
    assert not heads & {"adaround W4A4", "rtn W4A4", "full precision"}
    lots = re.findall(r'class="lot"[^>]*><summary>([^<]*):', body)
    assert {html.unescape(name).removesuffix(" with tent") for name in lots} == {"RTN & <four>", "rtn W8A8"}
    known = json.loads(text.partition('id="methods">')[2].partition("</script>")[0])
    quantizers = next(each["values"] for each in known["dimensions"] if each["name"] == "quantizer")
    assert quantizers == ["rtn W8A8", "RTN & <four>"]
    said = " ".join(Page(text).text)
    assert "Selected: quantizer rtn." in said
    assert "rtn W4A4 is RTN & <four>." in said


def test_an_unknown_figure_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'class_drops'"):
        write_report(run.folder, figures=["error_heatmap", "class_drop"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RequestError, match=r"not a run's folder"):
        write_report(tmp_path, out=tmp_path / "out")


def test_hostile_names_are_text_not_markup(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", tasks=["a"], adapters=["none", "tent"], streams=["usual"], domains=["fog", "snow"], images=20
    )
    rows = store.read_rows(folder)
    order = list(store.load(folder).trials["trial"])
    for row in rows.values():
        if row["adapter"] == "tent":
            row["adapter_label"] = HOSTILE
            row["status"] = "refused" if row["bits"] == "W8A8" else row["status"]
            row["reason"] = HOSTILE
            row["warnings"] = json.dumps([f"{HOSTILE}; twice"])
    store.write_trials(folder, [rows[trial] for trial in order])
    study = store.read_study(folder)
    study |= {"title": HOSTILE, "description": HOSTILE, "command": HOSTILE, "notes": [HOSTILE]}
    store.write_study(folder, study)
    text = write_report(folder, report={"formats": ["svg"]}).read_text(encoding="utf-8")
    again = write_report(folder, report={"formats": ["svg"]}).read_text(encoding="utf-8")
    assert again == text
    page = Page(text)
    assert not page.all("b")
    assert len(page.all("script")) == 2
    assert sum(HOSTILE in each for each in page.text) >= 8
    assert html.unescape(text).count(HOSTILE) > text.count(HOSTILE)
    assert (folder / "index.html").is_file()


def test_figures_by_name_by_file_and_without_data(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run",
        tasks=["a"],
        quantizers=[("full_precision", "FP32")],
        adapters=["none"],
        streams=["usual"],
        domains=["fog"],
        images=10,
    )
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from matplotlib.figure import Figure\n\n\n"
        "class Trials:\n"
        '    """Errors of ``trials``.\n\n    How to read it & ``that``.\n    """\n\n'
        "    def data(self, run):\n        return run.trials[['trial', 'error']]\n\n"
        "    def draw(self, data):\n        figure = Figure(figsize=(2, 2))\n"
        "        figure.add_subplot().plot(data['error'], 'o')\n        return figure\n"
    )
    written = write_report(folder, figures=[f"{plugin}:Trials", "class_drops", "class_drops"]).read_text()
    page = Page(written)
    assert (folder / "figures" / "Trials.csv").is_file()
    assert [image["alt"] for image in page.all("img")] == [
        "Errors of trials. How to read it & that. All numbers are in figures/Trials.csv."
    ]
    assert "<p>How to read it &amp; <code>that</code>.</p>" in written
    assert "``" not in written
    assert not (folder / "figures" / "class_drops.csv").exists()
    assert "class_drops" in page.text
    assert any("left out" in text for text in page.text)
    assert any("None: every trial of the study is done." in text for text in page.text)


def test_a_run_without_any_result_still_has_a_page(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    rows = [row | {"status": "failed", "reason": "boom"} for row in run.trials.to_dict("records")]
    store.write_trials(tmp_path / "run", rows)
    page = Page(write_report(tmp_path / "run").read_text(encoding="utf-8"))
    assert not page.all("img")
    assert any("nothing to judge" in text for text in page.text)


@pytest.mark.parametrize("kept", ["full precision", "references", "nothing done", "no trial"])
def test_a_run_that_is_not_complete_has_a_page(tmp_path: Path, kept: str) -> None:
    """As the harness leaves it: only rows of trials that ended, with the columns that these have."""
    options = {"tasks": ["a"], "adapters": ["none", "tent"], "streams": ["usual"], "domains": ["fog", "snow"]}
    folder = make_run(tmp_path / "run", images=20, **options)
    settings = ["task", "quantizer", "adapter", "stream", "seed", "bits", "reference"]
    settings += [name for name in store.TRIAL_SCHEMA.names if name.endswith("_label")]
    rows = [
        {key: value for key, value in row.items() if value is not None}
        for row in store.read_rows(folder).values()
        if row["bits"] == "FP32" or kept == "nothing done"
    ]
    if kept == "references":
        rows = [row for row in rows if row["trial"] == row["reference"]]
    if kept == "nothing done":
        rows = [{name: row[name] for name in ("trial", *settings)} | {"status": "failed"} for row in rows]
    store.write_trials(folder, [] if kept == "no trial" else rows)
    page = Page(write_report(folder, report={"formats": ["svg"]}).read_text(encoding="utf-8"))
    assert any("no result of a quantized network" in text for text in page.text)
    ended = len(store.load(folder).trials)
    assert any(f"{8 - ended}\xa0trials of the study have not ended yet" in text for text in page.text) == (ended < 8)
    assert not any("every trial of the study is done" in text for text in page.text)
    assert bool(page.all("img")) == (kept in ("full precision", "references"))


@pytest.mark.parametrize("name", ["study.json", "trials.parquet", "records"])
def test_a_broken_run_is_refused_before_anything_is_written(run: Run, tmp_path: Path, name: str) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    trial = run.trials.loc[run.trials["status"] == "done", "trial"].iloc[0]
    file = tmp_path / "run" / "records" / f"{trial}.parquet" if name == "records" else tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RequestError, match=rf"{file.name} is not a whole .* run again"):
        write_report(tmp_path / "run", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_none_are_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    np.savez(tmp_path / "run" / "examples.npz", flip_ends=np.array([5]), flip_pictures=np.zeros(5, np.uint8))
    with pytest.raises(RequestError, match=r"examples\.npz: expected pictures of negative flips"):
        write_report(tmp_path / "run", figures=["class_drops"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(RequestError, match=f"cannot write to {place} .*expected a folder"):
            write_report(run.folder, out=place)
    assert (tmp_path / "file").read_text() == ""


def test_what_intervals_leave_out_is_said(page: Page) -> None:
    assert "where there is one draw it is taken as given" in " ".join(page.text)


def test_the_installed_figures_and_the_page_are_these() -> None:
    assert registry.load("reports", "page") is write_report
    for name in registry.names("figures"):
        assert registry.summary("figures", name).endswith(".")


def test_figures_come_in_the_order_that_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = {name: registry.load("figures", name).order for name in registry.names("figures")}
    assert len(set(orders.values())) == len(orders)
    assert build._installed() == sorted(orders, key=lambda name: orders[name])
    last = build._installed()[-1]
    monkeypatch.delattr(registry.load("figures", "class_drops"), "order")
    monkeypatch.delattr(registry.load("figures", "ablation_bars"), "order")
    assert build._installed()[-3:] == [last, "ablation_bars", "class_drops"]


def test_a_figure_of_several_pages_has_them_all(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog", "snow"], images=10
    )
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from matplotlib.figure import Figure\n\n\n"
        "class Trials:\n"
        '    """Errors of the trials."""\n\n'
        "    def data(self, run):\n        return run.trials[['trial', 'error']].iloc[:3]\n\n"
        "    def pages(self, data):\n        return [data.iloc[[k]] for k in range(len(data))]\n\n"
        "    def draw(self, data):\n        figure = Figure(figsize=(2, 2))\n"
        "        figure.add_subplot().set_title(data['trial'].iloc[0])\n        return figure\n"
    )
    stale = [folder / "figures" / f"Trials_{number}.pdf" for number in (4, 5)]
    for file in stale:
        file.parent.mkdir(exist_ok=True)
        file.write_text("of an earlier report")
    page = Page(write_report(folder, figures=[f"{plugin}:Trials"]).read_text())
    files = {file.name for file in (folder / "figures").iterdir()}
    pages = ("Trials", "Trials_2", "Trials_3")
    assert files == {"Trials.csv", *(f"{name}.{suffix}" for name in pages for suffix in ("pdf", "png"))}
    assert [image["alt"][-12:] for image in page.all("img")] == ["Page 1 of 3.", "Page 2 of 3.", "Page 3 of 3."]
    assert len({image["src"] for image in page.all("img")}) == 3
    links = [link["href"] for link in page.all("a") if (link["href"] or "").startswith("figures/")]
    assert sorted(links) == sorted(f"figures/{name}" for name in files)
    assert any("2 further pages of Figure 1" in text for text in page.text)


@pytest.mark.parametrize("name", ["figures", "tables"])
def test_a_folder_that_is_a_link_is_not_written_through(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match=f"{name} is a symbolic link, to .*elsewhere: expected a folder"):
        write_report(run.folder, out=tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not (tmp_path / "out" / "summary.csv").exists()
