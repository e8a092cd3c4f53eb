"""``diagnosis.csv``: what the diagnoses of a run's networks found, domain by domain beside the calibration images."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import Outcomes
from evalsuite.diagnoses import CALIBRATION, Diagnosis, read_diagnoses
from evalsuite.optional_members import SIMULATED
from evalsuite.store import Run

_NETWORK = ("task", "calibration_label", "quantizer_label")
_LAYER = ("place", "layer", "weight_bits", "activation_bits")
_OF_WEIGHT = ("weight_snr_db", "weight_unused", "weight_clipped")
_OF_DOMAIN = ("snr_db", "activation_snr_db", "unused", "code_entropy", "clipped_low", "clipped_high", "dead_channels")
_SHIFTED = ("snr_db", "unused", "clipped")
DIAGNOSIS_COLUMNS = (
    *(*_NETWORK, *_LAYER, "domain", "severity", "images", "seeds", *_OF_WEIGHT, *_OF_DOMAIN, "clipped"),
    *(f"calibration_{name}" for name in _SHIFTED),
    "unused_change",
)
_KEYS = [*_NETWORK, *_LAYER, "domain", "severity"]


def diagnoses_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per quantized network, layer and domain, the mean over the seeds that were diagnosed.

    Returns
    -------
    The columns of :func:`evalsuite.quantization.diagnosis.diagnose`; ``place`` of the layer in order of execution;
    ``clipped``, at either end; of the rows of domains, ``calibration_snr_db``, ``calibration_unused`` and
    ``calibration_clipped`` of the same layer on as many calibration images, and ``unused_change``, ``unused`` minus
    ``calibration_unused``. ``images`` are those that were looked at; nothing is tested.
    """
    frames = list(_frames(run))
    if not frames:
        return pd.DataFrame(columns=list(DIAGNOSIS_COLUMNS))
    rows = pd.concat(frames, ignore_index=True)
    seen = [*_KEYS, "seed"]  # of a network whose trials several parts of the run had, a domain may be there twice
    rows = rows.drop_duplicates(seen)
    mean = dict.fromkeys([*_OF_WEIGHT, *_OF_DOMAIN, "clipped", *(f"calibration_{name}" for name in _SHIFTED)], "mean")
    groups = rows.groupby(_KEYS, as_index=False, sort=False, dropna=False)
    table = groups.agg({"images": "max", "seed": "nunique", **mean}).rename(columns={"seed": "seeds"})
    table["unused_change"] = table["unused"] - table["calibration_unused"]
    return table[list(DIAGNOSIS_COLUMNS)]


def _frames(run: Run) -> Iterator[pd.DataFrame]:
    trials = run.trials[run.trials["status"] == "done"]
    # An engine runs the same network, and the simulation is what was looked into.
    trials = trials.iloc[(trials["engine"] != SIMULATED).to_numpy().argsort(kind="stable")].set_index("trial")
    for diagnosis in read_diagnoses(run.folder):
        own = trials[trials.index.isin(diagnosis.trials)]
        if len(own) and len(diagnosis.table):
            first = own.iloc[0]
            yield _beside_calibration(diagnosis).assign(**{name: first[name] for name in (*_NETWORK, "seed")})


def _beside_calibration(diagnosis: Diagnosis) -> pd.DataFrame:
    """Return the rows of a network, those of domains with what the same layer makes of its calibration images."""
    table = diagnosis.table.assign(clipped=diagnosis.table["clipped_low"] + diagnosis.table["clipped_high"])
    calibration = table.loc[table["domain"] == CALIBRATION, ["layer", *_SHIFTED]].set_index("layer")
    beside = calibration.reindex(table["layer"]).set_axis(table.index).add_prefix("calibration_")
    return pd.concat([table, beside.where(table["domain"] != CALIBRATION)], axis=1)
