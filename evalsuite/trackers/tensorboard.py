"""A run's results as TensorBoard shows them: a row of its table of hyperparameters for each, by torch's own writer."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from evalsuite.extras import import_extra
from evalsuite.files import Unwritable
from evalsuite.store import Run
from evalsuite.trackers import identity_of, results_of

_HASH = 8  # digits of an identity in a folder's name


def log(run: Run, folder: Path) -> Path:
    """Write the results of a run into a new folder under ``folder``, which appears whole or not at all; return it.

    It is named by the run and its identity, and left as it is where it is there already.

    Raises
    ------
    RequestError
        If TensorBoard is not installed, there is no result, a file of the run is broken, or it cannot be written.
    """
    board = import_extra("torch.utils.tensorboard", "tensorboard", "--tensorboard")
    place = folder / f"{run.folder.resolve().name}-{identity_of(run)[:_HASH]}"
    if place.exists():
        return place
    results = results_of(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=folder) as temporary:
            whole = Path(temporary) / place.name
            with board.SummaryWriter(str(whole)) as writer:
                for number, result in enumerate(results):
                    # A folder's name: the number sets apart what is left of two names.
                    name = f"{number:04d} {re.sub(r'[^A-Za-z0-9 .,+-]+', '_', result.name)[:100]}"
                    writer.add_hparams(result.settings, result.metrics, run_name=name, global_step=0)
            whole.rename(place)
    except OSError as error:
        raise Unwritable(f"cannot write to {folder}: {error.strerror or error}") from error
    return place
