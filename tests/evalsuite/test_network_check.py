from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.network_check import check_network

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Returning(nn.Module):
    def __init__(self, change: Callable[[Tensor], Any], outputs: int = 3) -> None:
        super().__init__()
        self.change = change
        self.outputs = outputs

    def forward(self, images: Tensor) -> Any:
        return self.change(images.flatten(1)[:, : self.outputs] - 1.5)


@pytest.mark.parametrize(
    ("change", "outputs", "message"),
    [
        (lambda x: {"logits": x}, 3, "returns a dict"),
        (lambda x: (x, x), 3, "returns a tuple"),
        (lambda x: x.numpy(), 3, "returns a ndarray"),
        (lambda x: x, 1, r"returns \(2, 1\)"),
        (lambda x: x, 4, r"returns \(2, 4\)"),
        (lambda x: x[:, 0], 1, r"returns \(2,\)"),
        (lambda x: x[:1], 3, r"returns \(1, 3\)"),
        (lambda x: x / 0, 3, "not all finite"),
        (lambda x: x.argsort(1), 3, "torch.int64"),
        (lambda x: x.softmax(1), 3, "probabilities"),
        (lambda x: x @ x, 3, r"fails on \(2, 3, 4, 4\): RuntimeError"),
    ],
)
def test_outputs_that_are_no_logits(change, outputs: int, message: str):
    with pytest.raises(RequestError, match=f"^net .*{message}") as caught:
        check_network("net", Returning(change, outputs), IMAGES, 3)
    assert "\n" not in str(caught.value)


def test_logits_pass():
    check_network("net", Returning(lambda x: x), IMAGES, 3)
    check_network("net", Returning(lambda x: x.log_softmax(1)), IMAGES, 3)
    check_network("net", Returning(lambda x: x.abs(), outputs=1), IMAGES, 1)


def test_what_is_no_network():
    with pytest.raises(RequestError, match=r"net is a function: expected a torch\.nn\.Module"):
        check_network("net", lambda images: images, IMAGES, 3)
