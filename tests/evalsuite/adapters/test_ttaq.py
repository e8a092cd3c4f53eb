import pytest
import torch
from _dummies.models import CLASSES, random_images, tiny_resnet

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters.ttaq import TTAQ, Balance
from evalsuite.errors import Refused, RequestError


@pytest.mark.parametrize("host", ["tent", "eata", "sar", "cotta", "rotta"])
def test_without_strength_it_is_the_host_bit_for_bit(host):
    options = {"eata": {"margin": 1.0, "redundancy": 2.0}, "sar": {"margin": 1.0}, "cotta": {"augmentations": 2}}
    own = options.get(host, {"update_every": 8, "bank": 8} if host == "rotta" else {})
    plain = adapt(tiny_resnet(), host, random_images(8), seed=1, **own)
    wrapped = adapt(tiny_resnet(), "ttaq", random_images(8), host=host, host_options=own, frequency=0.0, complexity=0.0)
    balanced = adapt(tiny_resnet(), "ttaq", random_images(8), host=host, host_options=own, frequency=3.0)
    generator = torch.Generator()
    generator.set_state(plain._state.generator.get_state()) if hasattr(plain._state, "generator") else None
    for run in (wrapped, balanced):
        if hasattr(run._state.host_state, "generator"):
            run._state.host_state.generator.set_state(generator.get_state())
    differ = []
    for seed in range(3):
        expected = plain(random_images(8, seed))
        assert torch.equal(wrapped(random_images(8, seed)), expected)
        differ.append(not torch.equal(balanced(random_images(8, seed)), expected))
    assert not differ[0]
    assert differ[-1] or host == "rotta"


def test_rare_and_hard_classes_are_raised():
    balance = Balance(frequency=1.0, complexity=1.0, momentum=0.9)
    logits = torch.zeros(40, CLASSES)
    assert torch.equal(balance(logits), logits)
    sure = torch.zeros(40, CLASSES)
    sure[:, 0] = 6.0
    for _ in range(30):
        balance.observe(sure)
    adjusted = balance(logits)[0]
    assert (adjusted[1:] > adjusted[0]).all()
    frequency = sure.softmax(dim=1)[0]
    only = Balance(1.0, 0.0, 0.9, share=balance.share, entropy=balance.entropy)
    torch.testing.assert_close(only(logits)[0], -torch.log(frequency * CLASSES), rtol=1e-3, atol=1e-3)


def test_a_class_that_is_hard_has_high_complexity():
    balance = Balance(frequency=0.0, complexity=1.0, momentum=0.5)
    logits = torch.zeros(20, CLASSES)
    logits[:10, 0] = 9.0
    logits[10:, 1] = 0.5
    for _ in range(10):
        balance.observe(logits)
    assert balance.entropy[1] > 0.9
    assert balance.entropy[0] < 0.1


def test_broken_logits_leave_the_balance_as_it_is():
    balance = Balance(1.0, 1.0, 0.9)
    balance.observe(torch.full((4, CLASSES), float("nan")))
    assert balance.share is None


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="bn_adapt has no loss on logits"):
        adapt(tiny_resnet(), "ttaq", random_images(4), host="bn_adapt")
    with pytest.raises(RequestError, match="unknown adapter 'tant'"):
        TTAQ(host="tant")
    with pytest.raises(RequestError, match="momentum = 1"):
        TTAQ(momentum=1.0)
    with pytest.raises(RequestError, match="frequency = inf"):
        TTAQ(frequency=float("inf"))
