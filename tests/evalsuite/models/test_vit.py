from __future__ import annotations

import pytest
import torch

from evalsuite.errors import RequestError
from evalsuite.models.vit import VisionTransformer
from evalsuite.torchvision_compat import import_torchvision


def test_agrees_with_timm() -> None:
    import_torchvision()
    from timm.models.vision_transformer import VisionTransformer as Timm

    torch.manual_seed(0)
    ours = VisionTransformer(image_size=16, patch=4, width=24, depth=3, heads=3, hidden=48, classes=5).eval()
    theirs = Timm(16, 4, num_classes=5, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2.0).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(images), theirs(images))


def test_patches_are_rows_first() -> None:
    embed = VisionTransformer(image_size=8, patch=4, width=4, depth=1, heads=1, hidden=4, classes=2).patch_embed
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, :4, 4:] = 1  # the upper right patch
    tokens = embed(images)
    assert tokens.shape == (1, 4, 4)
    different = (tokens != tokens[:, :1]).any(-1)
    assert different.tolist() == [[False, True, False, False]]


def test_patch_must_divide_the_image() -> None:
    with pytest.raises(RequestError, match="image size 30, patch 4"):
        VisionTransformer(image_size=30, patch=4, width=8, depth=1, heads=1, hidden=8, classes=2)
