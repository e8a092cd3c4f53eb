"""``evalsuite validate``: what a study would do and cost; runs none of it."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from evalsuite.commands._options import DONE, AsJson, DataRoot, Overrides, TrustCode

if TYPE_CHECKING:
    from evalsuite.running.forecast import Forecast


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python from searching what imports and trials make, none of which is garbage, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def validate(
    study: Annotated[str, typer.Argument(help="A registered study or a TOML file.")],
    overrides: Overrides = None,
    data_root: DataRoot = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="An earlier run to learn times from [default: runs/NAME, if it is there]."),
    ] = None,
    trust: TrustCode = False,
    as_json: AsJson = False,
) -> int:
    """Check a study, print its trials and estimate cost, hours, disk and memory; runs nothing of it.

    Images and labels are not read: whether a stream or a calibration set asks for more than there are is checked by
    ``evalsuite run`` before it writes anything.
    """
    with _no_garbage_collection():
        from evalsuite.running.forecast import forecast
        from evalsuite.study.cost import cost_of
        from evalsuite.study.file import read
        from evalsuite.study.trials import expand
        from evalsuite.study.trust import Trust

        checked = read(study, overrides or [], Trust.on(Console(stderr=True, quiet=as_json), trust))
        trials = expand(checked, dict.fromkeys(checked.tasks, ""))
        cost = cost_of(checked, trials)
        root = data_root or os.environ.get("EVALSUITE_DATA")
        expected = forecast(checked, trials, root, run if run is not None else Path("runs") / checked.name)
    if as_json:
        print(json.dumps(cost | asdict(expected)))
        return DONE
    print(
        f"{study} is sound, its images not looked at: {cost['trials']} trials, {cost['quantizations']} quantizations, "
        f"{cost['corrupted_domains']} corrupted domain{'s' * (cost['corrupted_domains'] != 1)}, "
        f"about {cost['image_passes']:,} image passes "
        f"({cost['forwards_unshared']:,} if trials shared nothing)"
    )
    print(_said(expected))
    return DONE


def _said(expected: Forecast) -> str:
    from evalsuite.running.durations import in_words

    if expected.hours is None or expected.disk_bytes is None or expected.peak_bytes is None:
        return f"hours, disk and memory are unknown: {expected.basis}"
    return (
        f"{in_words(3600 * expected.hours)} of one process, start-up and report apart, "
        f"at most {expected.disk_bytes / 1e9:.2g} GB on disk, "
        f"{expected.peak_bytes / 1e9:.2g} GB of memory a process: a rough estimate of ours, {expected.basis}"
    )
