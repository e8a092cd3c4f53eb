"""A plain vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.models.attention import Attention


class PatchEmbedding(nn.Module):
    """Cut an image into patches and project each to a token."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, HW/patch², width) tokens, row by row."""
        tokens: Tensor = self.proj(images)
        return tokens.flatten(2).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, T, width) tokens to (N, T, width)."""
        out: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, T, width) tokens to (N, T, width)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class VisionTransformer(nn.Module):
    """Pre-norm ViT with a class token and learned positions; the head reads the class token.

    Parameters are named as timm names them, so that a timm checkpoint of the same shape loads.

    Parameters
    ----------
    image_size, patch : height and width of the (square) input and of a patch, pixels.
    width : features of a token.
    depth : number of blocks.
    heads : attention heads in a block.
    hidden : width of the MLP's hidden layer.
    classes : number of logits.
    eps : LayerNorm's epsilon.

    Raises
    ------
    RequestError
        If the image is no multiple of the patch, or the width no multiple of the heads.
    """

    def __init__(
        self,
        image_size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        classes: int,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise RequestError(f"image size {image_size}, patch {patch}: expected a multiple of the patch")
        self.patch_embed = PatchEmbedding(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (image_size // patch) ** 2 + 1, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, eps) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalised images to (N, classes) logits."""
        patches = self.patch_embed(images)
        classes = self.cls_token.expand(patches.shape[0], -1, -1)  # by len() an exporter would take it for a constant
        tokens = torch.cat([classes, patches], dim=1) + self.pos_embed
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(tokens[:, 0])
        return logits
