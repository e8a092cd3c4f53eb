"""Opening up attention: what hides its products in one kernel becomes :class:`evalsuite.models.attention.Attention`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import Refused
from evalsuite.execution import hooked
from evalsuite.models.attention import Attention
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.routed_products import route_products, same_result


class OpenedAttention(Attention):
    """Stands where timm's attention stood: the same call, without masks."""

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Map (N, T, D) tokens to (N, T, D). Raises Refused for a mask."""
        _refuse_masks(attn_mask, is_causal)
        return super().forward(tokens)


class OpenedMultiheadAttention(Attention):
    """Stands where a self-attending ``nn.MultiheadAttention`` stood: the same call, without masks."""

    # nn.TransformerEncoderLayer looks at these; a missing bias keeps it from its fused kernel.
    in_proj_bias = None
    _qkv_same_embed_dim = True

    def __init__(self, width: int, heads: int, bias: bool, batch_first: bool) -> None:
        super().__init__(width, heads, bias)
        self.num_heads = heads
        self.batch_first = batch_first

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what ``nn.MultiheadAttention`` does. Raises Refused for masks, or if key or value is not query."""
        _refuse_masks(key_padding_mask, attn_mask, is_causal)
        if key is not query or value is not query or query.ndim != 3:
            raise Refused("attention was opened up as self-attention over batches; expected query, key, value alike")
        out, weights = self.attend(query if self.batch_first else query.transpose(0, 1))
        out = out if self.batch_first else out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(dim=1) if average_attn_weights else weights


def _refuse_masks(*masks: Tensor | bool | None) -> None:
    if any(mask is not None and mask is not False for mask in masks):
        raise Refused("attention was opened up without masks; expected none")


def open_attention(model: nn.Module, example: Tensor) -> None:
    """Replace, in place, each self-attention by one whose products are modules, where both compute the same.

    Candidates are ``nn.MultiheadAttention`` and, whatever its class, a module with linear layers ``qkv`` and
    ``proj`` and a number of heads (timm's convention). Each is compared with its replacement on the input that it
    gets when the model sees ``example`` (N, C, H, W); where the outputs differ (relative positions, a norm on
    the queries, masks...) it keeps its code, and its products are routed through modules where that computes the
    same, see :func:`evalsuite.quantization.graph.routed_products.route_products`.
    """
    candidates = {module: opened for module in model.modules() if (opened := _opened(module)) is not None}
    same: dict[nn.Module, bool] = {}

    def compare(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        # At once: the model may go on to change its tensors in place.
        same[module] = same.get(module, True) and same_result(candidates[module], args, kwargs, output)

    handles = (module.register_forward_hook(compare, with_kwargs=True) for module in candidates)
    with torch.no_grad(), hooked(handles):
        model(example)
    replace_modules(model, {module: candidates[module] for module, equal in same.items() if equal})
    route_products(model, example)


def _opened(module: nn.Module) -> Attention | None:
    """Build the replacement of a module that looks like attention, sharing its parameters; None for any other."""
    if isinstance(module, Attention):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return _opened_multihead(module)
    qkv, proj = getattr(module, "qkv", None), getattr(module, "proj", None)
    heads = getattr(module, "num_heads", getattr(module, "heads", None))
    if not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear) or not isinstance(heads, int):
        return None
    width = qkv.in_features
    if qkv.out_features != 3 * width or (proj.in_features, proj.out_features) != (width, width) or width % heads:
        return None
    with torch.device("meta"):
        opened = OpenedAttention(width, heads)
    opened.qkv, opened.proj = qkv, proj
    return opened.train(module.training)


def _opened_multihead(module: nn.MultiheadAttention) -> Attention | None:
    if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
        return None
    with torch.device("meta"):
        biased = module.in_proj_bias is not None
        opened = OpenedMultiheadAttention(module.embed_dim, module.num_heads, biased, module.batch_first)
    opened.qkv.weight = module.in_proj_weight
    opened.qkv.bias = module.in_proj_bias
    opened.proj = module.out_proj
    return opened.train(module.training)
