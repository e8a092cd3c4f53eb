from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evalsuite.errors import Refused
from evalsuite.layout import Layout, find_layouts

X = random_images(5)


class Watched(nn.Module):
    """Its inner module gets what a function makes of the images."""

    def __init__(self, arrange):
        super().__init__()
        self.arrange = arrange
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(self.arrange(x)).sum() + x.flatten(1)[:, :3]


def windows(x):
    """(N, 3, 16, 16) in 16 windows: (N * 16, 3, 4, 4)."""
    n = len(x)
    return x.reshape(n, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(n * 16, 3, 4, 4)


def crops(x):
    return torch.cat([x[..., :8], x[..., 8:]])


def between(x):
    """Halves of the height before the images, windows of the width behind them: (2 * N * 4, ...)."""
    n = len(x)
    return x.reshape(n, 3, 2, 8, 4, 4).permute(2, 0, 4, 1, 3, 5).reshape(2 * n * 4, 3, 8, 4)


ARRANGEMENTS = [
    (lambda x: x, Layout()),
    (lambda x: x.flatten(2).permute(2, 0, 1), Layout(1)),
    (windows, Layout(0, 1, 16)),
    (crops, Layout(0, 2, 1)),
    (between, Layout(0, 2, 4)),
    (lambda x: crops(x).flatten(1).T, Layout(1, 2, 1)),
    (lambda x: torch.arange(6.0).reshape(2, 3), Layout(None)),
]


@pytest.mark.parametrize(("arrange", "expected"), ARRANGEMENTS)
def test_images_are_found_wherever_they_lie(arrange, expected):
    layouts = find_layouts(Watched(arrange).eval(), X)
    layout = layouts.at("inner", "input")
    assert layout == layouts.at("inner", "output") == expected
    rows = layout.rows(arrange(X))
    assert torch.equal(layout.restore(rows), arrange(X))
    if expected.dim is not None:
        assert layout.images(arrange(X)) == len(X) == len(rows)
        for i in range(len(X)):
            assert torch.equal(rows[i], layout.rows(arrange(X[i : i + 1]))[0])
        assert torch.equal(layout.restore(rows[[3, 1]]), arrange(X[[3, 1]]))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x.flatten(1) @ x.flatten(1).T,  # grows in two dimensions
        lambda x: torch.cat([x, x[:1]]),  # not in proportion
        lambda x: x.mean(0),  # one for all, and depends on all
        lambda x: windows(x) - windows(x).mean(0),  # no image's windows are its own
    ],
)
def test_where_images_cannot_be_told_apart_the_module_is_named(arrange):
    layouts = find_layouts(Watched(arrange).eval(), X)
    with pytest.raises(Refused, match=r"^inner: .*expected one dimension of its input"):
        layouts.at("inner", "input")
    layouts.at("", "output")


@given(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_rows_and_back(dim, outer, inner, count):
    shape = [2, 3, 4]
    shape[dim] = outer * count * inner
    x = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    layout = Layout(dim, outer, inner)
    rows = layout.rows(x)
    assert len(rows) == count
    assert torch.equal(layout.restore(rows), x)


def test_a_network_that_fails_on_two_images_is_refused_where_it_matters():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Flatten()

        def forward(self, x):
            return self.inner(x).reshape(1, 768)

    layouts = find_layouts(One().eval(), X)
    with pytest.raises(Refused, match="inner: the network fails on two images"):
        layouts.at("inner", "output")
