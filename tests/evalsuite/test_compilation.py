"""Compiled code computes what any network of its structure does; machine code, which takes long, is for benchmarks."""

import functools

import pytest
import torch
from _dummies.models import random_images, tiny_transformer
from torch import nn

from evalsuite import quantize
from evalsuite.compilation import CompiledNetwork, OtherStructure, _EvalNorm, compiled_code, missing_compiler


@functools.cache
def quantized(seed=0, activation_bits=4, **options):
    model, images = tiny_transformer(seed), random_images(seed=seed)
    return quantize(model, images, method="rtn", weight_bits=4, activation_bits=activation_bits, **options)


@torch.no_grad()
def test_one_compilation_serves_all_networks_of_a_structure():
    """Another network has other scales and zero points, none of which may be compiled in."""
    images, graphs = random_images(6, seed=9), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = CompiledNetwork(quantized(), backend)
    for seed in (0, 1, 2):
        compiled.fill(quantized(seed))
        assert torch.equal(compiled(images), quantized(seed)(images))
    assert len(graphs) == 1
    with pytest.raises(RuntimeError, match="recompile"):
        compiled(images[:5])


def test_other_structures_do_not_fit():
    compiled = CompiledNetwork(quantized(), "eager")
    for other, what in (
        (tiny_transformer(), "the same modules"),
        (quantized(activation_bits=8), "bits.* differ: expected the same"),
        (quantized(per_channel=False), "of the same shapes"),
    ):
        with pytest.raises(OtherStructure, match=what):
            compiled.fill(other)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(7), nn.BatchNorm2d(7)])
@torch.no_grad()
def test_norms_are_those_of_torch(norm):
    generator = torch.Generator().manual_seed(0)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        tensor.normal_(generator=generator)
    norm.running_var.uniform_(0.1, 2, generator=generator)
    x = torch.randn(5, 7, *[3] * (2 if isinstance(norm, nn.BatchNorm2d) else 1), generator=generator)
    expected = norm.eval()(x)
    norm.__class__ = _EvalNorm
    torch.testing.assert_close(norm(x), expected, rtol=1e-6, atol=1e-6)


def test_what_compiling_needs_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert missing_compiler("cpu") == "a C++ compiler (g++, clang++ or $CXX)"
    own = tmp_path / "c++-99"
    own.write_text("")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", "c++-99")
    assert missing_compiler("cpu") == ""


def test_compiled_code_is_the_users_own(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(compiled_code()) == "/somewhere/evalsuite/compiled"
