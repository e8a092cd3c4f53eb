"""``evalsuite new``: a plugin's file and its test, to begin with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands._options import DONE, AsJson

_USE = {
    "quantizer": "evalsuite audit {target}",
    "adapter": '[[adapter]] method = "{target}" in a study',
    "protocol": '[[calibration]] protocol = "{target}" in a study',
    "stream": '[[stream]] protocol = "{target}" in a study',
    "task": "evalsuite audit gptq --task {target}",
    "figure": "evalsuite report RUN --figures {target}",
}
"""What can be done with a plugin of a kind once it keeps its contract."""


def new(
    kind: Annotated[str, typer.Argument(help="quantizer, adapter, protocol, stream, task or figure.")],
    name: Annotated[str, typer.Argument(help="Of the module, for example mine: mine.py with the class Mine.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path(),
    as_json: AsJson = False,
) -> int:
    """Write a plugin that works, and its test: something to begin with and to change."""
    from evalsuite.scaffold import class_name, scaffold

    plugin, test = scaffold(kind, name, out)
    target = f"{plugin}:{class_name(name)}"
    commands = [f"pytest {shlex.quote(str(test))}", _USE[kind].format(target=shlex.quote(target))]
    if as_json:
        files = [str(plugin), str(test)]
        print(json.dumps({"kind": kind, "target": target, "files": files, "next": commands}))
        return DONE
    print(f"wrote {plugin} with the class {class_name(name)}, and {test}")
    print("next:", *commands, sep="\n  ")
    return DONE
