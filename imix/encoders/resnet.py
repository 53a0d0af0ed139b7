"""Encoders: residual networks with the CIFAR stem, and the tabular network with maxout (section 2).

The residual blocks are written here, not taken from torchvision, whose import costs every stage more than a
second; the tests hold the two against each other.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imix.settings import MLPEncoder, ResNetEncoder

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_FROM = 50
EXPANSION = 4  # of a bottleneck's channels


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """``relu(branch(x) + shortcut(x))``: the basic block (3x3, 3x3) or the bottleneck (1x1, 3x3, 1x1)."""

    def __init__(self, inputs: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            outputs = channels * EXPANSION
            layers = [
                *_convolution(inputs, channels, 1),
                nn.ReLU(inplace=True),
                *_convolution(channels, channels, 3, stride),
                nn.ReLU(inplace=True),
                *_convolution(channels, outputs, 1),
            ]
        else:
            outputs = channels
            layers = [*_convolution(inputs, channels, 3, stride), nn.ReLU(inplace=True), *_convolution(channels, channels, 3)]
        self.branch = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return torch.relu_(self.branch(x).add_(self.shortcut(x)))


class ResNet(nn.Module):
    """(N, C, H, W) -> (N, features): 3x3 stem without max-pool, four stages, global average; Kaiming init.

    ``width`` 64 and depth 18 or more are the standard networks; features = 8 x width, x 4 with bottlenecks.
    """

    def __init__(self, depth: int, width: int, channels: int, stem_stride: int) -> None:
        super().__init__()
        bottleneck = depth >= BOTTLENECK_FROM
        inputs = width
        layers = [*_convolution(channels, width, 3, stem_stride), nn.ReLU(inplace=True)]
        for stage, blocks in enumerate(BLOCKS[depth]):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Residual(inputs, width * 2**stage, stride, bottleneck))
                inputs = width * 2**stage * (EXPANSION if bottleneck else 1)
        self.layers = nn.Sequential(*layers)
        self.blocks = [layer for layer in layers if isinstance(layer, Residual)]  # those that hidden features can be mixed before
        self.features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, features)."""
        return self.layers(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))


class TabularMLP(nn.Module):
    """(N, columns) -> (N, features): each group of columns through its own Linear, four BN-ReLU layers, maxout over 4.

    Widths: 64 per group; 2048-2048-4096-4096 and 8192 maxed to 2048, x ``width`` (section 2).

    Args:
        groups: the number of columns in each group, in order.
    """

    GROUP = 64  # outputs of each group's own layer
    MAXOUT = 4

    def __init__(self, groups: Sequence[int], width: float) -> None:
        super().__init__()

        def scaled(size: int) -> int:
            return max(1, round(size * width))

        self.groups = list(groups)
        self.inputs = nn.ModuleList(nn.Linear(size, self.GROUP) for size in groups)
        sizes = [self.GROUP * len(self.groups), *(scaled(size) for size in (2048, 2048, 4096, 4096))]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.features = scaled(2048)
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], self.features * self.MAXOUT))
        self.blocks = [layer for layer in self.layers if isinstance(layer, nn.Linear)]  # those that hidden features can be mixed before

    def forward(self, x: Tensor) -> Tensor:
        """(N, columns) -> (N, features)."""
        embedded = [layer(columns) for layer, columns in zip(self.inputs, x.split(self.groups, dim=1), strict=True)]
        return self.layers(torch.cat(embedded, dim=1)).unflatten(1, (self.MAXOUT, -1)).amax(1)


def make_encoder(settings: ResNetEncoder | MLPEncoder, shape: Sequence[int], column_groups: Sequence[int]) -> ResNet | TabularMLP:
    """Make the encoder for inputs of ``shape`` (without the batch): (C, H, W), or (columns,) in ``column_groups``."""
    if isinstance(settings, MLPEncoder):
        return TabularMLP(column_groups, settings.width)
    return ResNet(settings.depth, settings.width, shape[0], settings.stem_stride)
