import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adapters._spsa import gradient_estimate, perturbation


@given(size=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_perturbations_have_magnitudes_between_a_half_and_one(size, seed):
    drawn = perturbation(size, torch.Generator().manual_seed(seed))
    assert drawn.shape == (size,)
    assert ((drawn.abs() >= 0.5) & (drawn.abs() <= 1)).all()


def test_signs_are_fair_and_magnitudes_uniform():
    drawn = perturbation(20_000, torch.Generator().manual_seed(0))
    assert abs(float(drawn.sign().mean())) < 0.03
    counts = torch.histc(drawn.abs(), 10, 0.5, 1)
    assert (counts / 2000 - 1).abs().max() < 0.1


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.01, 0.3]))
def test_on_a_quadratic_the_average_estimate_converges_to_the_gradient(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    size = 6
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    slope, x = torch.randn(2, size, generator=generator, dtype=torch.float64)

    def loss(point):
        return ((point @ root) ** 2).sum(-1) + point @ slope

    gradient = 2 * root @ root.T @ x + slope
    directions = torch.stack([perturbation(size, generator).double() for _ in range(4000)])
    estimates = gradient_estimate(loss(x), loss(x + scale * directions)[:, None], scale, directions)
    error = [(estimates[:n].mean(0) - gradient).norm() / gradient.norm() for n in (40, 4000)]
    assert error[1] < 0.15
    assert torch.cosine_similarity(estimates.mean(0), gradient, dim=0) > 0.98
