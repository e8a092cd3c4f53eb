"""A folder of made-up runs and audits: alike, of other images, of other weights, unfinished, damaged."""

from __future__ import annotations

from pathlib import Path

from _dummies import verdicts
from _dummies.runs import USUAL_SET, CalibrationSet, make_run

from evalsuite import store
from evalsuite.analysis import analyse

HOSTILE = "<img src=x onerror=alert(1)>&\"'[b](javascript:alert(2))"
"""A name that would be mark-up."""
SMALL = {
    "tasks": ("digits/vit",),
    "quantizers": (("full_precision", "FP32"), ("rtn", "W4A4")),
    "adapters": ("none", "tent"),
    "streams": ("usual",),
    "domains": ("gaussian_noise", "fog", "contrast", "snow", "frost", "pixelate"),
    "permutations": 50,
    "bootstrap": 50,
}
OTHER_SET = CalibrationSet("size 16", [("calibration", {"size": 16})], 0.6)


def make_collection(folder: Path) -> Path:
    """Write the runs ``alike/one`` and ``alike/two``, ``fewer``, ``weights``, ``half``, ``torn`` and two audits."""
    make_run(folder / "alike" / "one", **SMALL)
    make_run(folder / "alike" / "two", **SMALL, calibrations=(USUAL_SET, OTHER_SET))
    fewer = SMALL | {"quantizers": (("full_precision", "FP32"), (HOSTILE, "W4A4"))}
    analyse(store.load(make_run(folder / "fewer", **fewer, images=30))).write(folder / "fewer")
    change(make_run(folder / "weights", **SMALL), "weights_digest")
    half = make_run(folder / "half", **SMALL)
    store.write_study(half, store.load(half).study | {"trials": 9})
    torn = make_run(folder / "torn", **SMALL)
    record = next(iter(sorted((torn / "records").iterdir())))
    record.write_bytes(record.read_bytes()[:-40])
    for name in ("fragile", "broken"):
        (folder / "audits" / name).mkdir(parents=True)
        verdicts.ALL[name]().write(folder / "audits" / name)
    return folder


def change(run: Path, digest: str) -> Path:
    """Give the tasks of a run another digest."""
    study = store.load(run).study
    tasks = {task: facts | {digest: "other"} for task, facts in study["tasks"].items()}
    store.write_study(run, study | {"tasks": tasks})
    return run
