import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adapters._bank import KnowledgeBank

SIZES = [3, 3, 5, 5]
MARGIN = 0.01


def empty(capacity=3, sizes=SIZES):
    return KnowledgeBank(sizes, capacity, scale=10.0, like=torch.zeros(1))


def offset(bank, epsilon):
    return bank.mix() + epsilon


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    capacity=st.integers(1, 4),
    domains=st.integers(1, 12),
    log_size=st.floats(-4, 0.5),
    seed=st.integers(0, 2**31),
)
def test_storing_and_dropping_leave_the_parameters_and_the_cap_as_they_are(sizes, capacity, domains, log_size, seed):
    generator = torch.Generator().manual_seed(seed)
    bank = empty(capacity, sizes)
    epsilon = torch.zeros(sum(sizes))
    for domain in range(1, domains + 1):
        epsilon = epsilon + 10**log_size * torch.randn(sum(sizes), generator=generator)
        bank.coefficients += 0.1 * torch.randn(len(bank.coefficients), generator=generator)
        before = offset(bank, epsilon)
        epsilon = bank.store(epsilon, MARGIN)
        torch.testing.assert_close(offset(bank, epsilon), before, atol=1e-5, rtol=1e-5)
        assert len(bank) == min(domain, capacity)
        assert bank.entries.untyped_storage().nbytes() == (1 + len(bank)) * sum(sizes) * 4
        assert len(bank.coefficients) == 1 + len(bank)
        assert not bank.entries[0].any()


def test_the_newest_entry_is_the_fused_offset():
    bank = empty()
    first = torch.arange(16.0) / 100
    epsilon = bank.store(first, MARGIN)
    assert torch.equal(bank.entries[1], first)
    fused = offset(bank, epsilon + 1)
    bank.store(epsilon + 1, MARGIN)
    torch.testing.assert_close(bank.entries[2], fused)


def test_a_new_entry_gets_so_much_weight_that_a_hundredth_of_epsilon_is_left_at_most():
    bank = empty()
    epsilon = torch.zeros(16)
    epsilon[3:6] = 0.05  # five times the margin in one tensor
    left = bank.store(epsilon, MARGIN)
    assert float(left[3:6].mean()) == pytest.approx(MARGIN, rel=1e-4)
    assert float(torch.softmax(10 * bank.coefficients, 0)[1]) == pytest.approx(1 - 1 / 5)
    assert float(bank.coefficients[1]) == pytest.approx(math.log(4) / 10)


def test_a_small_offset_gets_the_weight_of_the_heaviest():
    bank = empty()
    bank.store(torch.full((16,), 0.05), MARGIN)
    heaviest = float(bank.coefficients.max())
    bank.store(torch.full((16,), 1e-4), MARGIN)
    assert float(bank.coefficients[2]) == pytest.approx(heaviest)


def test_coefficients_stay_within_their_limit():
    bank = empty()
    bank.coefficients.fill_(20.0)
    bank.store(torch.ones(16), MARGIN)
    assert float(bank.coefficients[1]) == 10.0


def test_of_the_most_similar_pair_the_older_goes():
    bank = empty(capacity=3)
    generator = torch.Generator().manual_seed(0)
    a, b, d = torch.randn(3, 16, generator=generator)
    entries = [a, b, 3 * a + 0.01]
    bank.entries = torch.stack([torch.zeros(16), *entries])
    bank.coefficients = torch.tensor([0.0, 0.1, 0.2, 0.3])
    bank.store(d - bank.mix(), MARGIN)
    torch.testing.assert_close(bank.entries, torch.stack([torch.zeros(16), b, entries[2], d]))
    torch.testing.assert_close(bank.coefficients[:3], torch.tensor([0.0, 0.2, 0.3]))


def test_similarity_is_a_mean_over_tensors_not_over_scalars():
    # By one cosine over everything the large tensor would decide and make 1 and 2 the pair.
    bank = empty(capacity=3, sizes=[2, 2, 100])
    first, second = torch.zeros(2, 104)
    first[:2] = torch.tensor([1.0, 0.0])
    first[2:4] = torch.tensor([1.0, 0.0])
    second[:4] = -first[:4]
    first[4:] = second[4:] = 10.0
    third = torch.cat([first[:4], torch.full((100,), -10.0)])
    bank.entries = torch.stack([torch.zeros(104), second, first, third])
    bank.coefficients = torch.zeros(4)
    bank.store(torch.zeros(104), MARGIN)
    torch.testing.assert_close(bank.entries[1:3], torch.stack([second, third]))


def test_a_bank_without_room_leaves_epsilon_alone():
    bank = empty(0)
    epsilon = torch.full((sum(bank.sizes),), 0.3)
    assert torch.equal(bank.store(epsilon, MARGIN), epsilon)
    assert len(bank) == 0
    assert not bank.mix().any()
