"""``evalsuite report``: figures, tables and page of a run, in the look that its reader asks for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.commands._options import DONE, AsJson, Out, names
from evalsuite.errors import RequestError

_SELECT = (
    "Only these results, for example quantizer=brecq,qdrop; by task, calibration, quantizer, bits, adapter, stream."
)


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    figures: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these figures.")] = None,
    out: Out = None,
    select: Annotated[list[str] | None, typer.Option("--select", metavar="KEY=NAME,...", help=_SELECT)] = None,
    rename: Annotated[
        Path | None, typer.Option("--rename", metavar="FILE", help="TOML file of labels and what they are called.")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="STYLE", help="A style of matplotlib's, name or .mplstyle file.")
    ] = None,
    width: Annotated[
        str | None, typer.Option("--width", metavar="WIDTH", help="No figure is wider: 3.25in, 8.25cm, 234.9pt.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", metavar="NAME,...", help="pdf, svg, png, eps [default: pdf,png].")
    ] = None,
    font_size: Annotated[float | None, typer.Option("--font-size", metavar="POINTS", help="Size of text.")] = None,
    digits: Annotated[
        int | None, typer.Option("--digits", help="After the point [default: what the interval's width carries].")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Only a Markdown card, card.md, of a run or an audit, for a README.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Make figures, tables and page from a run's records; runs no network."""
    from evalsuite import registry
    from evalsuite.store import load

    asked: dict[str, Any] = {
        "select": _selected(select) if select else None,
        "rename": _renamed(rename) if rename else None,
        "style": style,
        "width": width,
        "formats": names(formats) if formats is not None else None,
        "font_size": font_size,
        "digits": digits,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    if card:
        return _write_card(run, out, bool(given or figures), as_json)
    write = registry.load("reports", "page")
    page = write(run, figures=names(figures) or None, out=out, report=given)
    left = load(run).left
    print(json.dumps({"page": str(page), "left": left}) if as_json else f"report: {page}")
    if left and not as_json:
        said = f"evalsuite: the run is unfinished: {left} trials have not ended, which the report lacks"
        print(said, file=sys.stderr)
    return DONE


def _write_card(run: Path, out: Path | None, shaped: bool, as_json: bool) -> int:
    from evalsuite import registry

    if shaped:
        raise RequestError(
            "--card: expected --out or --json alone beside it; the other options shape figures and tables"
        )
    written = registry.load("reports", "card")(run, out)
    print(json.dumps({"card": str(written)}) if as_json else f"card: {written}")
    return DONE


def _selected(texts: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise RequestError(f"--select {text!r}: expected KEY=NAME,..., for example quantizer=brecq,qdrop")
        found.setdefault(key.strip(), []).append(value.strip())
    return found


def _renamed(file: Path) -> Mapping[str, str]:
    from evalsuite.study.values import read_toml

    found = read_toml(file)
    if not found:
        raise RequestError(f'{file} names nothing: expected lines such as "brecq W4A4" = "BRECQ"')
    for label, name in found.items():
        if not isinstance(name, str) or not name.strip():
            raise RequestError(f'{file}, {label} = {name!r}: expected a name, such as "brecq W4A4" = "BRECQ"')
    return found
