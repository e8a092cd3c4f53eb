import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON, FAMILIES, HELD_OUT, corrupt, family
from evalsuite.errors import RequestError

ALL = COMMON + HELD_OUT


def images(count=4, size=32, seed=0):
    generator = np.random.default_rng(seed)
    low = generator.integers(20, 230, (count, 4, 4, 3), dtype=np.uint8)
    grain = generator.integers(0, 20, (count, size, size, 3), dtype=np.uint8)
    return np.repeat(np.repeat(low, size // 4, axis=1), size // 4, axis=2) + grain


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", ALL)
def test_every_corruption_changes_the_image_and_keeps_its_form(name, size):
    clean = images(2, size)
    before = clean.copy()
    made = corrupt(clean, name, 3)
    assert made.shape == clean.shape
    assert made.dtype == np.uint8
    assert np.array_equal(clean, before)
    assert not np.array_equal(made, clean)


@settings(max_examples=60)
@given(
    st.sampled_from(ALL),
    st.integers(1, 5),
    st.lists(st.integers(1, 80), max_size=4),
    st.integers(0, 99),
    st.sampled_from(["cifar", "imagenet"]),
)
def test_an_image_does_not_depend_on_its_batch(name, severity, cuts, seed, constants):
    clean = images(80)
    options = {"seed": seed, "constants": constants, "data_set": "x"}
    whole = corrupt(clean, name, severity, **options)
    edges = [0, *sorted(cuts), 80]
    parts = [corrupt(clean[a:b], name, severity, first_index=a, **options) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(whole, np.concatenate(parts))
    order = np.random.default_rng(seed).permutation(80)[:17]
    assert np.array_equal(whole[order], corrupt(clean[order], name, severity, indices=order, **options))


@pytest.mark.parametrize("name", ALL)
def test_form_of_the_array_does_not_matter(name):
    clean = images(2, 64)
    wide = np.zeros((2, 64, 128, 3), np.uint8)
    wide[:, :, ::2] = clean
    assert np.array_equal(corrupt(clean, name, 2), corrupt(wide[:, :, ::2], name, 2))
    assert corrupt(clean[:, :48], name, 2).shape == (2, 48, 64, 3)
    assert corrupt(clean[:0], name, 2).shape == (0, 64, 64, 3)


RANDOM = [name for name in ALL if not np.array_equal(corrupt(images(1), name, 3), corrupt(images(1), name, 3, seed=1))]


def test_eleven_corruptions_draw():
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur"}
    assert set(ALL) - set(RANDOM) == fixed | {"saturate"}


@pytest.mark.parametrize("name", RANDOM)
def test_seed_index_data_set_and_severity_name_the_generator(name):
    clean = images(1)
    first = corrupt(clean, name, 3)
    assert np.array_equal(first, corrupt(clean, name, 3))
    assert not np.array_equal(first, corrupt(clean, name, 3, first_index=7))
    assert not np.array_equal(first, corrupt(clean, name, 3, data_set="cifar10"))


def test_the_reference_engine_has_a_generator_for_each_image_too():
    clean = images(3)
    whole = corrupt(clean, "impulse_noise", 3, engine="reference", seed=5)
    assert np.array_equal(whole[2:], corrupt(clean[2:], "impulse_noise", 3, engine="reference", seed=5, first_index=2))
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(whole, corrupt(clean, "impulse_noise", 3, engine="reference", seed=5))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_another_process_makes_the_same_bytes():
    code = (
        "import hashlib, sys, numpy as np; from evalsuite.corruptions import COMMON, corrupt;"
        "x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8);"
        "made = [corrupt(x, name, 4, seed=3) for name in COMMON] + [corrupt(x, 'snow', 4, seed=3, engine='reference')];"
        "print(hashlib.sha256(np.stack(made).tobytes()).hexdigest(), sys.modules.get('pkg_resources'))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    clean = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    made = [corrupt(clean, name, 4, seed=3) for name in COMMON]
    made.append(corrupt(clean, "snow", 4, seed=3, engine="reference"))
    assert said[0] == hashlib.sha256(np.stack(made).tobytes()).hexdigest()
    assert said[1] == "None", "a stand-in module was left behind"


def test_importing_loads_no_image_library():
    code = "import sys, evalsuite.corruptions; print([m for m in ('cv2', 'scipy', 'PIL', 'torch') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize("constants", ["cifar", "imagenet"])
def test_severity_raises_the_damage(constants):
    clean = images(16, 64)
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "contrast", "jpeg_compression"):
        made = [corrupt(clean, name, severity, constants=constants) for severity in (1, 3, 5)]
        damage = [np.mean((image.astype(float) - clean) ** 2) for image in made]
        assert damage == sorted(damage), name


def test_constants_follow_the_size_unless_named():
    small, large = images(1, 32), images(1, 64)
    for clean, own, other in ((small, "cifar", "imagenet"), (large, "imagenet", "cifar")):
        made = corrupt(clean, "contrast", 1)
        assert np.array_equal(made, corrupt(clean, "contrast", 1, constants=own))
        assert not np.array_equal(made, corrupt(clean, "contrast", 1, constants=other))


@pytest.mark.parametrize("name", ["brightness", "contrast", "pixelate", "jpeg_compression", "zoom_blur"])
def test_the_engines_agree_where_nothing_is_drawn(name):
    clean = images(1, 64)
    difference = corrupt(clean, name, 4).astype(int) - corrupt(clean, name, 4, engine="reference")
    assert np.abs(difference).max() <= 1
    assert np.mean(difference != 0) < 0.005


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fogg"}, "did you mean 'fog'"),
        ({"severity": 6}, "expected 1, 2, 3, 4 or 5"),
        ({"engine": "fats"}, "did you mean 'fast'"),
        ({"constants": "cifr"}, "did you mean 'cifar'"),
        ({"constants": "cifar", "engine": "reference"}, "expected 'imagenet'"),
        ({"indices": np.arange(3)}, "one for each of 1 images"),
        ({"images": np.zeros((1, 3, 32, 32), np.uint8)}, r"expected \(N, H, W, 3\) uint8"),
        ({"images": np.zeros((1, 32, 32, 3), np.float32)}, "float32: expected"),
        ({"images": np.zeros((1, 16, 16, 3), np.uint8)}, "at least 32 x 32"),
        (
            {"images": [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 33, 3), np.uint8)]},
            r"expected \(N, H, W, 3\) uint8",
        ),
        ({"images": None}, r"expected \(N, H, W, 3\) uint8"),
        ({"images": "image.png"}, r"expected \(N, H, W, 3\) uint8"),
        ({"severity": 2.5}, "severity 2.5 of fog: expected 1, 2, 3, 4 or 5"),
        ({"severity": True}, "severity True of fog: expected"),
        ({"severity": "3"}, "severity '3' of fog: expected"),
        ({"name": 3}, "unknown corruption '3'"),
        ({"seed": 7.5}, "seed = 7.5: expected an integer"),
        ({"first_index": 0.5}, "first_index = 0.5: expected an integer"),
        ({"first_index": 2**63 - 1}, r"first_index \+ images = a whole number of 64 bits"),
        ({"seed": 2**64}, "seed = a whole number of 65 bits"),
        ({"indices": [1.5]}, "index = 1.5: expected an integer"),
    ],
)
def test_wrong_requests(change, message):
    arguments = {"images": images(1), "name": "fog", "severity": 1} | change
    with pytest.raises(RequestError, match=message):
        corrupt(**arguments)


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "fog", "jpeg_compression"])
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_number_is_the_same_in_any_form_and_images_in_a_list(name, engine):
    if engine == "reference":
        pytest.importorskip("imagecorruptions")
    clean = images(2)
    exact = corrupt(clean, name, 3, seed=7, first_index=2, engine=engine)
    for change in (
        {"severity": 3.0, "seed": 7.0, "first_index": 2.0},
        {"severity": np.int64(3), "seed": np.float32(7), "first_index": np.uint8(2)},
        {"images": list(clean)},
        {"images": tuple(clean)},
        {"indices": [2.0, 3.0]},
    ):
        arguments = {"images": clean, "severity": 3, "seed": 7, "first_index": 2} | change
        assert np.array_equal(corrupt(name=name, engine=engine, **arguments), exact)


def test_families_hold_the_fifteen_in_the_usual_order():
    assert len(COMMON) == 15
    assert [family(name) for name in COMMON] == [f for f, names in FAMILIES.items() for _ in names]
    assert family("clean") == "clean"
    assert {family(name) for name in HELD_OUT} == {"held out"}
