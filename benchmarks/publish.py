"""Make a page of results from finished runs: the card of each, its answers, its figures, and the tables behind them.

python -m benchmarks.publish [NAME RUN...] [--figures NAME,...]

Writes docs/results/NAME.md, and beside it a folder a run with its section of the page, its tables, the figures and, of
an audit, verdict.json; sections of runs that are not given again stay as they are, so that networks can be added one by
one. Commands are shown without the folders of this machine. NAME is that of the study, by which benchmarks/claims.toml
finds it. The runs' reports must be there (evalsuite report). Then, and alone where nothing is named, all pages are put
together anew from their sections, and docs/results/claims.md and the table in README.md made from all tables that are
published.
tests/test_results.py holds every number to the tables.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import claims
from benchmarks.glance import EFFECTS, at_a_glance, large_enough, unadapted
from evalsuite import registry, store
from evalsuite.analysis.verdict import FILE as VERDICT
from evalsuite.files import write_text
from evalsuite.registry import plain
from evalsuite.store import Run
from reports.card import of_run
from reports.frames.calibration_sets import effects
from reports.frames.evidence import evidence
from reports.markdown import escaped, listed, table
from reports.words.answers import answer
from reports.words.numbers import number, p_cell
from reports.words.verdict import named_class

ROOT = Path(__file__).parents[1]
RESULTS, README = ROOT / "docs" / "results", ROOT / "README.md"
TABLES = ("summary.csv", "comparisons.csv", "rankings.csv")
IF_THERE = (VERDICT, "engine_gaps.csv", "rounds.csv", "shift_excess.csv")
FIGURES = (
    *("mean_against_worst", "error_heatmap", "calibration_effects", "paradigm_comparison", "class_drops"),
    *("rank_stability", "stream_error", "recurring_rounds", "cost_against_error", "simulation_gap"),
    "shift_excess",
)
MARKS = ("<!-- results: made by benchmarks/publish.py -->", "<!-- end of results -->")
SECTION = "section.txt"  # no page of its own
_PICTURE = re.compile(r"!\[[^]]*\]\([^)]*/(\w+)\.png\)")
_MOST = 8  # rows of the table in README.md
_MOST_ROWS = 60  # of a card here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--figures", default=",".join(FIGURES), help="of the report, comma between; those there are")
    arguments = parser.parse_args()
    if arguments.name and not arguments.runs:
        parser.error(f"expected the folder of a run beside {arguments.name}")
    if arguments.runs:
        publish(arguments.name, arguments.runs, arguments.figures.split(","))
    for page in sorted(RESULTS.glob("*.md")):
        if any((RESULTS / page.stem).glob(f"*/{SECTION}")):
            assemble(page.stem, page.read_text(encoding="utf-8").partition("\n")[0])
    write_text(RESULTS / "claims.md", claims.page(RESULTS))
    write_text(README, with_results(README.read_text(encoding="utf-8"), RESULTS))


def publish(name: str, folders: Sequence[Path], figures: Sequence[str], results: Path = RESULTS) -> None:
    """Write the page ``name`` of finished runs and of those published before, and what stands behind it."""
    runs = [(folder, store.load(folder)) for folder in folders]
    for folder, run in runs:
        text = "\n\n".join(_section(f"{name}/{folder.name}", folder, run, figures, results))
        write_text(results / name / folder.name / SECTION, f"{text}\n")
    assemble(name, f"# {escaped(runs[0][1].study['title'] or name)}", results)


def assemble(name: str, title: str, results: Path = RESULTS) -> None:
    """Write the page ``name`` anew from the sections of its runs, each figure with what it shows."""
    sections = [_captioned(file.read_text(encoding="utf-8")) for file in sorted((results / name).glob(f"*/{SECTION}"))]
    glance = at_a_glance(results / name)
    write_text(results / f"{name}.md", "\n".join([f"{title}\n", *([f"{glance}\n"] if glance else []), *sections]))


def _captioned(section: str) -> str:
    """Say below a figure, or the last of its pages, how it is read."""
    parts = section.split("\n\n")
    figures = [_figure_of(part) for part in parts]
    if "recurring_rounds" in figures:  # which shows the same by round
        kept = [place for place, figure in enumerate(figures) if figure != "stream_error"]
        parts, figures = [parts[place] for place in kept], [figures[place] for place in kept]
    found = []
    for part, figure, after in zip(parts, figures, [*figures[1:], ""], strict=True):
        found.append(part)
        if figure and figure != after:
            _, _, caption = (inspect.getdoc(registry.load("figures", figure)) or "").partition("\n\n")
            found.append(f"*{escaped(plain(' '.join(caption.split())))}*")
    return "\n\n".join(found)


def _figure_of(part: str) -> str:
    """Return the name of the figure that a part of a section shows; empty: none."""
    found = _PICTURE.fullmatch(part)
    return re.sub(r"_\d+$", "", found[1]) if found else ""


def _section(where: str, folder: Path, run: Run, figures: Sequence[str], results: Path) -> Iterator[str]:
    place = results / where
    place.mkdir(parents=True, exist_ok=True)
    kept = [*TABLES, *(name for name in IF_THERE if (folder / name).is_file())]
    for name in kept:
        shutil.copyfile(folder / name, place / name)
    changed = effects(run)
    if len(changed):
        changed.to_csv(place / EFFECTS, index=False)
        kept.append(EFFECTS)
    shown = [file for figure in figures for file in _pages(folder / "figures", figure)]
    for file in shown:
        _copy_picture(file, place / file.name)
    card = of_run(run, _MOST_ROWS)
    text = replace(card, command=anywhere(card.command)).markdown.partition("\n\n")[2]  # without its title
    yield f"## {', '.join(run.study['tasks'])}"
    yield text.strip()
    yield from _answers(run)
    yield from (f"![{file.stem.replace('_', ' ')}]({where}/{file.name})" for file in shown)
    yield "Behind the numbers: " + ", ".join(f"[{name}]({where}/{name})" for name in kept) + "."


def _pages(folder: Path, figure: str) -> list[Path]:
    """Return the pictures of a figure, which has several pages where one has no room for it."""
    files = [folder / f"{figure}.png", *sorted(folder.glob(f"{figure}_[0-9]*.png"))]
    return [file for file in files if file.is_file()]


def _copy_picture(source: Path, target: Path) -> None:
    """Copy a picture in 256 colours, which is all that a figure has and a third of the bytes."""
    with Image.open(source) as picture:
        colours = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(target, optimize=True, dpi=picture.info.get("dpi", (72, 72)))


def _answers(run: Run) -> Iterator[str]:
    """Yield what the page of the run answers, question by question."""
    found = answer(run, evidence(run))
    if found.answers:
        yield "### Questions and answers"
    for each in found.answers:
        yield f"**{escaped(each.question)}**"
        for task, sentences in each.tasks:
            yield from [f"On {escaped(task)}:"] if len(each.tasks) > 1 else []
            yield listed([escaped(sentence) for sentence in sentences])
    if found.note:
        yield f"*{escaped(found.note)}*"


def anywhere(command: str) -> str:
    """Return a command as somebody else would call it: no folder of this machine, ``DIR`` for that of the data."""
    words, shown = iter(shlex.split(command)), []
    for word in words:
        option, given, _ = word.partition("=")
        if option in ("--out", "--data-root"):
            if not given:
                next(words, None)
            shown += ["--data-root", "DIR"] if option == "--data-root" else []
        else:
            shown.append(Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(shown)


def with_results(readme: str, results: Path) -> str:
    """Return README.md with the table of what is published between its marks."""
    before, _, rest = readme.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{table_of_all(results)}\n\n{MARKS[1]}{after}"


def table_of_all(results: Path) -> str:
    """Return a table of unadapted networks: of every published task as many as there is room for, worst class first.

    Of one task the least and the most reliable are there, and others at equal distances between; of too many tasks
    those whose worst class loses most. Tasks of which too few images of a class were shown are left out.
    """
    own = [
        (file.parent.parent.name, part)
        for file in sorted(results.glob("*/*/summary.csv"))
        for part in unadapted(file)
        if large_enough(part)
    ]
    worst = sorted(range(len(own)), key=lambda place: -own[place][1]["worst_drop_class_value"].iloc[0])
    own = [own[place] for place in sorted(worst[:_MOST])]
    each = max(1, _MOST // max(1, len(own)))
    rows = [(study, row) for study, part in own for row in _spread(part, each)]
    heads = ["Study", "Task", "Network", "Mean drop", "Worst class", "Its drop", "By chance", "p"]
    lines = table(heads, [], [False, False, False, True, False, True, True, True]).splitlines()
    for study, row in rows:
        cells = [row["task"], row["quantizer_label"], number(100 * row["drop"]), named_class(row["worst_drop_class"])]
        cells += [number(100 * row[f"worst_drop_class_{name}"]) for name in ("value", "null")]
        cells += [p_cell(row["worst_drop_class_p_holm"])]
        lines.append(f"| {' | '.join([f'[{study}](docs/results/{study}.md)', *map(escaped, cells)])} |")
    return "\n".join(lines)


def _spread(frame: pd.DataFrame, most: int) -> list[pd.Series]:
    places = np.linspace(0, len(frame) - 1, min(most, len(frame))).round().astype(int)
    return [frame.iloc[place] for place in places]


if __name__ == "__main__":
    main()
