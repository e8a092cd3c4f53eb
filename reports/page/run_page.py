"""What the page of a run consists of: the first screen, questions beside their pictures, tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from evalsuite.adaptation.collapse import SHARE, WINDOW
from evalsuite.analysis.claims import LEVEL
from evalsuite.store import Run
from reports.frames.adaptation import adaptation
from reports.frames.evidence import Evidence, evidence
from reports.frames.first_screen import matrices, networks, worst_first
from reports.frames.kept_images import Key, Shot, private_tasks
from reports.frames.lost_images import lost_images, pictured
from reports.frames.methods import labelled
from reports.page.facts import facts_of
from reports.page.filters import Filters
from reports.page.images import images
from reports.page.overview import LEGEND, grids, hero
from reports.page.pictures import Picture
from reports.page.tables import missing_table, result_tables
from reports.page.templates import own, template
from reports.selection import Selection
from reports.words import first_screen as words
from reports.words.answers import answer
from reports.words.columns import COLUMNS
from reports.words.jitter import jitter_note
from reports.words.numbers import CONFIDENCE_PERCENT, count
from reports.words.verdict import judge

_SECTIONS = (
    ("verdict", "Overview"),
    ("answers", "Questions and answers"),
    ("images", "Images that are lost"),
    ("figures", "Further pictures"),
    ("tables", "Tables"),
    ("missing", "Trials without a result"),
    ("notes", "About this study"),
    ("method", "How the numbers are made"),
    ("reproduce", "Reproduce"),
)
_FIRST = "Which network is least reliable, and is that more than chance?"
_OF_FIRST = ("mean_against_worst", "class_drops", "error_heatmap")
_HOWS = {
    "picture": [
        ("Mean", COLUMNS["drop"]),
        ("Worst class", COLUMNS["worst_drop_value"]),
        ("What chance can give", COLUMNS["chance"]),
    ],
    "matrix": [("Mean drop", COLUMNS["drop"]), ("Worst class beyond chance", COLUMNS["worst_drop_p"])],
}
_CLAIMS = (
    f"An effect is claimed only where its test has p < {LEVEL:g} after Holm's correction and its "
    f"{CONFIDENCE_PERCENT}\N{NO-BREAK SPACE}% interval excludes zero. Networks are ranked by the drop of their worst "
    "class; the ranking itself is not tested."
)


@dataclass(frozen=True)
class _Question:
    """A question, the pictures beside it, and its answer, folded."""

    title: str
    tasks: Sequence[tuple[str, Sequence[str]]]
    beside: Sequence[Picture]
    lead: str = ""
    note: str = ""

    @property
    def length(self) -> int:
        """Sentences of the answer."""
        return sum(len(sentences) for _, sentences in self.tasks) + bool(self.lead)


def render(content: Mapping[str, Any]) -> str:
    """Return the page of a run; ``content``: :func:`contents`, its pictures with their sheets."""
    return template("page.html.j2").render(content)


def contents(
    run: Run, pictures: list[Picture], omitted: list[str], selection: Selection, shots: Mapping[Key, Shot]
) -> dict[str, Any]:
    """Return what the page of a run shows; ``omitted``: names of figures that have no numbers in it.

    The sheets of ``pictures`` may still be missing. ``shots`` is :func:`reports.frames.kept_images.flip_pictures`.

    Pictures, matrices, tables and images are of what is selected. Sentences and tiles are of the whole run, for what
    they say is said of all that was run.
    """
    study, found = run.study, evidence(run)
    rows, private = networks(run, found), private_tasks(run)
    trials = selection.of_frame(labelled(run).drop(columns="reference"))
    filters, shown = Filters.of(trials), selection.of_evidence(pictured(found, shots))
    questions, further = _questions(run, found, pictures)
    return {
        "title": study["title"],
        "asked": words.asked(run, found),
        "brief": words.brief(found, rows),
        "tiles": words.tiles(run, found, rows),
        "least_reliable": "".join(filters.marks(selection.of_frame(worst_first(rows).head(1)))),
        "selected": words.selected(selection.asked, selection.called),
        "hero": hero(selection.of_frame(rows), filters),
        "grids": grids(matrices(shown), filters),
        "legend": LEGEND,
        "hows": _HOWS,
        "study": study,
        "told": words.methods(study),
        "notes": [*study["notes"], *jitter_note(found.analysis.summary)],
        "version": study["versions"].get("evalsuite", ""),
        "facts": _facts(run),
        "sections": _SECTIONS,
        "questions": questions,
        "images": images(lost_images(shown), [selection.names.get(task, task) for task in private], filters),
        "further": further,
        "omitted": omitted,
        "tables": result_tables(shown, selection.of_frame(adaptation(run)), filters.marks),
        "missing": missing_table(trials, filters.marks),
        "unfinished": _unfinished(run),
        "warnings": _warnings(run.trials),
        "permutations": f"{study['analysis']['permutations']:,}",
        "bootstrap": f"{study['analysis']['bootstrap']:,}",
        "environment": _environment(study),
        "settings": json.dumps(study["settings"], indent=2, ensure_ascii=False),
        "methods": filters.data,
        "css": own("page.css") + own("tiles.css") + own("run.css"),
        "js": own("page.js") + own("run.js"),
    }


def _questions(run: Run, found: Evidence, pictures: list[Picture]) -> tuple[list[_Question], list[Picture]]:
    """Return the questions with their pictures, numbered as they stand on the page, and the pictures left over."""
    left = {each.name: each for each in pictures}
    numbered: list[Picture] = []

    def take(names: Sequence[str]) -> list[Picture]:
        own = [left.pop(name) for name in names if name in left]
        own = [replace(each, number=len(numbered) + place) for place, each in enumerate(own, start=1)]
        numbered.extend(own)
        return own

    verdict, answered = judge(run, found), answer(run, found)
    tasks = [(each.title, each.sentences) for each in verdict.tasks]
    questions = [_Question(_FIRST, tasks, take(_OF_FIRST), verdict.lead, f"{verdict.note} {_CLAIMS}".strip())]
    for place, each in enumerate(answered.answers, start=1):
        note = answered.note if place == len(answered.answers) else ""
        questions.append(_Question(each.question, each.tasks, take(each.figures), note=note))
    return questions, take(list(left))


def _facts(run: Run) -> str:
    status, trials = run.trials["status"].value_counts(), labelled(run)
    ended = ", ".join(f"{status[each]:,} {each}" for each in ("done", "failed", "refused") if each in status)
    seeds = run.trials["seed"].nunique()
    parts = [
        count(len(run.trials), "trial") + (f" ({ended})" if ended else ""),
        count(run.trials["task"].nunique(), "task"),
        _beside(trials, "quantizer_label", "full_precision", "quantizer setting", "full precision"),
        _beside(trials, "adapter_label", "unadapted", "adapter", "no adaptation"),
        count(run.trials["stream_label"].nunique(), "stream"),
        count(seeds, "seed"),
    ]
    return " · ".join(parts)


def _beside(trials: pd.DataFrame, column: str, baseline: str, what: str, named: str) -> str:
    """Count methods, and name the baseline beside them, for it is a row or column of the matrices too."""
    methods = trials.loc[~trials[baseline], column].nunique()
    if not methods and trials[baseline].any():
        return named
    return count(methods, what) + (f" and {named}" if trials[baseline].any() else "")


def _unfinished(run: Run) -> str:
    left = run.left
    return f"{count(left, 'trial')} of the study {'has' if left == 1 else 'have'} not ended yet" if left else ""


def _warnings(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every named warning with the number of trials that gave it, and how many trials collapsed."""
    names = trials["warnings"].dropna().map(json.loads).explode().dropna()
    shown = [(str(name), count(int(number), "trial")) for name, number in names.value_counts().items()]
    collapsed = int(trials["collapsed_at"].notna().sum())
    text = f"collapse: one class is predicted for over {100 * SHARE:g} % of {WINDOW} in a row that show more classes"
    return [*shown, *([(text, count(collapsed, "trial"))] if collapsed else [])]


def _environment(study: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    tables = [("Versions", study["versions"]), ("Hardware", study["hardware"])]
    tables += [(f"Task {task}", _task_facts(facts)) for task, facts in study["tasks"].items()]
    return [(title, facts_of(facts)) for title, facts in tables]


def _task_facts(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"classes": len(facts["classes"])}
