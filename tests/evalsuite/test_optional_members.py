"""What a plugin may have besides its methods: a bare class has every default, one that declares is believed."""

import numpy as np
import pandas as pd
import pytest

from evalsuite import optional_members, registry
from evalsuite.errors import RequestError
from evalsuite.plugins import Pool

PLUGINS = """
class Darker:
    def transform(self, pool, images, indices, generator):
        return images // 2

class First:
    def select(self, pool, indices, generator):
        return indices[:1]

class Nothing:
    pass
"""


class Bare:
    pass


class Declared:
    calibrated, stochastic, engine, adapts, expected_passes = False, True, "fast", False, 1.5
    architecture, factor, order, drawn_by, length = "cnn", "noise", 3, ("images",), 7
    adjust = objective = abs

    def reveal(self, state, labels):
        pass

    def facts(self):
        return {"skipped": 2}

    def pages(self, data):
        return [data[:1], data[1:]]


@pytest.mark.parametrize(
    ("function", "bare", "declared"),
    [
        ("is_calibrated", True, False),
        ("is_stochastic", False, True),
        ("engine_of", "simulated", "fast"),
        ("adapts", True, False),
        ("passes_of", 3, 1.5),
        ("facts_of", {}, {"skipped": 2}),
        ("has_adjustable_loss", False, True),
        ("has_objective", False, True),
        ("is_oracle", False, True),
        ("architecture_of", None, "cnn"),
        ("factor_of", None, "noise"),
        ("order_of", None, 3),
        ("length_of", None, 7),
    ],
)
def test_a_bare_class_has_the_defaults(function, bare, declared):
    read = getattr(optional_members, function)
    assert read(Bare()) == bare
    assert read(Declared()) == declared


def test_members_with_arguments():
    data = pd.DataFrame({"a": [1, 2, 3]})
    assert optional_members.pages_of(Bare(), data) == [data]
    assert [len(page) for page in optional_members.pages_of(Declared(), data)] == [1, 2]
    assert optional_members.drawn_by(Bare(), {"images": 1, "seed": 2}) == ("images", "seed")
    assert optional_members.drawn_by(Declared(), {"images": 1, "seed": 2}) == ("images",)
    assert optional_members.published_of(Bare()) is None
    assert optional_members.availability_of(Bare()) is None


def test_a_calibration_step_needs_one_method_only(tmp_path):
    file = tmp_path / "steps.py"
    file.write_text(PLUGINS)
    pool = Pool(np.full((3, 2, 2, 3), 8, np.uint8), np.zeros(3, np.int64))
    generator = np.random.default_rng(0)
    dark, first = (registry.configure("protocols", f"{file}:{name}").build() for name in ("Darker", "First"))
    assert optional_members.selected(dark, pool, np.arange(3), generator).tolist() == [0, 1, 2]
    assert optional_members.transformed(dark, pool, pool.images, np.arange(3), generator).max() == 4
    assert optional_members.selected(first, pool, np.arange(3), generator).tolist() == [0]
    assert optional_members.transformed(first, pool, pool.images, np.arange(3), generator) is pool.images
    registry.check_role(f"{file}:Darker", "calibration", "here")
    with pytest.raises(RequestError, match="has neither select nor transform"):
        registry.check_role(f"{file}:Nothing", "calibration", "here")
    with pytest.raises(RequestError, match="is a calibration step, not a stream"):
        registry.check_role(f"{file}:First", "stream", "here")
