"""PTQ4ViT: twin uniform grids, and ranges by what their errors cost the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.plugins import cost_only
from evalsuite.quantization.grids.affine import affine_parameters, fake_quantize, integer_range
from evalsuite.quantization.grids.layers import ActivationQuantizer, QuantLayer, QuantMatMul
from evalsuite.quantization.grids.nonuniform import (
    TwinQuantizer,
    quantizers_after,
    refuse_per_token,
    replace_quantizers,
    twin_quantize,
)
from evalsuite.quantization.grids.range_setting import (
    check_images,
    round_weights,
    set_activation_ranges,
    set_weight_ranges,
)
from evalsuite.quantization.grids.ranges import MinMax
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers._sensitivity import WeightedRows, weighted_rows

_Setting = tuple[Tensor, Tensor]  # what fixes a grid: a range's ends, or a twin grid's steps
_LEAST_SHIFT, _GREATEST_SHIFT = 1, 11  # the fine step after softmax is the coarse one, 1/2^(bits-1), shifted by these


@dataclass(frozen=True)
class PTQ4ViT:
    """PTQ4ViT: twin uniform grids after softmax and GELU, ranges by gradient-weighted output error.

    Yuan et al. 2022, "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin Uniform Quantization",
    arXiv 2111.12293, written from the paper; its authors calibrate with 32 images. Activations after softmax have
    one range for small values and one up to 1, those after GELU one for negative values, which it covers, and one
    for positive ones; their steps' ratio is a power of two. All else is uniform, of the kind that the bit
    policy says (the paper: symmetric).

    Each layer and each product of activations is calibrated by itself, on the full-precision network's
    activations: the range of its weight (per output channel, ours) and of its input are chosen in turn, so that the
    output's squared error, weighted by the squared gradients of the network's loss against its own prediction, is
    least. A network without softmax and GELU gets uniform grids only, with ranges chosen in the same way.

    Parameters
    ----------
    rounds : how often both ranges are chosen, unless nothing changes before; 3, as in the paper.
    candidates : fractions of the extremes that are tried; 100, as in the paper.
    greatest_fraction : the last of them; 1.2, as in the paper.
    rows : tokens or pixels of all images that stand for the rest, see
        :func:`evalsuite.quantizers._sensitivity.weighted_rows`; 1,024 (*ours*).
    cache_gigabytes : 2^30 bytes of them that are kept at once; more are computed layer after layer. Changes speed only.
    """

    stochastic: ClassVar[bool] = True

    rounds: int = 3
    candidates: int = 100
    greatest_fraction: float = 1.2
    rows: int = 1024
    cache_gigabytes: float = cost_only(1.0, gigabytes=True)

    def __post_init__(self) -> None:
        for name in ("rounds", "candidates", "rows"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} = {getattr(self, name)}: expected at least 1")
        if self.greatest_fraction <= 0:
            raise RequestError(f"greatest_fraction = {self.greatest_fraction}: expected above 0")

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy with twin grids; Refused for ``per_token``, see also :func:`insert_quantizers`."""
        refuse_per_token(bits, "ptq4vit")
        twin = insert_quantizers(model, bits, example)
        for operation, signed in (("softmax", False), ("gelu", True)):
            names = quantizers_after(twin, example, operation)
            replace_quantizers(twin, names, lambda old, signed=signed: TwinQuantizer(old.bits, signed))  # type: ignore[misc]
        return twin

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Choose all ranges and round the weights, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        set_weight_ranges(model, MinMax())
        chosen: dict[str, _Setting] = {}
        for sample in self._samples(model, images, generator):
            for name, rows in sample.items():
                module = model.get_submodule(name)
                if not _usable(rows):
                    continue
                if isinstance(module, QuantLayer):
                    chosen[f"{name}.input_quantizer"] = self._search_layer(module, rows)
                elif isinstance(module, QuantMatMul):
                    chosen[f"{name}.left"], chosen[f"{name}.right"] = self._search_product(module, rows)
        quantizers = {name: one for name, one in model.named_modules() if isinstance(one, ActivationQuantizer)}
        set_activation_ranges(model, images, MinMax(), only=quantizers.keys() - chosen.keys())
        for name, setting in chosen.items():
            one = quantizers[name]
            (one.set_steps if isinstance(one, TwinQuantizer) else one.set_range)(*setting)
        round_weights(model)

    def _samples(
        self, model: nn.Module, images: Tensor, generator: torch.Generator
    ) -> Iterator[dict[str, WeightedRows]]:
        """Yield what layers and products read, so many of them at a time that memory stays bounded."""
        names = [name for name, module in model.named_modules() if isinstance(module, QuantLayer | QuantMatMul)]
        one = weighted_rows(model, images[:1], names, -(-self.rows // len(images)), generator)
        left = 0.0
        parts: list[list[str]] = []
        for name, rows in one.items():
            tensors = [rows.left, rows.weight, *([] if rows.right is None else [rows.right])]
            needed = len(images) * sum(tensor.nbytes for tensor in tensors)
            if not parts or needed > left:
                parts.append([])
                left = self.cache_gigabytes * 2**30
            parts[-1].append(name)
            left -= needed
        start = generator.get_state()
        for part in parts:  # the same draws, however many parts there are
            generator.set_state(start)
            yield weighted_rows(model, images, part, self.rows, generator)

    @torch.no_grad()
    def _search_layer(self, layer: QuantLayer, rows: WeightedRows) -> _Setting:
        """Choose the weight's ranges, in the layer, and return the input's."""
        quantizer, groups = layer.input_quantizer, len(rows.left)
        plain = layer.rows()
        low, high = torch.aminmax(plain, dim=1)

        def output(x: Tensor, weight: Tensor) -> Tensor:
            return x @ weight.reshape(groups, -1, rows.left.shape[2]).transpose(1, 2)

        def rounded(fraction: Tensor | float) -> Tensor:
            scale, zero = affine_parameters(low * fraction, high * fraction, layer.weight_bits, layer.symmetric)
            return fake_quantize(plain, scale[:, None], zero[:, None], layer.integers)

        target = output(rows.left, layer.weight)

        def error(x: Tensor, weight: Tensor) -> Tensor:
            """Return the error per row of the weight, (rows,)."""
            squared = output(x, weight).sub_(target).square_().mul_(rows.weight)
            return squared.sum(dim=1).reshape(len(plain), -1).sum(dim=1)

        settings = self._settings(quantizer, rows.ends[0])
        setting, fraction = settings[-1], torch.ones_like(low)
        for _ in range(self.rounds):
            before = (setting, fraction)
            x = _rounded(quantizer, rows.left, setting)
            least = torch.full_like(low, torch.inf)
            for candidate in self._fractions():
                found = error(x, rounded(candidate))
                fraction = torch.where(found < least, candidate, fraction)
                least = torch.minimum(found, least)
            weight = rounded(fraction)
            setting = _best(settings, [error(_rounded(quantizer, rows.left, one), weight).sum() for one in settings])
            if setting is before[0] and torch.equal(fraction, before[1]):
                break
        layer.set_weight_range(low * fraction, high * fraction)
        return setting

    @torch.no_grad()
    def _search_product(self, product: QuantMatMul, rows: WeightedRows) -> tuple[_Setting, _Setting]:
        """Return what the two factors' grids should be."""
        assert rows.right is not None
        left, right = rows.left, rows.right
        target = left @ right

        def error(a: Tensor, b: Tensor) -> Tensor:
            return (a @ b).sub_(target).square_().mul_(rows.weight).sum()

        left_settings = self._settings(product.left, rows.ends[0])
        right_settings = self._settings(product.right, rows.ends[1])
        chosen = left_settings[-1], right_settings[-1]
        for _ in range(self.rounds):
            before = chosen
            b = _rounded(product.right, right, chosen[1])
            first = _best(left_settings, [error(_rounded(product.left, left, one), b) for one in left_settings])
            a = _rounded(product.left, left, first)
            errors = [error(a, _rounded(product.right, right, one)) for one in right_settings]
            chosen = first, _best(right_settings, errors)
            if chosen[0] is before[0] and chosen[1] is before[1]:
                break
        return chosen

    def _fractions(self) -> list[float]:
        return [self.greatest_fraction * (i + 1) / self.candidates for i in range(self.candidates)]

    def _settings(self, quantizer: ActivationQuantizer, ends: tuple[Tensor, Tensor]) -> list[_Setting]:
        """Return the grids to choose from."""
        low, high = ends
        if not isinstance(quantizer, TwinQuantizer):
            return [(low * fraction, high * fraction) for fraction in self._fractions()]
        if quantizer.signed:
            coarse = [high * fraction / quantizer.last for fraction in self._fractions()]
            return [(quantizer.fine_step(low, step), step) for step in coarse]
        one = torch.ones_like(high) / (quantizer.last + 1)
        return [(one / 2**shift, one) for shift in range(_LEAST_SHIFT, _GREATEST_SHIFT + 1)]


def _usable(rows: WeightedRows) -> bool:
    """Whether ranges can be chosen on these rows; the rest is left to those who warn of it."""
    finite = all(bool(torch.stack(ends).isfinite().all()) for ends in rows.ends) and bool(rows.weight.isfinite().all())
    return finite and all(bool(low < high) for low, high in rows.ends)


def _rounded(quantizer: ActivationQuantizer, x: Tensor, setting: _Setting) -> Tensor:
    if isinstance(quantizer, TwinQuantizer):
        return twin_quantize(x, *setting, quantizer.bits, quantizer.signed)
    scale, zero = affine_parameters(*setting, quantizer.bits, quantizer.symmetric)
    return fake_quantize(x, scale, zero, integer_range(quantizer.bits, quantizer.symmetric))


def _best(settings: list[_Setting], errors: list[Tensor]) -> _Setting:
    return settings[int(torch.stack(errors).argmin())]
