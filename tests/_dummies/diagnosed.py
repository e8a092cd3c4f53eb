"""A run whose networks have been diagnosed: one with codes to count, one without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.diagnoses import CALIBRATION, Diagnosis, write_diagnosis
from evalsuite.quantization.diagnosis import COLUMNS

LAYERS = ["stem", *(f"blocks.{number}.attention.projection" for number in range(70)), "head"]


def table(has_codes: bool) -> pd.DataFrame:
    """Return a diagnosis in which ``head`` leaves most codes unused under fog, and ``stem`` clips most."""
    rows = []
    for domain, severity in ((CALIBRATION, None), ("fog", 1), ("clean", 0), ("fog", 5)):
        for place, layer in enumerate(LAYERS):
            shifted = severity == 5
            codes = {
                "unused": 0.62 if shifted and layer == "head" else 0.11,
                "clipped_low": 0.0,
                "clipped_high": 0.25 if shifted and layer == "stem" else 0.01,
            }
            numbers = dict.fromkeys(COLUMNS, np.nan) | (codes if has_codes else {})
            numbers |= {"weight_bits": 4, "activation_bits": 4, "snr_db": np.inf if place == 0 else 30.0 - 0.1 * place}
            if shifted and layer == "head":
                numbers["snr_db"] = 3.25
            rows.append(numbers | {"layer": layer, "domain": domain, "severity": severity, "images": 8, "place": place})
    return pd.DataFrame(rows)


def make_diagnosed_run(folder: Path) -> store.Run:
    """Make a run in a folder that is not there yet."""
    make_run(
        folder,
        tasks=["digits/vit"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W4A4"), ("rtn", "W8A8")],
        adapters=["none"],
        streams=["usual"],
        domains=["clean", "fog"],
        images=30,
        bootstrap=20,
    )
    trials = store.load(folder).trials
    for bits in ("W4A4", "W8A8"):
        own = tuple(trials.loc[trials["bits"] == bits, "trial"])
        write_diagnosis(folder, bits, "key", Diagnosis(own, table(has_codes=bits == "W4A4")))
    return store.load(folder)
