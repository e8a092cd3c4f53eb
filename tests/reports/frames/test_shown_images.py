"""How many images are shown is counted in the records."""

from __future__ import annotations

from pathlib import Path

from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports.card import of_run
from reports.frames.shown_images import shown_images


def test_images_are_counted_once_however_often_they_are_shown(tmp_path: Path) -> None:
    domains = ("clean", "fog", "snow")
    run = store.load(
        make_run(
            tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=domains, severities=(3, 5), rounds=2,
            images=20,
        )
    )  # fmt: skip
    (row,) = shown_images(run).to_dict("records")
    records = run.records_of(run.trials["trial"].iloc[0]).to_pandas()
    assert row["images"] == records["image"].nunique() == 20
    assert row["domains"] == records.groupby(["domain", "severity"], observed=True).ngroups == 5
    assert (row["least"], row["most"]) == (20, 20)
    assert len(records) == 2 * 20 * row["domains"]
    assert row["severities"] == (3, 5)


def test_the_card_says_how_many_images_of_how_many(run: Run) -> None:
    text = dict(of_run(run).made)["Images shown"]
    assert text.count(": 60") == run.trials["task"].nunique()
    assert "60 in each of 9 domains" in text
