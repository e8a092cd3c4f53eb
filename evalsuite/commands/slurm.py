"""``evalsuite slurm``: a job array that runs a study in parts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalsuite.commands._options import DONE, AsJson, TrustCode


def slurm(
    study: Annotated[str, typer.Argument(help="A registered study or a TOML file.")],
    shards: Annotated[int, typer.Option("--shards", min=1, help="Jobs of the array.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")] = Path("array.sbatch"),
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder for the parts.")] = Path("runs"),
    time: Annotated[str, typer.Option("--time", help="Limit of a job.")] = "04:00:00",
    cpus: Annotated[int, typer.Option("--cpus-per-task", min=1, help="Cores of a job.")] = 4,
    gres: Annotated[str | None, typer.Option("--gres", help="For example gpu:1.")] = None,
    partition: Annotated[str | None, typer.Option("--partition")] = None,
    trust: TrustCode = False,
    as_json: AsJson = False,
) -> int:
    """Write the file of a Slurm job array, a part of the study a job, and print how to submit it; submits nothing."""
    from evalsuite.errors import RequestError
    from evalsuite.files import write_text
    from evalsuite.study.file import find, read
    from evalsuite.study.shards import split
    from evalsuite.study.trials import expand
    from evalsuite.study.trust import Trust

    checked = read(study, trust=Trust.on(Console(stderr=True, quiet=as_json), trust))
    name = checked.name
    trials = expand(checked, dict.fromkeys(checked.tasks, ""))
    split(trials, checked, shards)  # refuses more parts than there are models
    path = str(find(study).resolve()) if study.endswith(".toml") else study
    directives = {"array": f"1-{shards}", "time": time, "cpus-per-task": cpus, "gres": gres, "partition": partition}
    for key, value in directives.items():
        if value is not None and (not str(value).isprintable() or " " in str(value)):
            raise RequestError(f"--{key} {value!r}: expected a word")
    lines = [f"#SBATCH --{key}={value}" for key, value in directives.items() if value is not None]
    folder = runs.absolute()
    workers = 1 if gres else 0  # one process a device, else one a core
    body = (
        f"cd {shlex.quote(str(Path.cwd()))}\n"
        f'evalsuite run {shlex.quote(path)} --shard "$SLURM_ARRAY_TASK_ID/{shards}" --workers {workers} '
        f'--out {shlex.quote(str(folder / name))}-"$SLURM_ARRAY_TASK_ID"-of-{shards}{" --trust" if trust else ""}'
    )
    text = "\n".join(["#!/bin/bash", *lines, "set -e", body, ""])
    if out.exists() and out.read_bytes() != text.encode():
        raise RequestError(f"{out} is there already and says otherwise: expected a new file; remove it, or name --out")
    write_text(out, text)
    parts = [str(folder / f"{name}-{number}-of-{shards}") for number in range(1, shards + 1)]
    merge = shlex.join(["evalsuite", "merge", str(folder / name), *parts])
    submit = f"jobs=$(sbatch --parsable {shlex.quote(str(out))})"
    # A part in which a trial failed ends with status 1: its others are merged all the same.
    after = f'sbatch --dependency=afterany:"$jobs" --wrap {shlex.quote(merge)}'
    if as_json:
        print(json.dumps({"file": str(out), "submit": submit, "merge": merge, "merge_job": after}))
        return DONE
    print(
        f"wrote {out}; submit it, and a job that puts the parts together when all have ended:",
        submit,
        after,
        sep="\n  ",
    )
    return DONE
