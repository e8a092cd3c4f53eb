import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from evalsuite.adapters._detector import DomainDetector, gaussian_distance


@given(mean=st.floats(-3, 3), other=st.floats(-3, 3), deviation=st.floats(0.1, 5), other_deviation=st.floats(0.1, 5))
def test_the_distance_is_the_symmetric_divergence_of_two_gaussians(mean, other, deviation, other_deviation):
    a, b = Normal(torch.tensor([mean]), deviation), Normal(torch.tensor([other]), other_deviation)
    expected = float((kl_divergence(a, b) + kl_divergence(b, a)).mean())
    assert gaussian_distance(a.mean, a.variance, b.mean, b.variance) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_channels_are_averaged():
    one, two = torch.tensor([0.0]), torch.tensor([2.0])
    unit = torch.ones(1)
    apart = gaussian_distance(one, unit, two, unit)
    both = gaussian_distance(torch.zeros(2), torch.ones(2), torch.tensor([0.0, 2.0]), torch.ones(2))
    assert both == pytest.approx(apart / 2, rel=1e-6, abs=1e-6)


def moments(generator, shift, scale, images=64):
    x = shift + scale * torch.randn(images, 8, 10, generator=generator)
    return images, x.mean((0, 2)), x.var((0, 2), correction=0)


def test_it_fires_at_every_boundary_and_never_within():
    generator = torch.Generator().manual_seed(0)
    detector = DomainDetector(threshold=0.1, min_batch=64)
    domains = [(0.0, 1.0), (0.6, 1.0), (0.0, 1.0), (0.0, 2.0), (1.0, 0.5)]
    fired = [detector.changed(*moments(generator, *domain)) for domain in domains for _ in range(10)]
    assert [index for index, change in enumerate(fired) if change] == [10, 20, 30, 40]
    assert len(detector.distances) == 49


def test_slow_drift_is_followed():
    generator = torch.Generator().manual_seed(0)
    detector = DomainDetector(threshold=0.1, min_batch=64)
    assert not any(detector.changed(*moments(generator, 0.02 * step, 1.0)) for step in range(100))


def test_small_batches_are_counted_and_leave_no_trace():
    generator = torch.Generator().manual_seed(0)
    detector = DomainDetector(threshold=0.1, min_batch=64)
    detector.changed(*moments(generator, 0.0, 1.0))
    before = detector.mean
    assert not detector.changed(*moments(generator, 5.0, 1.0, images=63))
    assert detector.mean is before
    assert detector.unjudged == 1
    assert detector.changed(*moments(generator, 5.0, 1.0))
