import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON, FAMILIES, HELD_OUT, corrupt, family
from evalsuite.errors import RequestError

FAST = tuple(name for name in COMMON + HELD_OUT if name not in ("glass_blur", "frost"))


def images(count=4, size=32, seed=0):
    generator = np.random.default_rng(seed)
    low = generator.integers(20, 230, (count, 4, 4, 3), dtype=np.uint8)
    grain = generator.integers(0, 20, (count, size, size, 3), dtype=np.uint8)
    return np.repeat(np.repeat(low, size // 4, axis=1), size // 4, axis=2) + grain


@pytest.mark.parametrize("name", COMMON + HELD_OUT)
def test_every_corruption_changes_the_image_and_keeps_its_form(name):
    clean = images(2)
    before = clean.copy()
    made = corrupt(clean, name, 3)
    assert made.shape == clean.shape
    assert made.dtype == np.uint8
    assert np.array_equal(clean, before)
    assert not np.array_equal(made, clean)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(FAST), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_an_image_does_not_depend_on_its_batch(name, severity, cut, seed):
    clean = images(4)
    whole = corrupt(clean, name, severity, seed=seed)
    parts = [
        corrupt(clean[cut:], name, severity, seed=seed, first_index=cut),
        corrupt(clean[:cut], name, severity, seed=seed),
    ]
    assert np.array_equal(whole, np.concatenate(parts[::-1]))
    order = np.array([2, 0, 3, 1])
    assert np.array_equal(whole[order], corrupt(clean[order], name, severity, seed=seed, indices=order))


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "elastic_transform"])
def test_seed_and_index_matter(name):
    clean = images(2)
    assert not np.array_equal(corrupt(clean, name, 3), corrupt(clean, name, 3, seed=1))
    assert not np.array_equal(corrupt(clean, name, 3), corrupt(clean, name, 3, first_index=7))


def test_global_random_state_is_left_alone_and_plays_no_role():
    clean = images(1)
    np.random.seed(0)  # noqa: NPY002
    first = corrupt(clean, "impulse_noise", 2)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(first, corrupt(clean, "impulse_noise", 2))
    np.random.seed(0)  # noqa: NPY002
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_another_process_makes_the_same_bytes():
    code = (
        "import numpy as np; from evalsuite.corruptions import corrupt;"
        "g = np.random.default_rng(0); x = g.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8);"
        "print(corrupt(x, 'snow', 4, seed=3).sum(), __import__('sys').modules.get('pkg_resources'))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    own = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    assert int(said[0]) == corrupt(own, "snow", 4, seed=3).sum()
    assert said[1] == "None", "a stand-in module was left behind"


def test_severity_raises_the_damage():
    clean = images(8)
    for name in ("gaussian_noise", "defocus_blur", "contrast", "jpeg_compression"):
        damage = [np.mean((corrupt(clean, name, s).astype(float) - clean) ** 2) for s in (1, 3, 5)]
        assert damage == sorted(damage), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fogg"}, "did you mean 'fog'"),
        ({"severity": 6}, "expected 1, 2, 3, 4 or 5"),
        ({"engine": "fast"}, "unknown corruption engine 'fast'"),
        ({"constants": "cifar"}, "unknown constant set"),
        ({"images": np.zeros((1, 3, 32, 32), np.uint8)}, r"expected \(N, H, W, 3\) uint8"),
        ({"images": np.zeros((1, 32, 32, 3), np.float32)}, "float32: expected"),
        ({"images": np.zeros((1, 16, 16, 3), np.uint8)}, "at least 32 x 32"),
    ],
)
def test_wrong_requests(change, message):
    arguments = {"images": images(1), "name": "fog", "severity": 1} | change
    with pytest.raises(RequestError, match=message):
        corrupt(**arguments)


def test_families_hold_the_fifteen_in_the_usual_order():
    assert len(COMMON) == 15
    assert [family(name) for name in COMMON] == [f for f, names in FAMILIES.items() for _ in names]
    assert family("clean") == "clean"
    assert {family(name) for name in HELD_OUT} == {"held out"}


def test_exact_outputs_of_the_original_package(data_root):
    known = np.load(data_root / "corruptions" / "imagenet_pixels.npz")
    for key in known.files:
        name, _, severity = key.partition("__")
        if severity in ("1", "5"):
            assert np.array_equal(corrupt(known["clean"], name, int(severity)), known[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_statistics_of_the_original_package(data_root, name):
    rows = json.loads((data_root / "corruptions" / "imagenet_statistics.json").read_text())["rows"]
    clean = np.load(data_root / "corruptions" / "imagenet_25.npz")["images"][:5]
    made = corrupt(clean, name, 3)
    change = np.mean((made.astype(float) - clean) ** 2)
    assert change == pytest.approx(rows[f"{name}/3"]["mse"], rel=0.25)  # 5 images here, 25 there
