"""Which operations are products: by weights, or of activations."""

from __future__ import annotations

import torch
from torch import Tensor

MATMULS = frozenset({torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__})
"""Functions whose two arguments are multiplied, and nothing else."""

ROUTABLE = frozenset(
    {
        *("mm", "bmm", "addmm", "linear", "matmul", "_scaled_dot_product_flash_attention_for_cpu"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable"),
    }
)
"""ATen's names of the products that modules can stand for, see :mod:`evalsuite.quantization.graph.routed_products`."""

PRODUCTS = ROUTABLE | {
    *("convolution", "_convolution", "mkldnn_convolution", "conv1d", "conv2d", "conv3d"),
    *("mv", "dot", "addbmm", "baddbmm", "addmv", "_addmm_activation"),
    *("einsum", "embedding", "embedding_bag", "_trilinear", "_cdist_forward"),
    *("lstm", "gru", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell", "_cudnn_rnn"),
    *("_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
}
"""ATen's names of all of them: none may run outside a quantized module."""
