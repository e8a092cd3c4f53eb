"""A run's results as MLflow keeps them: a run of its own for each, under one for the whole, by MLflow's own client."""

from __future__ import annotations

import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from evalsuite.errors import RequestError
from evalsuite.extras import import_extra
from evalsuite.hashing import digest
from evalsuite.isolation import printable, text_of
from evalsuite.store import Run
from evalsuite.trackers import Result, identity_of, results_of

_PARENT, _IDENTITY, _WHOLE = "mlflow.parentRunId", "evalsuite.identity", "evalsuite.whole"
_ODD = re.compile(r"[^\w\-. :/]")
_LONGEST = 250
_PACKAGES = ("evalsuite", "torch", "python")
_PORTS = {"http": 80, "https": 443}
_PATIENCE = 10.0  # seconds for a server to answer
_MOST = 100  # parameters, tags or, times ten, metrics of one request


def log(run: Run, uri: str) -> str:
    """Log the results of a run into the experiment that is named after its study; return the id of the run over them.

    What was logged before, whole, is left as it is; what an interrupted call has left is marked as failed by MLflow and
    logged anew.

    Parameters
    ----------
    run : with at least one trial that is done.
    uri : of the tracking server or store, as MLflow names it: ``http://host:5000``, ``sqlite:///mlflow.db``, a folder.

    Raises
    ------
    RequestError
        If MLflow is not installed or cannot reach or write the store, there is no result, or a file of the run is
        broken.
    """
    mlflow = import_extra("mlflow", "mlflow", "--mlflow")
    _check_answers(uri)
    results, identity = results_of(run), identity_of(run)
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, printable(str(run.study["name"]), _LONGEST))
        found = client.search_runs([experiment], f"tags.`{_IDENTITY}` = '{identity}' and tags.`{_WHOLE}` = 'yes'")
        if found:
            return str(found[0].info.run_id)
        return _log(mlflow.entities, client, experiment, run, results, identity)
    except ModuleNotFoundError as error:  # of a store that the small package has no means for
        raise RequestError(f"--mlflow {uri} needs the package {error.name}: pip install mlflow") from error
    except (OSError, mlflow.exceptions.MlflowException) as error:
        whole = (
            "" if urlsplit(uri).scheme in _PORTS else "; a store on disk takes the whole package: pip install mlflow"
        )
        raise RequestError(f"cannot log to --mlflow {uri}: {text_of(error)}{whole}") from error


def _check_answers(uri: str) -> None:
    """Raise RequestError if there is no server at an address: MLflow would try for minutes."""
    at = urlsplit(uri)
    if at.scheme not in _PORTS or getproxies():
        return
    try:
        socket.create_connection((at.hostname or "", at.port or _PORTS[at.scheme]), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise RequestError(f"no server answers at --mlflow {uri}: {text_of(error)}") from error


def _experiment(client: Any, name: str) -> str:
    known = client.get_experiment_by_name(name)
    return str(known.experiment_id if known is not None else client.create_experiment(name))


def _log(entities: Any, client: Any, experiment: str, run: Run, results: list[Result], identity: str) -> str:
    study, now = run.study, int(time.time() * 1000)
    facts = {
        _IDENTITY: identity,
        "evalsuite.title": str(study["title"]),
        "evalsuite.command": str(study["command"]),
        "evalsuite.settings": digest(study["settings"]),
        "evalsuite.folder": str(run.folder.resolve()),
        **{f"version.{name}": str(study["versions"].get(name, "")) for name in _PACKAGES},
    }
    over = client.create_run(experiment, start_time=now, run_name=run.folder.resolve().name, tags=_plain(facts))
    parent = str(over.info.run_id)
    ended = "FAILED"
    try:
        for result in results:
            tags = {_PARENT: parent} | {f"found.{name}": text for name, text in result.found.items()}
            own = client.create_run(experiment, start_time=now, run_name=result.name, tags=_plain(tags))
            params = [entities.Param(name, text) for name, text in _plain(result.settings).items()]
            metrics = [entities.Metric(_ODD.sub("_", name), value, now, 0) for name, value in result.metrics.items()]
            for start in range(0, len(metrics), 10 * _MOST):
                client.log_batch(own.info.run_id, metrics[start : start + 10 * _MOST], params if start == 0 else ())
            client.set_terminated(own.info.run_id)
        client.set_tag(parent, _WHOLE, "yes")
        ended = "FINISHED"
    finally:
        client.set_terminated(parent, status=ended)
    return parent


def _plain(texts: dict[str, str]) -> dict[str, str]:
    """Return names and texts as MLflow takes them."""
    return {_ODD.sub("_", name)[:_LONGEST]: printable(text, 4 * _LONGEST) for name, text in texts.items() if text}
