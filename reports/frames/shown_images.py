"""How many test images a run's streams show, of how many there are."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run


def shown_images(run: Run) -> pd.DataFrame:
    """Return a row per task and stream of which a trial is done, counted in the records of one of them.

    Returns
    -------
    ``task``, ``stream_label``, ``images`` (different ones), ``of`` (the test set's, missing where a run does not say),
    ``domains``, ``least`` and ``most`` (different images of a domain), ``severities`` (a tuple, 0 left out).
    """
    done = run.trials[run.trials["status"] == "done"].drop_duplicates(["task", "stream_label"])
    rows = []
    for task, stream, trial in zip(done["task"], done["stream_label"], done["trial"], strict=True):
        records = run.records_of(str(trial), ["image", "domain", "severity"]).to_pandas().drop_duplicates()
        sizes = records.groupby(["domain", "severity"], observed=True).size()
        rows.append(
            {"task": task, "stream_label": stream, "images": records["image"].nunique()}
            | {"of": run.study["tasks"].get(task, {}).get("test_images"), "domains": len(sizes)}
            | {"least": int(sizes.min()), "most": int(sizes.max())}
            | {"severities": tuple(int(one) for one in sorted(records["severity"].unique()) if one)}
        )
    columns = ["task", "stream_label", "images", "of", "domains", "least", "most", "severities"]
    return pd.DataFrame(rows, columns=columns)
