"""The image trunk: a ResNet (v1.5: stride on the 3x3) without its last stage, pooling and classifier.

Pixels [B, 3, H, W] become features [B, 16 * width, ceil(H / 16), ceil(W / 16)].
Architecture: He et al. 2016, "Deep Residual Learning"; parameter names are torchvision's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions around a shortcut: [B, C, H, W] → [B, 4 * planes, H/s, W/s]."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * planes
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + shortcut)


def _stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels, planes, stride)
    rest = (Bottleneck(EXPANSION * planes, planes, 1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class Trunk(nn.Module):
    """conv1 … layer3 of a ResNet with `blocks` bottlenecks a stage; `width` is the first stage's planes."""

    def __init__(self, blocks: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(width, width, blocks[0], 1)
        self.layer2 = _stage(EXPANSION * width, 2 * width, blocks[1], 2)
        self.layer3 = _stage(2 * EXPANSION * width, 4 * width, blocks[2], 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 16 * width, ceil(H / 16), ceil(W / 16)]."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(pixels))))
        features: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return features
