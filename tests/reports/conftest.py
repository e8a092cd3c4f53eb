"""One small made-up run for all tests of the reports."""

import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run

DOMAINS = ("clean", "gaussian_noise", "shot_noise", "defocus_blur", "zoom_blur", "fog", "snow", "contrast", "pixelate")


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
