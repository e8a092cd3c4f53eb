"""``evalsuite merge``: one run from several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands._options import DONE, AsJson


def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of one study.")],
    as_json: AsJson = False,
) -> int:
    """Put the trials of several runs of one study, such as its shards, into one run; refused where they do not fit."""
    from evalsuite.running.merge import merge as merge_runs

    merged = merge_runs(out, runs)
    if as_json:
        print(json.dumps({"folder": str(out), "trials": merged.trials, "missing": merged.missing}))
        return DONE
    print(f"{merged.trials} trials of {len(runs)} runs in {out}")
    if merged.missing:
        print(f"{merged.missing} of the study are missing: run it with --out {out} to do them")
    return DONE
