import numpy as np
import pytest

from evalsuite.corruptions import COMMON, HELD_OUT, corrupt


@pytest.mark.parametrize("name", COMMON + HELD_OUT)
def test_every_corruption_of_the_package_runs(name):
    clean = np.random.default_rng(0).integers(20, 230, (1, 32, 32, 3), dtype=np.uint8)
    made = corrupt(clean, name, 3, engine="reference")
    assert made.shape == clean.shape
    assert not np.array_equal(made, clean)


def test_exact_outputs_of_the_original_package(data_root):
    known = np.load(data_root / "corruptions" / "imagenet_pixels.npz")
    for key in known.files:
        name, _, severity = key.partition("__")
        if severity in ("1", "5"):
            assert np.array_equal(corrupt(known["clean"], name, int(severity), engine="reference"), known[key]), key
