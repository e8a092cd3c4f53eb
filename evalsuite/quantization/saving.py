"""Quantized networks in files: safetensors with the weights as packed integers, exact to the last bit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from evalsuite import checksums
from evalsuite.arguments import image_tensor
from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.hashing import canonical_json
from evalsuite.networks import floating_type, narrowed, outside_inference, plain
from evalsuite.plugins import Quantizer
from evalsuite.quantization.grids.affine import dequantize
from evalsuite.quantization.grids.layers import QuantLayer, quantized_layers
from evalsuite.registry import configure, names, python_files

_PACKED = ".packed"  # follows a weight's name where the file holds its integers
_RECIPE = "recipe"
_LOST = "lost_attributes"  # learnt, but no part of the state


class DamagedFile(RequestError):
    """A file that cannot be read, or not into the network that it is read into."""


def save(quantized: nn.Module, path: str | Path) -> None:
    """Write what :func:`evalsuite.quantize` returned to a safetensors file.

    A weight of integers takes as many bits in the file as on its grid, one in a number format 32. The quantizer, its
    options and the bit policy are kept as JSON in the file's header; the source network's code is not, so :func:`load`
    needs the source network.

    Raises
    ------
    RequestError
        If the network does not say how it was made, holds values that are not finite, has learnt something that is
        neither parameter nor buffer (with its name), or the file cannot be written.
    """
    recipe = getattr(quantized, _RECIPE, None)
    if not isinstance(recipe, str):
        raise RequestError(f"{type(quantized).__name__} has no recipe: expected what evalsuite.quantize returned")
    lost = getattr(quantized, _LOST, ())
    if lost:
        raise RequestError(would_be_lost(lost))
    try:
        write_state(Path(path), quantized, {_RECIPE: recipe})
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: str | Path, model: nn.Module, example: Tensor, *, trust: bool = False) -> nn.Module:
    """Return the network that :func:`save` wrote, in eval mode: the same outputs bit for bit on the same machine.

    Parameters
    ----------
    model : the source network with the weights that it was quantized from; stays untouched.
    example : (1, C, H, W) normalised image, on the model's device.
    trust : whether the file may name a quantizer that is not registered, ``package.module:Class`` or
        ``path.py:Class``, here or in an option: loading it runs that code. Pass True only for files of your own.

    Raises
    ------
    RequestError
        If the file is missing, damaged, of another network, or names code without ``trust``.
    """
    file = Path(path)
    made = recipe_in(file, trust=trust)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)  # said when it was quantized
        with outside_inference():
            network = plain(model)
            images = image_tensor(example, "the example", *floating_type(network))
            try:
                quantized = narrowed(made.quantizer.insert(network, made.bits, images), model)
            except RecursionError as error:
                raise DamagedFile(f"{file} names itself as what it was made of: expected a saved network") from error
            read_state(file, quantized)
    mark(quantized, made.text)
    return quantized.eval()


@dataclass(frozen=True)
class Recipe:
    """How a saved network was quantized; ``text`` is what the file says of it."""

    quantizer: Quantizer
    bits: BitPolicy
    text: str


def recipe_in(file: Path, *, trust: bool = False) -> Recipe:
    """Return what a file says of how its network was quantized; errors and ``trust`` as those of :func:`load`."""
    recipe = read_facts(file).get(_RECIPE)
    if recipe is None:
        raise DamagedFile(f"{file} says not how it was quantized: expected a file that evalsuite saved")
    try:
        made = TypeAdapter(dict[str, Any]).validate_json(recipe)
        if not isinstance(made["name"], str) or (not trust and made["name"] not in names("quantizers")):
            raise RequestError(
                f"{file} names the quantizer {made['name']!r}, which is not registered, and loading it would run its "
                "code: expected a registered one, or trust=True for a file of your own"
            )
        code = next(python_files(made["options"]), "")
        if code and not trust:  # a registered quantizer may be one that runs what it is given
            raise RequestError(
                f"{file} names {code}, and loading it would run its code: expected trust=True for a file of your own"
            )
        quantizer: Quantizer = configure("quantizers", made["name"], made["options"]).build()
        return Recipe(quantizer, TypeAdapter(BitPolicy).validate_python(made["bits"]), recipe)
    except (ValidationError, KeyError, TypeError) as error:
        raise DamagedFile(f"{file} holds no recipe that can be read: expected a file that evalsuite saved") from error


def recipe_of(method: str, options: Mapping[str, Any], bits: BitPolicy) -> str:
    """Return the JSON by which a network is quantized again."""
    return canonical_json({"name": method, "options": dict(options), "bits": bits.as_dict()})


def mark(quantized: nn.Module, recipe: str, lost: Sequence[str] = ()) -> None:
    """Note on a network how it was made, and which attributes of what it learnt no file would hold."""
    setattr(quantized, _RECIPE, recipe)
    setattr(quantized, _LOST, tuple(lost))


def would_be_lost(names: Sequence[str]) -> str:
    """Say that attributes hold what was learnt and would not be in a file."""
    return f"{', '.join(names)} would be lost in a file: expected all that is learnt in parameters or buffers"


def write_state(file: Path, quantized: nn.Module, facts: Mapping[str, str]) -> None:
    """Write a quantized network's parameters and buffers, and facts for the header, whole or not at all.

    Raises RequestError, with their names, for values that are not finite.
    """
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in quantized.state_dict().items()}
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise RequestError(f"values that are not finite in {', '.join(broken)}: expected finite ones")
    integer = {name: layer for name, layer in quantized_layers(quantized).items() if layer.weight_format is None}
    for name, layer in integer.items():
        key = f"{name}.weight" if name else "weight"
        integers = layer.integer_weight().cpu()
        if _same_bits(_real(integers, layer).to(state[key].dtype), state[key]):  # else it was never rounded
            del state[key]
            state[key + _PACKED] = pack(integers - layer.integers.low, layer.weight_bits)
    with checksums.sealing(file) as temporary:
        temporary.write_bytes(_ordered(serialised(state, {**facts, checksums.KEY: checksums.BLANK})))


def _ordered(content: bytes) -> bytes:
    """Return a safetensors file with its facts in the order of their names; the library's order is random."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data stay aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


def read_facts(file: Path) -> dict[str, str]:
    """Return the facts in a file's header. Raises DamagedFile if the file is missing or damaged."""
    if not file.is_file():
        raise DamagedFile(f"no file {file}: expected a quantized network that evalsuite saved")
    try:
        with _opened(file) as opened:
            return {name: fact for name, fact in (opened.metadata() or {}).items() if name != checksums.KEY}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from error


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a file that fits its checksum, or never had one."""
    sealed = checksums.verify(file)
    with safe_open(file, framework="pt") as opened:
        if not sealed and checksums.KEY in (opened.metadata() or {}):
            raise checksums.Damaged("it has no checksum")
        yield opened


def read_state(file: Path, quantized: nn.Module) -> None:
    """Load what :func:`write_state` wrote into a freshly inserted network, in place.

    Raises DamagedFile, in one line, if the file is damaged or of another network.
    """
    layers = quantized_layers(quantized)
    try:
        with _opened(file) as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        for key in [key for key in state if key.endswith(_PACKED)]:
            weight = key.removesuffix(_PACKED)
            layer = layers[weight.removesuffix("weight").removesuffix(".")]
            integers = unpack(state.pop(key), layer.weight_bits, layer.weight.numel()) + layer.integers.low
            grid = state[f"{weight}_scale"], state[f"{weight}_zero_point"]
            rows = dequantize(integers.reshape(len(grid[0]), -1), grid[0][:, None], grid[1][:, None])
            state[weight] = rows.reshape(layer.weight.shape)
        quantized.load_state_dict(state, strict=True)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(file, error) from error


def pack(integers: Tensor, bits: int) -> Tensor:
    """Return integers 0..2^bits - 1 of any shape as uint8, ``bits`` bits each, the highest bit first."""
    columns = np.unpackbits(integers.to(torch.uint8).numpy().reshape(-1, 1), axis=1)[:, 8 - bits :]
    return torch.from_numpy(np.packbits(columns.reshape(-1)))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the first ``count`` integers that :func:`pack` packed, (count,) int32.

    Raises ValueError if ``packed`` has not the length of so many.
    """
    if packed.dtype != torch.uint8 or packed.numel() != -(-count * bits // 8):
        raise ValueError(f"{packed.numel()} bytes of {packed.dtype} for {count} integers of {bits} bits")
    columns = np.unpackbits(packed.numpy(), count=count * bits).reshape(count, bits)
    left = np.zeros((count, 8 - bits), dtype=np.uint8)
    return torch.from_numpy(np.packbits(np.concatenate([left, columns], axis=1), axis=1)[:, 0].astype(np.int32))


def _real(integers: Tensor, layer: QuantLayer) -> Tensor:
    scale, zero_point = layer.weight_scale.detach().cpu(), layer.weight_zero_point.cpu()
    rows = dequantize(integers.reshape(len(scale), -1), scale[:, None], zero_point[:, None])
    return rows.reshape(integers.shape)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype:
        return False
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _damaged(file: Path, error: Exception) -> DamagedFile:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DamagedFile(f"{file} cannot be read into this network ({reason[:200]}): expected a file saved from it")
