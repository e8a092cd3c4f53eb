"""Hooks go on any exit; a watched run sees modules and operations in order."""

import contextlib
import subprocess
import sys
from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_leaves

from evalsuite.execution import Execution, hooked, tensors_in


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.ReLU())


def counts(model):
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_hooks_run_while_the_context_lasts_and_not_after():
    model, seen = network(), []
    with hooked(layer.register_forward_hook(lambda *values: seen.append(values[0])) for layer in model):
        model(torch.ones(1, 3))
    model(torch.ones(1, 3))
    assert seen == list(model)
    assert counts(model) == [0, 0, 0]


def test_hooks_go_when_the_body_raises():
    model = network()
    with pytest.raises(ZeroDivisionError), hooked([model[0].register_forward_hook(lambda *values: None)]):
        raise ZeroDivisionError
    assert counts(model) == [0, 0, 0]


def test_hooks_go_when_a_later_one_cannot_be_registered():
    model = network()
    names = ["0", "1", "2"]  # there is no third
    handles = (model.get_submodule(name).register_forward_hook(lambda *values: None) for name in names)
    with pytest.raises(AttributeError), hooked(handles):
        pass
    assert counts(model) == [0, 0, 0]


class Order(Execution):
    def __init__(self, model):
        super().__init__(model)
        self.events = []

    def entered(self, name, args, kwargs):
        self.events.append(f"({name}")

    def left(self, name, args, kwargs, result):
        self.events.append(f"{name})")

    def computed(self, operation, args, kwargs, result):
        self.events.append(operation.overloadpacket.__name__)


def test_a_watched_run_is_seen_in_order_and_leaves_no_hook():
    model = network()
    order, x = Order(model), torch.ones(1, 3)
    with torch.no_grad(), order.watching():
        model(x)
    model(x)
    assert order.events == ["(", "(0", "t", "addmm", "0)", "(1", "relu", "1)", ")"]
    assert counts(model) == [0, 0, 0]


def test_a_run_that_fails_leaves_no_hook():
    model = network()
    with contextlib.suppress(RuntimeError), Order(model).watching():
        model(torch.ones(1, 5))
    assert counts(model) == [0, 0, 0]


def test_of_what_is_compiled_the_operations_are_seen_and_nothing_is_compiled_meanwhile():
    plain = network()
    compiled = nn.Sequential(torch.compile(plain[0], backend=lambda graph, inputs: pytest.fail("compiled")), plain[1])
    x, seen = torch.ones(1, 3), []
    for model in (plain, compiled):
        order = Order(model)
        with torch.no_grad(), order.watching():
            model(x)
        seen.append([event for event in order.events if event.isalpha()])
    assert seen[0] == seen[1] == ["t", "addmm", "relu"]


def test_neither_watching_nor_noise_loads_what_takes_a_process_seconds():
    code = (
        "import sys, numpy, torch\n"
        "from evalsuite.structure import describe; from evalsuite.corruptions import corrupt\n"
        "describe(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2)), torch.ones(1, 3, 1, 1))\n"
        "corrupt(numpy.zeros((1, 32, 32, 3), numpy.uint8), 'shot_noise', 1)\n"
        "print([name for name in ('torch._dynamo', 'sympy', 'scipy.stats') if name in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout == "[]\n"


class Pair(NamedTuple):
    first: object
    second: object


VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=2), st.builds(lambda: torch.zeros(1))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.integers(0, 5), inner, max_size=3),
        st.dictionaries(st.integers(0, 5), inner, max_size=3).map(OrderedDict),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)


@given(VALUES)
def test_tensors_are_found_as_a_tree_holds_them(values):
    expected = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    found = tensors_in(values)
    assert len(found) == len(expected)
    assert all(one is other for one, other in zip(found, expected, strict=True))
