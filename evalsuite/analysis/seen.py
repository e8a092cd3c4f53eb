"""What the results of a run were measured on: images, weights, and what was shown of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.hashing import digest, digest_arrays
from evalsuite.sameness import DIGESTS, OF_IMAGES, release
from evalsuite.store import Run

_STREAM = ["task", "stream_label"]


@dataclass(frozen=True)
class Seen:
    """What has to be the same for two mean errors to be ranked (*ours*).

    Attributes
    ----------
    task : the plugin's name.
    data, weights, source : the digests of ``study.json``; empty where it says none.
    corruption : names and values of how corrupted images are made: engine, constants and seed, or the published files;
        empty where only clean images are shown.
    libraries : names and releases of the packages that made them; empty where none did.
    shown : a hash of which images are shown under which corruption and severity, and how often.
    """

    task: str
    data: str
    weights: str
    source: str
    corruption: tuple[tuple[str, str], ...]
    libraries: tuple[tuple[str, str], ...]
    shown: str

    def differences(self, other: Seen) -> list[str]:
        """Return the names of the attributes in which two differ."""
        return [name for name, value in vars(self).items() if value != getattr(other, name)]


def seen_by(run: Run) -> dict[tuple[str, str], Seen]:
    """Return by task and stream, as they are labelled, what the trials that are done have seen.

    Of every stream and seed the records of one trial are read: all that name the same stream show the same. The order
    of the images is none of it, nor which seeds show them.

    Raises
    ------
    RequestError
        If a file of the run is broken.
    """
    done = run.trials[run.trials["status"] == "done"]
    found = {}
    label: Any
    for label, rows in done.groupby(_STREAM, sort=False):
        task, stream = map(str, label)
        trials = rows.drop_duplicates("seed")["trial"]
        shown = {}
        for trial in trials:
            key, clean = _shown(run, str(trial))
            shown[key] = clean
        found[task, stream] = _seen(run, task, rows, "+".join(sorted(shown)), all(shown.values()))
    return found


def _seen(run: Run, task: str, rows: pd.DataFrame, shown: str, clean: bool) -> Seen:
    facts, study = run.study["tasks"].get(task, {}), run.study
    data, weights, source = (str(facts.get(name, "")) for name in DIGESTS)
    made = {} if clean else study["settings"].get("corruption", {})
    published = (rows["corrupted_images"] == "published files").any()
    packages = () if clean or published else OF_IMAGES
    return Seen(
        task=str(facts.get("plugin", task)),
        data=data,
        weights=weights,
        source=source,
        corruption=tuple((str(name), str(value)) for name, value in sorted(made.items())),
        libraries=tuple((name, ".".join(release(str(study["versions"].get(name, ""))))) for name in packages),
        shown=shown,
    )


def _shown(run: Run, trial: str) -> tuple[str, bool]:
    """Return a hash of what a trial showed, in whatever order, and whether that is clean images alone."""
    table = run.records_of(trial, ["domain", "severity", "image"])
    domains = table["domain"].unify_dictionaries().combine_chunks()
    code, severity, image = (np.asarray(each) for each in (domains.indices, table["severity"], table["image"]))
    names = domains.dictionary.to_pylist()
    places = np.argsort(np.argsort(names))  # by name, for dictionaries have any order
    rows = np.column_stack([places[code], severity, image]).astype(np.int64)
    present = sorted({names[each] for each in np.unique(code)})
    ordered = rows[np.lexsort(rows.T[::-1])]
    ordered[:, 0] = np.unique(ordered[:, 0], return_inverse=True)[1]  # names that no row has leave no gap
    return digest([present, digest_arrays(ordered)]), not severity.any()
