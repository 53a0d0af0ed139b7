"""The tabular network: column groups, four wide layers, maxout."""

import itertools
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from imix.schema import Strict, Within


class TabularMLP(nn.Module):
    """Column groups, four BN-ReLU layers, maxout over 4: (N, columns) -> (N, features).

    Each group of columns has its own Linear. Sizes: 64 per group; 2048-2048-4096-4096 and 8192
    maxed to 2048, x ``width``.

    Args:
        column_groups: the number of columns in each group, in order.
        width: multiplies the five wide layers; 1 is the paper's.

    Attributes:
        features: width of the output.
        blocks: the linear layers behind the groups' own, before which hidden features may be mixed.

    Raises:
        ValueError: no column groups.
    """

    GROUP = 64  # outputs of each group's own layer
    MAXOUT = 4

    class Settings(Strict):
        """Settings of the tabular network."""

        # multiplies the five wide layers; 1 is the paper's
        width: Annotated[float, Within(0.0001, 64.0)]

    def __init__(self, column_groups: Sequence[int], width: float) -> None:
        super().__init__()
        if not column_groups:
            raise ValueError("no column groups; the tabular network needs the number of columns in each group")

        def scaled(size: int) -> int:
            return max(1, round(size * width))

        self.column_groups = list(column_groups)
        self.inputs = nn.ModuleList(nn.Linear(columns, self.GROUP) for columns in column_groups)
        sizes = [self.GROUP * len(self.column_groups), *(scaled(size) for size in (2048, 2048, 4096, 4096))]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.features = scaled(2048)
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], self.features * self.MAXOUT))
        self.blocks: list[nn.Module] = [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @classmethod
    def make(cls, settings: Settings, shape: Sequence[int], column_groups: Sequence[int]) -> "TabularMLP":
        """Make the network for rows of ``shape`` (columns,) in ``column_groups``.

        Raises:
            ValueError: groups that do not add up to the columns.
        """
        if sum(column_groups) != shape[0]:
            raise ValueError(f"column groups {tuple(column_groups)} must add up to the {shape[0]} columns of the rows")
        return cls(column_groups, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, columns) -> (N, features)."""
        blocks = x.split(self.column_groups, dim=1)
        embedded = [layer(columns) for layer, columns in zip(self.inputs, blocks, strict=True)]
        return self.layers(torch.cat(embedded, dim=1)).unflatten(1, (self.MAXOUT, -1)).amax(1)
