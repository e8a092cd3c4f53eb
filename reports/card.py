"""A run or a verdict as a Markdown card, for a README or a model card: what was asked, what was found, how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite import store
from evalsuite.analysis.verdict import FILE as VERDICT
from evalsuite.analysis.verdict import Verdict, read_verdict
from evalsuite.files import write_text
from evalsuite.hashing import digest
from evalsuite.isolation import printable
from evalsuite.store import Run
from reports.frames.evidence import Evidence, evidence
from reports.frames.first_screen import networks
from reports.frames.methods import each_row
from reports.frames.shown_images import shown_images
from reports.markdown import escaped, fenced, listed, table
from reports.words import audit_page, audit_tiles
from reports.words import first_screen as words
from reports.words.answers import covered
from reports.words.numbers import CONFIDENCE_PERCENT, NOTHING, count, is_missing, number, p_cell
from reports.words.numbers import listed as joined
from reports.words.verdict import named_class

FILE = "card.md"
_MOST_ROWS = 16
_MOST_BROKEN = 4
_LONGEST_COMMAND = 20_000  # characters: it is there to be copied whole
_PACKAGES = ("evalsuite", "torch", "python")


@dataclass(frozen=True)
class Card:
    """What a card says: plain text, but for ``numbers``, a Markdown table.

    Attributes
    ----------
    points : a label, or none, and what is said.
    note : how the numbers are read.
    made : names and values of how it was made; those without a value are left out.
    """

    title: str
    asked: str
    verdict: str
    points: Sequence[tuple[str, str]]
    numbers: str
    note: str
    made: Sequence[tuple[str, str]]
    command: str

    @property
    def markdown(self) -> str:
        """The card, every text of it escaped."""
        parts = [
            f"## {escaped(self.title)}",
            f"**Asked:** {escaped(self.asked)}",
            f"**Verdict:** {escaped(self.verdict)}",
            _pairs(self.points),
            self.numbers,
            f"*{escaped(self.note)}*" if self.note else "",
            "### How it was made",
            _pairs(self.made),
            fenced(printable(self.command, _LONGEST_COMMAND)) if self.command else "",
        ]
        return "\n\n".join(filter(None, parts)) + "\n"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    labelled = [(f"**{escaped(name)}:** " if name else "", escaped(text)) for name, text in pairs if text]
    return listed([name + text for name, text in labelled])


def write_card(folder: Path, out: Path | None = None) -> Path:
    """Write ``card.md`` of an audit, if the folder has a verdict, else of a run.

    Parameters
    ----------
    folder : of the run or audit.
    out : the folder to write to, by default the same.

    Raises
    ------
    RequestError
        If there is neither, it is broken, or the card cannot be written.
    """
    card = of_verdict(read_verdict(folder)) if (folder / VERDICT).is_file() else of_run(store.load(folder))
    file = (folder if out is None else out) / FILE
    write_text(file, card.markdown)
    return file


def of_run(run: Run, most: int = _MOST_ROWS) -> Card:
    """Return the card of a run: the verdict of its page's first screen, its tiles, and its networks' numbers.

    Of more than ``most`` networks the others are counted alone.
    """
    found = evidence(run)
    rows = networks(run, found)
    tiles = words.tiles(run, found, rows)
    study = run.study
    left = [f"{count(run.left, 'trial')} of the study not ended"] if run.left else []
    ends = [f"{number_:,} {status}" for status, number_ in run.trials["status"].value_counts().items()]
    made = [
        ("Study", f"{study['name']}, settings {digest(study['settings'])}"),
        ("Trials", ", ".join([*ends, *left])),
        ("Images shown", _images(run)),
        ("Draws (seeds)", str(len(study["seeds"]))),
        *_environment(study["versions"], study["hardware"], run.trials["engine"].dropna().unique()),
    ]
    return Card(
        str(study["title"]) or str(study["name"]),
        words.asked(run, found),
        words.brief(found, rows),
        [(tile.title, "; ".join([tile.value, *tile.lines])) for tile in tiles],
        _networks(found, rows, most) if len(rows) else _adapters(found),
        _note(found, bool(len(rows))),
        made,
        str(study["command"]),
    )


def _note(found: Evidence, quantized: bool) -> str:
    """Say how the numbers of a run's table are read."""
    intervals = f"{CONFIDENCE_PERCENT} % intervals over {covered(found)}"
    if not quantized:
        return (
            "Error is the share of wrong predictions, change what an adapter adds to it, in points; brackets: "
            f"{intervals}; p after Holm's correction over the adapters."
        )
    return (
        "Error is the share of wrong predictions, drop what is added to that of full precision, in points; brackets: "
        f"{intervals}, those of the worst class for all classes at once; p: of the worst class, by exchanging images "
        "between classes, after Holm's correction over the networks."
    )


def _adapters(found: Evidence) -> str:
    """Return a table of the adapters of networks in full precision, where a run quantizes none."""
    cells = []
    for row in each_row(found.methods[found.methods["full_precision"]]):
        told = None if row.unadapted else found.against_unadapted(row, _unadapted(found, row))
        change = [NOTHING, NOTHING]
        if told is not None:
            tested = NOTHING if is_missing(told.p) else p_cell(told.p)
            change = [_with_interval(told.difference, told.low, told.high), tested]
        error = _with_interval(row.error, row.error_low, row.error_high)
        cells.append([row.task, row.stream_label, row.adapter_label, error, *change])
    heads = ["Task", "Stream", "Adapter", "Error (%)", "Change (points)", "p"]
    return table(heads, cells, [False, False, False, True, True, True]) if len(cells) > 1 else ""


def _unadapted(found: Evidence, row: Any) -> str:
    """Return what a task calls the lack of an adapter."""
    own = found.methods[found.methods["unadapted"] & (found.methods["task"] == row.task)]
    return str(own["adapter_label"].iloc[0]) if len(own) else ""


def _networks(found: Evidence, rows: Any, most: int) -> str:
    """Return the table of the unadapted networks, full precision first, then the least reliable."""
    full = found.methods[found.methods["full_precision"] & found.methods["unadapted"]]
    cells, several = [], found.methods["task"].nunique() > 1
    for task in rows["task"].unique():
        own = rows[rows["task"] == task]
        stream = full[(full["task"] == task) & (full["stream_label"] == own["stream_label"].iloc[0])]
        first = [str(task)] if several else []
        cells += [[*first, *_network(row)] for row in (*each_row(stream), *each_row(own))]
    heads = [*(["Task"] if several else []), "Network", "Error (%)", "Drop (points)", "Worst class", "Its drop", "p"]
    numeric = [head not in ("Task", "Network", "Worst class") for head in heads]
    more = f"\n\nand {count(len(cells) - most, 'more row')}" if len(cells) > most else ""
    return table(heads, cells[:most], numeric) + more if cells else ""


def _network(row: Any) -> list[str]:
    edges = ("worst_drop_class_low", "worst_drop_class_high")
    tested = not is_missing(row.worst_drop_class_p_holm)
    name = str(row.network) if row.unadapted else f"{row.network} with {row.adapter_label}"
    return [
        name,
        _with_interval(row.error, row.error_low, row.error_high),
        NOTHING if row.full_precision and row.unadapted else _with_interval(row.drop, row.drop_low, row.drop_high),
        named_class(row.worst_drop_class) if tested else NOTHING,
        _with_interval(row.worst_drop_class_value, *(getattr(row, edge) for edge in edges)) if tested else NOTHING,
        p_cell(row.worst_drop_class_p_holm) if tested else NOTHING,
    ]


def _with_interval(value: float, low: float, high: float) -> str:
    if is_missing(value):
        return NOTHING
    edges = "" if is_missing(low) or is_missing(high) else f" ({number(low * 100)} to {number(high * 100)})"
    return number(value * 100) + edges


def of_verdict(verdict: Verdict) -> Card:
    """Return the card of a verdict: how the target stands against each rival, and what breaks."""
    verdict = audit_page.clean(verdict)
    broken = audit_page.breakage_lines(verdict)
    said = f"{audit_page.headline(verdict)}. {verdict.summary}" if verdict.reached else verdict.summary
    if verdict.reached:
        points = broken[:_MOST_BROKEN] or [audit_page.unbroken(verdict)]
        points += [f"and {len(broken) - _MOST_BROKEN} more that break"] if len(broken) > _MOST_BROKEN else []
    else:
        failed = audit_page.failed(verdict)
        points = [each for each in verdict.reasons if not any(line.startswith(each) for line in failed)] + failed
    lost = verdict.trials.failed + verdict.trials.refused
    made = [
        ("Target", " ".join(filter(None, [verdict.target, verdict.source_digest]))),
        ("Profile", verdict.profile),
        ("Trials of the target", f"{verdict.trials.done:,} done" + (f", {lost:,} failed or refused" if lost else "")),
        ("Draws (seeds)", str(len(verdict.seeds))),
        *_environment(verdict.versions, verdict.hardware),
    ]
    rule = audit_page.rule(verdict) if verdict.reached else ""
    return Card(
        f"Audit of {verdict.target_label}",
        _asked(verdict),
        said,
        [("", each) for each in points],
        _claims(verdict) if verdict.reached else "",
        rule,
        made,
        verdict.command,
    )


def _asked(verdict: Verdict) -> str:
    parts = [(" at ", verdict.bits), (" on ", list(verdict.tasks)), (" against ", verdict.rivals)]
    return f"Is {verdict.target_label} reliable{''.join(word + ', '.join(names) for word, names in parts if names)}?"


def _claims(verdict: Verdict) -> str:
    tiles = audit_tiles.tiles(verdict)
    lines = [(tile.title, line, tile.shared or line.detail) for tile in tiles for line in tile.lines]
    lines = [each for each in lines if each[1].standing != "not tested" or each[1].difference]
    ordered = sorted(lines, key=lambda each: each[1].weight)[:_MOST_ROWS]
    rows = [
        [title, f"{line.glyph} {line.standing}", line.against, line.difference or NOTHING, detail or NOTHING]
        for title, line, detail in lines
        if any(line is each[1] for each in ordered)
    ]
    more = f"\n\nand {count(len(lines) - _MOST_ROWS, 'more row')}" if len(lines) > _MOST_ROWS else ""
    heads = ["Question", "The target is", "Against", "Difference (points; cost: ratio)", "Of what"]
    return table(heads, rows, [False, False, False, True, False]) + more if rows else ""


def _images(run: Run) -> str:
    """Say how many images each task's streams show, in how many domains."""
    parts = []
    for row in each_row(shown_images(run).drop(columns="stream_label").drop_duplicates()):
        of = "" if is_missing(row.of) else f" of {int(row.of):,}"
        each = f"{row.least:,}" if row.least == row.most else f"{row.least:,} to {row.most:,}"
        severity = f" at severity {joined([str(one) for one in row.severities])}" if row.severities else ""
        where = f", {each} in each of {row.domains} domains" if row.domains > 1 else ""
        parts.append(f"{row.task}: {row.images:,}{of}{where}{severity}")
    return "; ".join(parts)


def _environment(
    versions: dict[str, str], hardware: dict[str, Any], engines: Iterable[str] = ()
) -> list[tuple[str, str]]:
    deployed = [name for name in versions if any(str(engine).startswith(name) for engine in engines)]
    known = [f"{name} {versions[name]}" for name in (*_PACKAGES, *deployed) if versions.get(name)]
    machine = [str(hardware[name]) for name in ("processor", "device") if hardware.get(name)]
    machine[1:1] = [f"8-bit instructions: {joined(own)}"] if (own := hardware.get("integer_instructions")) else []
    return [("Versions", ", ".join(known)), ("Machine", ", ".join(machine))]
