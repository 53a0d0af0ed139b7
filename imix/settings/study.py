"""The schema of params.yaml: its blocks grid, transfer, projection and ablation, and the whole."""

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imix.methods.base import Augmentation, Mix
from imix.paths import Cell
from imix.schema import Line, Name, Seed, Strict, Within, once

SUPERVISED = "supervised"  # not one of grid.methods: grid.supervised lists its mixes


class Grid(Strict):
    """What runs: every data set, augmented and clean, with every method, mix and seed.

    ``name`` is the study's folder in reports/. Beside the grid, every data set has its baselines:
    raw inputs, an untrained encoder, and training with labels, with the mixes of ``supervised``.
    """

    name: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    augmentation: Annotated[list[Augmentation], Field(min_length=1)]
    methods: Annotated[list[Name], Field(min_length=1)]
    mixes: Annotated[list[Mix], Field(min_length=1)]
    supervised: list[Mix]
    seeds: Annotated[list[Seed], Field(min_length=1)]

    @model_validator(mode="after")
    def _possible(self) -> "Grid":
        for key, values in self:
            if isinstance(values, list):
                once(key, values)
        if SUPERVISED in self.methods:
            raise ValueError("methods must not name supervised: supervised lists its mixes")
        return self

    def cells(self) -> list[Cell]:
        """Return the cells of contrastive training."""
        return [Cell(*one) for one in product(self.datasets, self.augmentation, self.methods, self.mixes)]

    def supervised_cells(self) -> list[Cell]:
        """Return the cells of training with labels."""
        return [Cell(*one) for one in product(self.datasets, self.augmentation, [SUPERVISED], self.supervised)]


class Ablation(Strict):
    """One question, asked of any data set: the same trainings with something changed."""

    question: Line
    # by default those of `ablations`
    datasets: Annotated[list[Name], Field(min_length=1)] | None = None
    augmentation: Annotated[list[Augmentation], Field(min_length=1)] | None = None
    methods: Annotated[list[Name], Field(min_length=1)] | None = None
    mixes: Annotated[list[Mix], Field(min_length=1)] = ["none", "imix"]
    axis: Literal["parameters", "rows", "epochs", "alpha"] | None = None  # the number that differs, if one does
    published: bool = False  # whether the paper's results are shown at the size of its encoder
    # changes to a cell by name; "x0.5" multiplies a number, or all numbers of a list
    values: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_duplicates(self) -> "Ablation":
        for key in ("datasets", "augmentation", "methods", "mixes"):
            once(key, getattr(self, key) or [])
        if self.published and self.axis != "parameters":
            raise ValueError(f"published goes with axis: parameters alone, not with {self.axis}")
        return self


class Ablations(Strict):
    """Which ablations run, with which seeds; and the keys that an ablation leaves out."""

    run: list[Name]
    datasets: list[Name]  # only those of the grid count
    augmentation: Annotated[list[Augmentation], Field(min_length=1)] = ["augmented"]
    methods: Annotated[list[Name], Field(min_length=1)] = ["npair", "moco", "byol"]
    seeds: Annotated[list[Seed], Field(min_length=1)] | None  # null: the grid's

    @model_validator(mode="after")
    def _no_duplicates(self) -> "Ablations":
        for key, values in self:
            once(key, values or [])
        return self


class Pair(Strict):
    """Two data sets of the grid and of one domain."""

    pretrained_on: Name
    probed_on: Name


class Transfer(Strict):
    """Encoders of the grid that are also probed on other data sets of it."""

    pairs: list[Pair]


class Projection(Strict):
    """How test features are drawn in two dimensions (t-SNE), those of the grid's first seed."""

    rows: Annotated[int, Within(50, 1_000_000)]  # test rows at most
    perplexity: Annotated[float, Within(1.0, 10_000.0)]
    seed: Seed

    @model_validator(mode="after")
    def _possible(self) -> "Projection":
        if 3 * self.perplexity > self.rows:
            raise ValueError(f"perplexity {self.perplexity} must be at most a third of rows {self.rows}")
        return self


class Params(Strict):
    """The whole of params.yaml.

    `imix.settings.merging` says how ``defaults`` and ``recipe`` merge.
    """

    grid: Grid
    ablations: Ablations
    transfer: Transfer
    projection: Projection
    data: dict[Name, dict[str, Any]]
    defaults: dict[str, Any]
    recipe: dict[Name, dict[str, Any]]
    ablation: dict[Name, Ablation]

    def asked(self, name: str) -> Ablation:
        """Return an ablation with the keys that it leaves out filled in from ``ablations``."""
        ablation = self.ablation[name]
        missing = [key for key in ("datasets", "augmentation", "methods") if getattr(ablation, key) is None]
        return ablation.model_copy(update={key: getattr(self.ablations, key) for key in missing})
