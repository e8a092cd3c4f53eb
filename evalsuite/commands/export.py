"""``evalsuite export``: a quantized network as an ONNX graph."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalsuite.commands._options import DONE, AsJson, DataRoot, TrustCode


def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="RUN/TRIAL (the beginning of its hash will do), a file of RUN/.work/models, or with --task one that "
            "evalsuite saved.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write; its encodings lie beside it.")],
    task: Annotated[str | None, typer.Option("--task", help="Whose network a saved file fills.")] = None,
    data_root: DataRoot = None,
    trust: TrustCode = False,
    as_json: AsJson = False,
) -> int:
    """Write learnt integers or 8-bit floats with their scales as an ONNX graph (QDQ), and as JSON in AIMET's schema."""
    from evalsuite.errors import Refused, RequestError
    from evalsuite.exporting.write import encodings_file, onnx_file
    from evalsuite.exporting.write import export as write
    from evalsuite.running.kept_models import network_of, saved_network
    from evalsuite.study.trust import Trust

    root = data_root or os.environ.get("EVALSUITE_DATA")
    onnx_file(out)
    try:
        if task is not None:
            network, image = saved_network(model, task, root)
        else:
            network, image = network_of(model, root, Trust.on(Console(stderr=True, quiet=as_json), trust))
    except Refused as refused:
        raise RequestError(f"{model} cannot be quantized again: {refused}") from refused
    file = write(network, out, image)
    if as_json:
        print(json.dumps({"graph": str(file), "encodings": str(encodings_file(file))}))
    else:
        print(f"{file}, and {encodings_file(file)}")
    return DONE
