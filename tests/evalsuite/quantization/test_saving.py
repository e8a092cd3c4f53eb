from __future__ import annotations

import json

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from evalsuite import quantize
from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.saving import (
    DamagedFile,
    load,
    pack,
    read_facts,
    read_state,
    recipe_in,
    save,
    unpack,
    write_state,
)
from evalsuite.quantizers.saved_network import SavedNetwork

X = random_images(8)
BUILDERS = {"cnn": tiny_resnet, "transformer": tiny_transformer}


@given(st.data(), st.integers(2, 8))
def test_integers_survive_packing(data, bits):
    integers = data.draw(npst.arrays(np.int32, st.integers(0, 40), elements=st.integers(0, 2**bits - 1)))
    packed = pack(torch.from_numpy(integers), bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-len(integers) * bits // 8)
    assert unpack(packed, bits, len(integers)).tolist() == integers.tolist()


def test_packing_is_most_significant_bit_first():
    assert pack(torch.tensor([[1, 2], [3, 0]]), 2).tolist() == [0b01101100]
    assert pack(torch.tensor([5, 1]), 3).tolist() == [0b10100100]
    with pytest.raises(ValueError, match="1 bytes"):
        unpack(torch.zeros(1, dtype=torch.uint8), 4, 3)


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(
    "options", [{}, {"symmetric": True, "per_channel": False, "weight_bits": 3}, {"fold_norm": True}]
)
def test_a_saved_network_comes_back_bit_for_bit(kind, options, tmp_path):
    model = BUILDERS[kind]()
    quantized = quantize(model, X, **{"method": "rtn", "weight_bits": 4, "activation_bits": 4} | options)
    save(quantized, tmp_path / "q.safetensors")
    again = load(tmp_path / "q.safetensors", model, X[:1])
    ours, theirs = quantized.state_dict(), again.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.numpy().tobytes() == theirs[name].numpy().tobytes(), name
    assert torch.equal(quantized(X), again(X))
    assert not again.training
    save(again, tmp_path / "again.safetensors")
    assert (tmp_path / "q.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_weights_take_their_bits_and_no_more(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 32), nn.Linear(32, 4)).eval()
    save(quantize(model, X, method="rtn", weight_bits=4), tmp_path / "q.safetensors")
    with safe_open(tmp_path / "q.safetensors", framework="pt") as opened:
        names = set(opened.keys())
        assert "2.weight" not in names
        assert opened.get_tensor("2.weight.packed").numel() == 8 * 14 * 14 * 32 // 2
        assert opened.get_tensor("3.weight.packed").numel() == 32 * 4


def test_a_single_layer_is_a_network_too(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).eval()
    layer = quantize(model, X, method="rtn")[1]
    fresh = insert_quantizers(model, BitPolicy(4, 4), X[:1])[1]
    write_state(tmp_path / "q", layer, {"why": "ß"})
    read_state(tmp_path / "q", fresh)
    assert torch.equal(fresh(X.flatten(1)), layer(X.flatten(1)))
    assert read_facts(tmp_path / "q") == {"why": "ß"}


def test_weights_that_are_not_on_their_grid_are_kept_as_they_are(tmp_path):
    model = tiny_resnet()
    inserted = insert_quantizers(model, BitPolicy(4, 4), X[:1])
    write_state(tmp_path / "q", inserted, {})
    fresh = insert_quantizers(tiny_resnet(seed=1), BitPolicy(4, 4), X[:1])
    read_state(tmp_path / "q", fresh)
    assert torch.equal(fresh(X), model(X))


def test_what_cannot_be_saved_is_one_clear_line(tmp_path):
    with pytest.raises(RequestError, match="TinyResNet has no recipe: expected what"):
        save(tiny_resnet(), tmp_path / "q")
    quantized = quantize(tiny_resnet(), X, method="rtn")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        save(quantized, tmp_path / "file" / "q")
    quantized.fc.bias.data[0] = torch.nan
    with pytest.raises(RequestError, match=r"not finite in fc\.bias"):
        save(quantized, tmp_path / "q")
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "missing", "other", "foreign", "recipe", "mark"])
def test_a_damaged_file_is_one_clear_line(damage, tmp_path):
    file = tmp_path / "q.safetensors"
    quantized = quantize(tiny_resnet(), X, method="rtn")
    save(quantized, file)
    content, model = file.read_bytes(), tiny_resnet()
    if damage == "cut":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "noise":
        file.write_bytes(b"\xff" * 100)
    elif damage == "mark":
        file.write_bytes(content.replace(b"evalsuite.crc32", b"evalsuite.crc33"))
    elif damage == "missing":
        file.unlink()
    elif damage == "other":
        model = tiny_transformer()
    elif damage == "foreign":
        write_state(file, quantized, {})
    else:
        write_state(file, quantized, {"recipe": "{}"})
    with pytest.raises(DamagedFile, match=r"q\.safetensors[^\n]*: expected [^\n]*$"):
        load(file, model, X[:1])


def rewritten(file, **changes):
    """Return a copy of a saved network with another recipe and no checksum, as a stranger could write it."""
    with safe_open(file, "pt") as opened:
        state, facts = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    recipe = json.loads(facts["recipe"]) | changes
    other = file.with_name("other.safetensors")
    save_file(state, other, {"recipe": json.dumps(recipe)})
    return other


def test_a_file_runs_no_code_that_it_names_unless_it_is_trusted(tmp_path):
    file = tmp_path / "q.safetensors"
    save(quantize(tiny_resnet(), X, method="rtn"), file)
    code = "open({!r}, 'w')\nfrom evalsuite.quantizers.rtn import RoundToNearest as Q\n"
    (tmp_path / "evil.py").write_text(code.format(str(tmp_path / "executed")))
    other = rewritten(file, name=f"{tmp_path / 'evil.py'}:Q")
    with pytest.raises(RequestError, match=r"is not registered.*trust=True"):
        load(other, tiny_resnet(), X[:1])
    with pytest.raises(RequestError, match=r"evil\.py, and loading it would run its code: expected trust=True"):
        recipe_in(rewritten(file, name="python_network", options={"path": f"{tmp_path / 'evil.py'}:Q"}))
    cycle = rewritten(file, name="saved_network", options={"path": str(tmp_path / "other.safetensors")})
    with pytest.raises(RequestError, match="names itself"):
        assert SavedNetwork(str(cycle)).engine
    for name in ("os:system", "nothing", "", 5, None, ["rtn"]):
        with pytest.raises(RequestError):
            load(rewritten(file, name=name), tiny_resnet(), X[:1])
    assert not (tmp_path / "executed").exists()
    load(rewritten(file, name=f"{tmp_path / 'evil.py'}:Q"), tiny_resnet(), X[:1], trust=True)
    assert (tmp_path / "executed").exists()


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path):
    file = tmp_path / "q.safetensors"
    save(quantize(tiny_resnet(), X, method="rtn"), file)
    content = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 30):
        file.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(DamagedFile):
            load(file, tiny_resnet(), X[:1])
