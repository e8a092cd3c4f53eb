import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from evalsuite.adapters._detector import DomainDetector, WhitenedDistance, gaussian_distance


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


def alike(generator, images, shift=0.0, turn=0.0):
    """Return (images, 4, 50) values of channels that mostly move together, as those of a first layer do."""
    common = torch.randn(images, 1, 1, generator=generator)
    x = 0.3 * common + 0.5 * torch.randn(images, 4, 50, generator=generator) + shift
    x[:, 0] += turn
    return x


def of_images(x):
    return x.mean(2), x.var(2, correction=0)


def of_batch(x):
    return x.mean((0, 2)), x.var((0, 2), correction=0)


def test_whitening_tells_a_new_domain_from_brighter_images():
    """What all channels do together, images do; a channel that leaves the others is a domain, however little."""
    generator = torch.Generator().manual_seed(0)
    distance = WhitenedDistance.of_images(*of_images(alike(generator, 500)))
    usual = of_batch(alike(generator, 256))
    same = [distance(*usual, *of_batch(alike(generator, 256))) for _ in range(30)]
    brighter = distance(*usual, *of_batch(alike(generator, 256, shift=0.3)))
    other = distance(*usual, *of_batch(alike(generator, 256, turn=0.3)))
    assert max(same) < 0.02 < other
    assert brighter < other / 4
    moves = ({"shift": 0.3}, {"turn": 0.3})
    plain = [gaussian_distance(*usual, *of_batch(alike(generator, 256, **move))) for move in moves]
    assert plain[0] > 2 * plain[1], "the authors' distance has them the other way round"


def test_batches_of_one_domain_are_two_parts_in_n_apart():
    generator = torch.Generator().manual_seed(1)
    distance = WhitenedDistance.of_images(*of_images(alike(generator, 4000)))
    found = [distance(*of_batch(alike(generator, 200)), *of_batch(alike(generator, 200))) for _ in range(200)]
    assert sum(found) / len(found) == pytest.approx(2 / 200, rel=0.1)


def test_a_channel_without_spread_and_a_source_of_two_images_will_do():
    x = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 0.0
    distance = WhitenedDistance.of_images(*of_images(x))
    assert distance(*of_batch(x), *of_batch(x)) == 0.0
    assert 0 < distance(*of_batch(x), *of_batch(2 * x)) < float("inf")
