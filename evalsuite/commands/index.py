"""``evalsuite index``: one page over finished runs and audits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalsuite.commands._options import DONE, AsJson
from evalsuite.errors import RequestError


def index(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders under which runs and audits lie.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page; a .csv and a .json file appear beside it.")
    ] = Path("index.html"),
    as_json: AsJson = False,
) -> int:
    """Write one page over finished runs and audits: a leaderboard of each task, verdicts, how each run was made.

    Only what saw the same images and weights is ranked together.
    """
    from rich.markup import escape

    from evalsuite import registry
    from evalsuite.collection import collect
    from evalsuite.isolation import printable
    from evalsuite.store import STUDY

    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise RequestError(f"--out {out}: expected a file such as index.html")
    if (out.parent / STUDY).is_file():
        raise RequestError(f"--out {out}: this folder is a run's, which has a page of its own; expected another folder")
    write = registry.load("reports", "collection")
    console = Console(stderr=True, quiet=as_json)
    with console.status("reading", spinner="line") as status:
        found = collect(folders, lambda folder: status.update(escape(f"reading {printable(str(folder))}")))
    page = write(found, out)
    counts = {
        "runs": len(found.runs),
        "audits": len(found.audits),
        "tables": len(found.boards),
        "left_out": [{"folder": str(each.folder), "reason": each.reason} for each in found.left_out],
    }
    if as_json:
        print(json.dumps({"page": str(page), **counts}))
        return DONE
    for each in found.left_out:
        print(f"left out: {printable(str(each.folder))}: {each.reason}")
    counted = [(len(found.runs), "run"), (len(found.boards), "table"), (len(found.audits), "audit")]
    said = ", ".join(f"{number} {what}" + ("" if number == 1 else "s") for number, what in counted)
    print(f"{said}: {page}")
    return DONE
