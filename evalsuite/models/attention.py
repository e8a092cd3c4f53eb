"""Self-attention whose every product is a module, so that it can be quantized, hooked and found."""

from __future__ import annotations

from torch import Tensor, nn

from evalsuite.errors import RequestError


class MatMul(nn.Module):
    """The product of two activations."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``a @ b`` for (..., n, m) and (..., m, p): (..., n, p)."""
        return a @ b


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762), opened up.

    ``qkv`` holds the rows of the queries, keys and values in this order, each ordered by head, as timm does.
    The queries are scaled by 1/sqrt(width of a head) before ``scores``; ``mix`` weighs the values.

    Parameters
    ----------
    width : features of a token.
    heads : number of heads.
    bias : whether ``qkv`` has a bias.

    Raises
    ------
    RequestError
        If ``width`` is no multiple of ``heads``.
    """

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise RequestError(f"attention of width {width}, {heads} heads: expected a multiple of the heads")
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.scores = MatMul()
        self.softmax = nn.Softmax(dim=-1)
        self.mix = MatMul()
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, T, D) tokens to (N, T, D)."""
        return self.attend(tokens)[0]

    def attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, T, D) tokens to (N, T, D), and return the (N, heads, T, T) attention weights as well."""
        n, t, d = tokens.shape
        q, k, v = self.qkv(tokens).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights: Tensor = self.softmax(self.scores(q * self.scale, k.transpose(-2, -1)))
        mixed: Tensor = self.mix(weights, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, t, d))
        return out, weights
