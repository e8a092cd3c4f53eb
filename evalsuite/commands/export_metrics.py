"""``evalsuite export-metrics``: a run's results in a tracker of experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands._options import DONE, AsJson
from evalsuite.errors import RequestError


def export_metrics(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow", metavar="URI", help="Of a tracking server or store: http://host:5000, sqlite:///FILE."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="A folder that tensorboard --logdir looks at.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Log a run's results, all numbers of summary.csv, in MLflow or TensorBoard; what is there already is left.

    Needs evalsuite[mlflow] or evalsuite[tensorboard].
    """
    from evalsuite.store import load
    from evalsuite.trackers import mlflow as to_mlflow
    from evalsuite.trackers import tensorboard as to_tensorboard

    if mlflow is None and tensorboard is None:
        raise RequestError("expected --mlflow URI or --tensorboard DIR")
    loaded, said = load(run), {}
    if mlflow is not None:
        said["mlflow"] = to_mlflow.log(loaded, mlflow)
    if tensorboard is not None:
        said["tensorboard"] = str(to_tensorboard.log(loaded, tensorboard))
    if as_json:
        print(json.dumps(said))
        return DONE
    for name, where in said.items():
        print(f"{name}: {'run ' if name == 'mlflow' else ''}{where}")
    return DONE
