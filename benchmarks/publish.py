"""Make a page of results from finished runs: the card of each, its main figures, and the tables behind every number.

python benchmarks/publish.py NAME RUN... [--figures NAME,...]

Writes docs/results/NAME.md, and beside it a folder a run with summary.csv, comparisons.csv, rankings.csv and the
figures; commands are shown without the folders of this machine. The runs' reports must be there (evalsuite report).
Numbers stand in the page as the card says them; tests/test_results.py holds these to the tables.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from evalsuite import store
from evalsuite.files import write_text
from reports.card import of_run

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TABLES = ("summary.csv", "comparisons.csv", "rankings.csv")
FIGURES = ("mean_against_worst", "error_heatmap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--figures", default=",".join(FIGURES), help="of the report, comma between")
    arguments = parser.parse_args()
    runs = [(folder, store.load(folder)) for folder in arguments.runs]
    title = runs[0][1].study["title"] or arguments.name
    parts = [f"# {title}"]
    for folder, run in runs:
        place = RESULTS / arguments.name / folder.name
        place.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            shutil.copyfile(folder / name, place / name)
        shown = [name for name in arguments.figures.split(",") if (folder / "figures" / f"{name}.png").is_file()]
        for name in shown:
            shutil.copyfile(folder / "figures" / f"{name}.png", place / f"{name}.png")
        where = f"{arguments.name}/{folder.name}"
        card = of_run(run)
        text = replace(card, command=anywhere(card.command)).markdown.partition("\n\n")[2]  # without its title
        parts += [
            f"## {', '.join(run.study['tasks'])}",
            text.strip(),
            *(f"![{name.replace('_', ' ')}]({where}/{name}.png)" for name in shown),
            "Behind the numbers: " + ", ".join(f"[{name}]({where}/{name})" for name in TABLES) + ".",
        ]
    write_text(RESULTS / f"{arguments.name}.md", "\n\n".join(parts) + "\n")


def anywhere(command: str) -> str:
    """Return a command as somebody else would call it: no folder to write to, ``DIR`` for that of the data."""
    words, shown = iter(shlex.split(command)), []
    for word in words:
        if word == "--out":
            next(words, None)
        elif word == "--data-root":
            next(words, None)
            shown += [word, "DIR"]
        else:
            shown.append(word)
    return shlex.join(shown)


if __name__ == "__main__":
    main()
