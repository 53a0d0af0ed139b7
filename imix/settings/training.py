"""What a training and what an encoder depend on: encoders, views, and each method's own settings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imix.schema import Below, Epochs, Fraction, Momentum, Rate, Strict, Within, rising

Contrastive = Literal["npair", "moco", "byol"]
Method = Literal[Contrastive, "supervised"]
Mix = Literal["none", "imix", "icutmix"]
Head = Literal["linear", "mlp", "mlpbn", "mlpbn1"]
Positive = Annotated[float, Within(0.001, 1000.0)]
Alpha = Annotated[float, Within(0.01, 1000.0)]  # below, both of Gamma's draws leave what a float64 can hold


class ResNetEncoder(Strict):
    """A residual network with the CIFAR stem (3x3, no max-pool)."""

    kind: Literal["resnet"]
    depth: Literal[10, 18, 34, 50, 101, 152]
    width: Annotated[int, Within(1, 4096)]  # channels of the first stage; 64 is the standard
    stem_stride: Literal[1, 2]


class MLPEncoder(Strict):
    """The tabular network: column groups, four wide layers, maxout."""

    kind: Literal["mlp"]
    width: Annotated[float, Within(0.0001, 64.0)]  # multiplies the five wide layers; 1 is the paper's


class ImageViews(Strict):
    """Crop-resize, colour jitter, grey, flip; images only. The probe's own augmentation is in `probe`."""

    kind: Literal["image"]
    scale: Annotated[list[Annotated[float, Within(0.001, 1.0)]], Field(min_length=2, max_length=2)]  # of the crop's area
    jitter: Annotated[list[Fraction], Field(min_length=4, max_length=4)]  # brightness, contrast, saturation, hue
    jitter_probability: Fraction
    grey_probability: Fraction
    flip_probability: Fraction

    @model_validator(mode="after")
    def _possible(self) -> "ImageViews":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {self.scale} must not fall: the smallest share of the area first, the largest second")
        if self.jitter[3] > 0.5:
            raise ValueError(f"jitter {self.jitter} must be at most [1, 1, 1, 0.5]")
        return self


class SpeechViews(Strict):
    """The six transforms on waveform and STFT, each applied with ``probability``."""

    kind: Literal["speech"]
    probability: Fraction
    amplitude: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    speed: Below
    stretch: Below
    shift: Annotated[int, Within(0, 31)]  # frames
    noise: Fraction  # the largest share of background

    @model_validator(mode="after")
    def _possible(self) -> "SpeechViews":
        if self.amplitude[0] > self.amplitude[1]:
            raise ValueError(f"amplitude {self.amplitude} must not fall: the smallest factor first, the largest second")
        return self


class TabularViews(Strict):
    """Masking of the numbers, one probability per view."""

    kind: Literal["tabular"]
    masking: Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Domain(Strict):
    """How a data set's rows are seen: all that an untrained encoder needs."""

    encoder: Annotated[ResNetEncoder | MLPEncoder, Field(discriminator="kind")]
    views: Annotated[ImageViews | SpeechViews | TabularViews, Field(discriminator="kind")]


class Pretraining(Domain):
    """Everything one training depends on, after merging."""

    mix: Mix
    epochs: Epochs
    batch_size: Annotated[int, Within(2, 1_000_000)]
    # blocks of the batch that stand for processors: partners, BatchNorm and contrast set stay inside one
    groups: Annotated[int, Within(1, 1_000)]
    learning_rate: Rate  # per 256 items of batch
    momentum: Momentum
    weight_decay: Fraction
    warmup_epochs: Annotated[int, Within(0, 1_000_000)]
    schedule: Literal["cosine", "step"]
    milestones: list[Epochs]  # epochs at which the step schedule multiplies the rate by 0.1; [] for cosine
    embedding: Annotated[int, Within(1, 65_536)]
    projection: Head
    precision: Literal["float32", "bfloat16"]
    inputmix: Annotated[int, Within(0, 100)]  # further inputs mixed into each, labels unchanged; 0 = off
    knn_every: Epochs  # epochs between two kNN figures on the validation rows
    fraction: Annotated[float, Within(0.0001, 1.0)]  # of the training rows, classes in proportion, that are trained on
    augment: bool  # false: both views are the clean rows
    shared_lam: bool  # true: one lam per batch; false, as published: one per item
    mix_inputs: Literal["first", "both", "neither"]  # which views are mixed; the paper mixes the first, the others are controls
    mix_depth: Literal["input", "hidden"]  # hidden: before a block of the encoder, drawn anew for every batch
    mix_labels: bool  # false: inputs mixed, labels not; a control
    symmetric: bool  # the loss averaged over both directions, each view the anchor once
    alpha: Alpha | None = None  # of Beta(alpha, alpha); cells that mix have one, plain cells none

    @model_validator(mode="after")
    def _consistent(self) -> "Pretraining":
        if self.batch_size % self.groups or self.batch_size // self.groups < 2:
            raise ValueError(f"groups {self.groups} must divide batch_size {self.batch_size} into blocks of two or more")
        if self.mix_inputs == "neither" and not self.mix_labels:
            raise ValueError("mix_inputs is 'neither' and mix_labels false: that is mix 'none'")
        if self.mix_inputs == "both" and self.mix == "icutmix":
            raise ValueError("mix_inputs must not be 'both' with CutMix: its box is drawn for one view")
        if self.mix_depth == "hidden" and (self.mix_inputs != "first" or not self.mix_labels or self.mix == "icutmix"):
            raise ValueError("mix_depth 'hidden' goes with mix_inputs 'first' and mix_labels true, and not with CutMix")
        rising("milestones", self.milestones, self.epochs)
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(f"milestones {self.milestones} go with schedule 'step', and only with it")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self


class NPairPretraining(Pretraining):
    """N-pair's own settings."""

    temperature: Positive


class MoCoPretraining(Pretraining):
    """MoCo v2's own settings."""

    temperature: Positive
    ema: Annotated[float, Within(0.0, 0.999999)]
    queue: Annotated[int, Within(2, 10_000_000)]
    contrast: Literal["own", "batch"]  # own: 1 + K logits; batch: N + K

    @model_validator(mode="after")
    def _one_direction(self) -> "MoCoPretraining":
        if self.symmetric:
            raise ValueError("symmetric must be false: the second direction would meet the first one's keys in the queue, as negatives")
        return self


class BYOLPretraining(Pretraining):
    """BYOL's own settings."""

    ema: Annotated[float, Within(0.0, 0.999999)]
    predictor: Head


class SupervisedPretraining(Pretraining):
    """Training with labels, for comparison; its linear classifier takes the place of the projection."""

    @model_validator(mode="after")
    def _one_view(self) -> "SupervisedPretraining":
        if self.symmetric or self.mix_inputs == "both":
            raise ValueError("symmetric must be false and mix_inputs not 'both': training with labels has one view")
        return self


PRETRAINING: dict[str, type[Pretraining]] = {
    "npair": NPairPretraining,
    "moco": MoCoPretraining,
    "byol": BYOLPretraining,
    "supervised": SupervisedPretraining,
}
