"""Residual networks with the CIFAR stem.

torchvision's blocks behind a 3x3 convolution, without max-pool.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from imix.schema import Strict, Within

BLOCKS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average: (N, C, H, W) -> (N, features).

    Kaiming init. Width 64 and depth 18 or more are the standard networks; features = 8 x width, x 4
    with bottlenecks.

    Args:
        depth: a key of ``BLOCKS``. width: channels of the first stage. channels: of the input.
        stem_stride: 1, or 2 to halve the image first.

    Attributes:
        features: width of the output.
        blocks: the residual blocks, before which hidden features may be mixed.
    """

    class Settings(Strict):
        """Settings of a residual network."""

        depth: Literal[10, 18, 34, 50, 101, 152]
        width: Annotated[int, Within(1, 4096)]  # channels of the first stage; 64 is the standard
        stem_stride: Literal[1, 2]

    def __init__(self, depth: int, width: int, channels: int, stem_stride: int) -> None:
        super().__init__()
        block, counts = BLOCKS[depth]
        layers: list[nn.Module] = [_convolution(channels, width, 3, stem_stride), nn.ReLU(inplace=True)]
        inputs = width
        for stage, count in enumerate(counts):
            planes = width * 2**stage
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                same = stride == 1 and inputs == planes * block.expansion
                shortcut = None if same else _convolution(inputs, planes * block.expansion, 1, stride)
                layers.append(block(inputs, planes, stride, shortcut))
                inputs = planes * block.expansion
        self.layers = nn.Sequential(*layers)
        self.features = inputs
        self.blocks: list[nn.Module] = [layer for layer in layers if isinstance(layer, block)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # with AVX2, oneDNN's backward pass of a channels-last shortcut from 2 to 7 channels writes
        # past its buffer
        self.layout = torch.channels_last if width >= 8 else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]

    @classmethod
    def make(cls, settings: Settings, shape: Sequence[int], column_groups: Sequence[int] = ()) -> "ResNet":
        """Make the network for inputs of ``shape`` (C, H, W); ``column_groups`` are ignored."""
        return cls(settings.depth, settings.width, shape[0], settings.stem_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, features)."""
        return self.layers(x.contiguous(memory_format=self.layout)).mean((2, 3))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    """Return a padded convolution with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )
