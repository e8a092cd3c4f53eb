"""The smallest network that has all that quantizers look for: a stem, norms, a residual block, a classifier."""

import torch
from torch import nn

from evalsuite.models.cifar_resnet import BasicBlock


def small_cnn() -> nn.Module:
    """Return it, in eval mode, with the same weights each time; 3 input channels, 4 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        block = nn.Sequential(BasicBlock(6, 8, 2, "project"))
        return nn.Sequential(stem, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
