"""``evalsuite list``: what there is, and what one of them may be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from textwrap import fill, indent
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from evalsuite.commands._options import DONE, AsJson

_WIDTH = 100


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(help="tasks, quantizers, adapters, protocols, studies, figures or corruptions [default: all]."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them: its options, defaults and source.")] = None,
    as_json: AsJson = False,
) -> int:
    """List what there is, with one line each; of one of them, say its options, defaults and source."""
    from evalsuite.catalogue import KINDS, catalogue
    from evalsuite.errors import RequestError, unknown_name

    if kind is not None and kind not in KINDS:
        kinds = [each for each in KINDS if name is None and kind in catalogue(each)]
        if len(kinds) != 1:
            also = f"; {kind!r} is one of the {' and of the '.join(kinds)}" if kinds else ""
            raise RequestError(f"{unknown_name('kind', kind, KINDS)}{also}")
        kind, name = kinds[0], kind  # evalsuite list rtn
    if kind is not None and name is not None:
        found = _one(kind, name)
        print(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))
        return DONE
    listed = {each: catalogue(each) for each in ([kind] if kind else KINDS)}
    if as_json:
        print(json.dumps(listed, indent=2))
        return DONE
    for each, entries in listed.items():
        table = Table(title=each, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
        for entry, line in entries.items():
            table.add_row(entry, line)
        Console().print(table, "", sep="\n")
    return DONE


def _one(kind: str, name: str) -> dict[str, Any]:
    """Return what there is to say of one of a kind: summary, text, path, and options where it has any."""
    from evalsuite.catalogue import bits_options, catalogue
    from evalsuite.described import describe
    from evalsuite.errors import unknown_name

    if kind == "studies":
        from evalsuite.study.file import find, read

        study = read(name)
        said = {"summary": study.title, "text": study.description, "path": str(find(name))}
    elif kind == "corruptions":
        known = catalogue(kind)
        if name not in known:
            raise unknown_name("corruption", name, known)
        said = {"summary": f"A corruption of the family {known[name]}.", "path": "evalsuite.corruptions:corrupt"}
    else:
        plugin = describe(kind, name)  # type: ignore[arg-type]
        options = plugin.options + (bits_options() if _takes_bits(kind, name) else ())
        return asdict(plugin) | {"options": [asdict(option) for option in options]}
    return {"kind": kind, "name": name, "text": "", "source": "", "options": []} | said


def _takes_bits(kind: str, name: str) -> bool:
    from evalsuite import registry
    from evalsuite.optional_members import is_calibrated

    return kind == "quantizers" and is_calibrated(registry.load("quantizers", name))


def _place(kind: str, name: str) -> str:
    """Return where a study says the options of a plugin."""
    from evalsuite import registry
    from evalsuite.optional_members import is_stream

    if kind == "protocols":
        table = "stream" if is_stream(registry.load("protocols", name)) else "calibration"
        return f'[[{table}]] protocol = "{name}"'
    tables = {"tasks": "[[task]] name", "quantizers": "[[quantizer]] method", "adapters": "[[adapter]] method"}
    return f'{tables[kind]} = "{name}"' if kind in tables else ""


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']}: {found['summary']}"
    if found["text"]:
        yield ""
        yield from (fill(part, _WIDTH) for part in found["text"].split("\n\n"))
    yield ""
    yield from (fill(found["source"], _WIDTH), "") if found["source"] else ()
    yield f"in: {found['path']}"
    if not found["options"]:
        return
    yield ""
    place = _place(found["kind"], found["name"])
    yield f"options, in a study beside {place}:" if place else "options:"
    for option in found["options"]:
        default = "must be given" if option["default"] is None else f"default {option['default']}"
        yield f"  {option['name']}: {option['type']}; {default}"
        said = option["text"] + (" Changes what it costs, never what it gives." if option["cost_only"] else "")
        if said.strip():
            yield indent(fill(said.strip(), _WIDTH - 6), 6 * " ")
