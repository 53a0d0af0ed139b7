"""What is asked: the grid, the probe, transfers, projections and ablations; and the whole of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imix.schema import Count, Epochs, Line, Momentum, Name, Rate, Seed, Strict, Within, once, rising
from imix.settings.rows import Archive, Checksum, Data
from imix.settings.training import PRETRAINING, Contrastive, Domain, Method, Mix, Pretraining

SUPERVISED = ("supervised", "none")  # method and mix of the cell that every data set gets: what contrast is judged against


class Grid(Strict):
    """What runs: every data set with every method, mix and seed; ``name`` is its folder in reports/.

    Beside them stand the baselines: raw inputs, an untrained encoder, and one trained with labels (`SUPERVISED`).
    """

    name: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    methods: Annotated[list[Contrastive], Field(min_length=1)]
    mixes: Annotated[list[Mix], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_duplicates(self) -> "Grid":
        for axis, values in self:
            if isinstance(values, list):
                once(axis, values)
        if self.name in ("ablations", "projections"):
            raise ValueError(f"name {self.name!r}: reports/{self.name} holds other things; take another name")
        return self

    def cells(self) -> list[tuple[str, str]]:
        """Method and mix of every training that a data set gets."""
        return [*((method, mix) for method in self.methods for mix in self.mixes), SUPERVISED]


class Probe(Strict):
    """Linear evaluation and kNN on frozen features."""

    rates: Annotated[list[Rate], Field(min_length=1, max_length=100)]  # learning rates, each x batch_size / 256
    epochs: Epochs
    batch_size: Count
    momentum: Momentum
    milestones: list[Epochs]  # epochs at which the rate is multiplied by 0.2
    copies: Annotated[int, Within(0, 1_000)]  # augmented copies of the training rows (pad 4, crop, flip); 0 = the clean rows
    flip: bool  # whether those copies are flipped
    neighbours: Count  # k of the kNN
    seed: Seed  # plus the training's seed: initial weights and order of the rows

    @model_validator(mode="after")
    def _possible(self) -> "Probe":
        rising("milestones", self.milestones, self.epochs)
        once("rates", self.rates)
        return self


class Evaluation(Domain):
    """How all encoders of a data set are judged: the probe, and its recipe's views; ``encoder`` is the untrained baseline's."""

    probe: Probe


class Ablation(Strict):
    """One question, asked of any data set: the same trainings with something changed."""

    question: Line
    methods: Annotated[list[Method], Field(min_length=1)]
    mixes: Annotated[list[Mix], Field(min_length=1)]
    axis: Literal["parameters", "rows", "epochs", "alpha"] | None = None  # what the values differ in, if it is a number
    values: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]  # changes to a cell; "x0.5" multiplies the number, or numbers, there

    @model_validator(mode="after")
    def _no_duplicates(self) -> "Ablation":
        once("methods", self.methods)
        once("mixes", self.mixes)
        return self


class Ablations(Strict):
    """Which ablations run, on which data sets of the grid, with which seeds."""

    run: list[Name]
    datasets: list[Name]
    seeds: list[Seed]

    @model_validator(mode="after")
    def _possible(self) -> "Ablations":
        for axis, values in self:
            once(axis, values)
        if self.run and not (self.datasets and self.seeds):
            raise ValueError("run names ablations, but datasets or seeds are empty; let run be [] for none")
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

    rows: Annotated[int, Within(50, 1_000_000)]  # about so many test rows
    perplexity: Annotated[float, Within(1.0, 10_000.0)]
    seed: Seed

    @model_validator(mode="after")
    def _possible(self) -> "Projection":
        if 3 * self.perplexity > self.rows:
            raise ValueError(f"perplexity {self.perplexity} must be at most a third of rows {self.rows}")
        return self


class Variant(Strict):
    """One training of an ablation, resolved."""

    method: Method
    mix: Mix
    value: Name
    settings: dict[str, Any]

    def pretraining(self) -> Pretraining:
        """The settings, as their method's class."""
        return PRETRAINING[self.method].model_validate(self.settings)


class Variants(Strict):
    """All trainings of an ablation on one data set, and how they are judged."""

    question: str
    axis: str | None
    evaluation: Evaluation
    variants: list[Variant]


class Verification(Strict):
    """What an archive's bytes are held against."""

    checksum: Checksum


class Params(Strict):
    """The whole of params.yaml."""

    grid: Grid
    sources: dict[Archive, Verification]
    data: dict[Name, Data]
    pretrain: dict[str, Any]
    method: dict[Method, dict[str, Any]]
    recipe: dict[Name, dict[str, Any]]
    cell: dict[Name, dict[Method, dict[Mix, dict[str, Any]]]]
    probe: dict[Name, Probe]
    transfer: Transfer
    projection: Projection
    ablations: Ablations
    ablation: dict[Name, Ablation]
