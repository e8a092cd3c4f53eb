"""Two small made-up runs for all tests of the reports."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from _dummies.runs import ENGINE, USUAL_SET, CalibrationSet, make_run
from PIL import Image

from evalsuite import store
from evalsuite.analysis import Settings
from evalsuite.analysis.flips import mistakes_of
from evalsuite.analysis.outcomes import read_outcomes
from evalsuite.store import Run

FLIPS = (("tasks", "task", str), ("domains", "domain", str), ("severities", "severity", int), ("images", "image", int))
DOMAINS = ("clean", "gaussian_noise", "shot_noise", "defocus_blur", "zoom_blur", "fog", "snow", "contrast", "pixelate")

LATENCY = {"latency_ms": 8.0, "float_latency_ms": 12.5, "latency_ratio": 0.64}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two tasks, three networks, two adapters, two seeds, one failed and one refused trial; class 3 is harmed."""
    folder = make_run(
        tmp_path_factory.mktemp("reports") / "run",
        quantizers=(("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4"), ("adaround", "W4A4")),
        adapters=("none", "tent"),
        streams=("usual",),
        domains=DOMAINS,
        images=60,
        seeds=(0, 1),
        permutations=600,
        bootstrap=200,
        broken=True,
    )
    return store.load(folder)


SIZE = ("calibration", {"size": 64})
SETS = (
    USUAL_SET,
    CalibrationSet("size 16", [("calibration", {"size": 16})], 0.6),
    CalibrationSet("size 256", [("calibration", {"size": 256})], 0.0),
    CalibrationSet("size 64, fog 3", [SIZE, ("noise", {"corruption": "fog", "severity": 3, "fraction": 1.0})], 1.0),
    CalibrationSet("size 64, augmix", [SIZE, ("augmentation", {"method": "augmix"})], -0.6),
)


@pytest.fixture(scope="session")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One task, two networks, three adapters, five calibration sets, three severities, two rounds, two seeds."""
    folder = make_run(
        tmp_path_factory.mktemp("reports") / "study",
        tasks=["digits/vit"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W4A4"), ("adaround", "W4A4"), ("gptq", "W4A4")],
        adapters=["none", "zoa", "zoa:activation_shift=false"],
        streams=["usual"],
        calibrations=SETS,
        domains=["clean", "gaussian_noise", "fog", "contrast"],
        severities=[1, 3, 5],
        rounds=2,
        images=50,
        seeds=[0, 1],
        permutations=2000,
        bootstrap=100,
    )
    write_examples(folder)
    return store.load(folder)


@pytest.fixture(scope="session")
def engine_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose four-bit network is said to be what an engine makes of the eight-bit one: class 3 suffers."""
    made = make_run(
        tmp_path_factory.mktemp("gap") / "made",
        tasks=["digits/vit"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4")],
        adapters=["none"],
        streams=["usual"],
        domains=["clean", "fog"],
        images=60,
        bootstrap=50,
    )
    trials = store.load(made).trials.astype(object)
    (simulated,) = trials.loc[trials["bits"] == "W8A8", "trial"]
    on_engine = {"bits": "W8A8", "quantizer_label": ENGINE, "engine": "onnxruntime", "simulation": simulated}
    rows = [
        row | (on_engine | {"graph_bytes": 1234, "forward_seconds": 0.6, **LATENCY} if row["bits"] == "W4A4" else {})
        for row in trials.where(trials.notna(), None).to_dict("records")
    ]
    folder = made.with_name("run")
    shutil.copytree(made, folder)
    store.write_trials(folder, rows)
    return store.load(folder)


def write_examples(folder: Path) -> None:
    """Put images into a run's folder: three of each of two domains, and every second picture of what is lost."""
    run = store.load(folder)
    lost = mistakes_of(run, read_outcomes(run), Settings.of(run))
    columns = lost[["task", "domain", "severity", "image"]].drop_duplicates().iloc[::2]
    pictures = [_webp(place) for place in range(len(columns))]
    flips = {f"flip_{name}": columns[own].to_numpy(kind) for name, own, kind in FLIPS}
    flips |= {"flip_pictures": np.frombuffer(b"".join(pictures), np.uint8)}
    flips |= {"flip_ends": np.cumsum([len(picture) for picture in pictures])}
    images = np.arange(6 * 8 * 8 * 3, dtype=np.uint8).reshape(6, 8, 8, 3)
    domains = np.array(["clean", "gaussian_noise"] * 3)
    np.savez(folder / "examples.npz", images=images, labels=np.arange(6), domains=domains, **flips)


def _webp(place: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (place % 256, 128, 255 - place % 256)).save(buffer, format="webp", lossless=True)
    return buffer.getvalue()
