"""Residual networks for 32-pixel images (He et al. 2016, arXiv 1512.03385, section 4.2, and arXiv 1603.05027)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Shortcut = Literal["pad", "project"]
Widths = tuple[int, int, int]


class PadChannels(nn.Module):
    """Zero channels before and after an image's own."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, before + C + after, H, W)."""
        return F.pad(images, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut around them before the last ReLU.

    Where the shape changes the shortcut is ``pad`` (the paper's option A: every ``stride``-th row and column, zero
    channels on both sides) or ``project`` (option B: a 1x1 convolution with BatchNorm).
    """

    def __init__(self, channels: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module
        if stride == 1 and channels == width:
            self.downsample = nn.Identity()
        elif shortcut == "pad":
            extra = width - channels
            # Pooling over one pixel is the subsampling.
            self.downsample = nn.Sequential(nn.AvgPool2d(1, stride=stride), PadChannels(extra // 2, extra - extra // 2))
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )
        self.relu2 = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        features = self.relu1(self.bn1(self.conv1(images)))
        features = self.bn2(self.conv2(features)) + self.downsample(images)
        out: Tensor = self.relu2(features)
        return out


class ResNet(nn.Module):
    """Stem, three stages of basic blocks, global average pool, classifier.

    Parameters
    ----------
    blocks : basic blocks in each stage; the CIFAR ResNet of depth D has (D - 2) / 6.
    classes : number of logits.
    widths : channels of the stages; the first is the stem's as well.
    stem_stride : stride of the first convolution; stages 2 and 3 halve the image again.
    shortcut : see :class:`BasicBlock`.
    """

    def __init__(
        self,
        blocks: int,
        classes: int,
        widths: Widths = (16, 32, 64),
        stem_stride: int = 1,
        shortcut: Shortcut = "pad",
    ) -> None:
        super().__init__()

        def stage(channels: int, width: int, stride: int) -> nn.Sequential:
            first = BasicBlock(channels, width, stride, shortcut)
            return nn.Sequential(first, *(BasicBlock(width, width, 1, shortcut) for _ in range(blocks - 1)))

        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = stage(widths[0], widths[0], 1)
        self.layer2 = stage(widths[0], widths[1], 2)
        self.layer3 = stage(widths[1], widths[2], 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalised images to (N, classes) logits."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.fc(self.flatten(self.pool(features)))
        return logits


class PreActivationBlock(nn.Module):
    """GroupNorm and ReLU before each of two 3x3 convolutions; nothing after the sum.

    Where the shape changes the shortcut averages ``stride`` x ``stride`` pixels and appends zero channels.
    """

    def __init__(self, channels: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.bn1 = nn.GroupNorm(groups, channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.GroupNorm(groups, width)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.AvgPool2d(stride), PadChannels(0, width - channels))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        features = self.conv1(self.relu1(self.bn1(images)))
        features = self.conv2(self.relu2(self.bn2(features)))
        out: Tensor = features + self.downsample(images)
        return out


class PreActivationResNet(nn.Module):
    """Pre-activation ResNet with GroupNorm, as in TTT (arXiv 1909.13231) and MEMO (arXiv 2110.09506).

    The norms are called ``bn*`` there, and so here.

    Parameters
    ----------
    blocks : blocks in each of the three stages; depth 26 has 4.
    classes : number of logits.
    widths : channels of the stages; the first is the stem's as well.
    groups : groups of every GroupNorm.
    """

    def __init__(self, blocks: int, classes: int, widths: Widths = (16, 32, 64), groups: int = 8) -> None:
        super().__init__()

        def stage(channels: int, width: int, stride: int) -> nn.Sequential:
            first = PreActivationBlock(channels, width, stride, groups)
            return nn.Sequential(first, *(PreActivationBlock(width, width, 1, groups) for _ in range(blocks - 1)))

        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.layer1 = stage(widths[0], widths[0], 1)
        self.layer2 = stage(widths[0], widths[1], 2)
        self.layer3 = stage(widths[1], widths[2], 2)
        self.bn = nn.GroupNorm(groups, widths[2])
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalised images to (N, classes) logits."""
        features = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        logits: Tensor = self.fc(self.flatten(self.pool(self.relu(self.bn(features)))))
        return logits
