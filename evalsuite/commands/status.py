"""``evalsuite status``: how far a run is, from any shell."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from evalsuite.commands._options import DONE, AsJson

if TYPE_CHECKING:
    from evalsuite.running.status import Status

_PERIOD = 2.0  # seconds between two looks


def status(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until the run ends, or Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> int:
    """Say how far a run is: done, failed, refused, left, time left, who works on what; reads only."""
    from evalsuite.running.status import Observer

    observer = Observer(run)
    found = observer.look()
    console = Console()
    try:
        if watch and console.is_terminal and not as_json:
            with Live(_text(found), console=console, auto_refresh=False) as live:
                while found.works is not False and (found.calls or found.left):
                    time.sleep(_PERIOD)
                    found = observer.look()
                    live.update(_text(found), refresh=True)
            return DONE
        _say(found, console, as_json)
        while watch and found.works is not False and found.calls:
            time.sleep(_PERIOD)
            found = observer.look()
            _say(found, console, as_json)
    except KeyboardInterrupt:  # how one stops watching
        pass
    return DONE


def _say(found: Status, console: Console, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.as_dict()), flush=True)
    else:
        console.print(_text(found), soft_wrap=True)


def _text(found: Status) -> Text:
    return Text("\n".join(lines_of(found)), no_wrap=True, overflow="ellipsis")


def lines_of(found: Status) -> list[str]:
    """Return what is said to people; no text in it moves the cursor or colours the terminal."""
    from evalsuite.isolation import printable
    from evalsuite.running.durations import in_words

    counts = f"{found.done} done, {found.failed} failed, {found.refused} refused, {found.left} left"
    lines = [f"{printable(found.name, 100)} in {printable(found.folder)}: {found.trials} trials: {counts}"]
    if found.damaged:
        lines.append(f"{found.damaged} damaged records, whose trials the next run does again")
    lines.append(_working(found))
    if found.left:
        left = found.seconds_left
        lines[-1] += "; how much time is left is not known" if left is None else f"; {in_words(left)} left"
    for item in found.items:
        gone = " (ended meanwhile)" if item.alive is False else ""
        lines.append(f"  {item.stage}: {item.what}, process {item.process}{gone}, for {item.seconds:.0f} s")
    for line in found.log:
        parts = (line.stage, line.what, line.status, line.reason_code, f"{line.seconds:g} s" if line.seconds else "")
        lines.append("  ".join(["log", line.time, line.event, *filter(None, parts)]))
    return lines


def _working(found: Status) -> str:
    if not found.calls:
        return "it has no log: whether a process works on it is not known"
    last = found.calls[-1]
    if found.works:
        at = [call for call in found.calls if call.works]
        said = ", ".join(f"process {call.process} since {call.started} ({call.workers} workers)" for call in at)
        return f"being worked on by {said}"
    if found.works is None:
        return f"another machine ({last.machine}) works on it, or did: last sign of life {last.seen}"
    return (
        f"no process works on it; the last call {'was ' + found.ended if found.ended else 'was killed'} at {last.seen}"
    )
