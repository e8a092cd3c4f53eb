"""What the page shows of the images that are lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from evalsuite.store import Run
from evalsuite.study.report import Report
from reports.frames.evidence import evidence
from reports.frames.kept_images import flip_pictures
from reports.frames.lost_images import lost_images, pictured
from reports.frames.methods import KEYS, labelled
from reports.page.filters import Filters
from reports.page.images import Images, images
from reports.page.templates import template
from reports.selection import Selection


def shown(run: Run, *, pictures: bool = True, private: tuple[str, ...] = (), report: Report | None = None) -> Images:
    selection = Selection.of(run, report or Report())
    found = selection.of_evidence(pictured(evidence(run), flip_pictures(run) if pictures else {}))
    filters = Filters.of(selection.of_frame(labelled(run).drop(columns="reference")))
    return images(lost_images(found), private, filters)


@pytest.fixture(scope="module")
def made(study_run: Run) -> Images:
    return shown(study_run)


def render(found: Images) -> str:
    return str(template("images.html.j2").render(images=found))


def test_every_network_that_can_be_compared_has_a_lot(study_run: Run, made: Images) -> None:
    methods = evidence(study_run).methods
    compared = methods[~(methods["full_precision"] & methods["unadapted"])]
    lots = [lot for _, own in made.tasks for lot in own]
    assert len(lots) == len(compared.drop_duplicates(KEYS)) == len(made.places)


def test_a_picture_is_embedded_once_however_often_it_is_shown(made: Images) -> None:
    text = render(made)
    used = re.findall(r'href="#shot-(\d+)"', text)
    assert text.count("data:image/webp") == len(made.pictures) == len(set(used)) < len(used)
    assert {int(place) for place in used} == set(range(len(made.pictures)))


def test_a_mistake_without_a_picture_is_named(made: Images) -> None:
    mistakes = [each for _, own in made.tasks for lot in own for part in lot.parts for each in part.mistakes]
    assert {each.picture is None for each in mistakes} == {True, False}
    assert all(re.fullmatch(r"(clean|[\w ]+ [135]), image \d+", each.said) for each in mistakes)
    assert all(each.label != each.taken_for for each in mistakes)


def test_shares_of_what_the_worst_class_is_taken_for_are_the_records(study_run: Run, made: Images) -> None:
    trials = study_run.trials[study_run.trials["quantizer_label"] == "gptq W4A4"]
    lot = next(lot for _, own in made.tasks for lot in own if lot.title.startswith("gptq W4A4 (size 16): class 3"))
    chosen = trials[(trials["calibration_label"] == "size 16") & (trials["adapter_label"] == "none")]
    records = study_run.records[study_run.records["label"] == 3]
    right = lot.confused[0]
    for share, own in ((right.now, chosen["trial"]), (right.full, chosen["reference"])):
        predicted = records.loc[records["trial"].isin(own), "prediction"]
        assert share == round(100 * float((predicted == 3).mean()))
    assert right.right
    assert right.name == "class 3"


def test_private_pictures_are_withheld_and_the_page_says_so(study_run: Run) -> None:
    text = render(shown(study_run, pictures=False, private=("digits/vit",)))
    assert "data:image" not in text
    assert "Pictures are withheld: the study says that this task is private" in text
    assert re.search(r"fog 5, image \d+", text)


def test_a_run_that_kept_none_says_so(study_run: Run) -> None:
    text = render(shown(study_run, pictures=False))
    assert "This run has kept no pictures" in text
    assert "No network has a result" in render(Images((), (), frozenset()))


def test_names_are_text(made: Images) -> None:
    _, lots = made.tasks[0]
    hostile = "<script>\"'&"
    part = lots[0].parts[0]
    mistake = replace(part.mistakes[0], label=hostile, taken_for=hostile, said=hostile)
    lot = replace(lots[0], title=hostile, parts=(replace(part, title=hostile, mistakes=(mistake,)),), whose=hostile)
    text = render(replace(made, tasks=((hostile, (lot,)),), private=frozenset({hostile})))
    assert "<script>" not in text
    assert text.count("&lt;script&gt;&#34;&#39;&amp;") >= 8


def test_a_selection_shows_its_networks_under_their_new_names_with_their_pictures(study_run: Run, made: Images) -> None:
    asked = Report(select={"quantizer": ("gptq W4A4",)}, rename={"gptq W4A4": "GPTQ", "class 3": "the third"})
    own = shown(study_run, report=asked)
    titles = [lot.title for _, lots in own.tasks for lot in lots]
    assert len(titles) == sum(lot.title.startswith("gptq") for _, lots in made.tasks for lot in lots)
    assert all(title.startswith("GPTQ (") for title in titles)
    assert any("the third loses" in title for title in titles)
    assert 0 < len(own.pictures) <= len(made.pictures)
