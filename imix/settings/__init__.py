"""The settings of a study: the schema of params.yaml, how its layers merge, and the files that hand each stage its own.

Unknown keys, wrong types and impossible values are refused with file, key, value and what is allowed. A
training's settings are merged from four layers, later ones winning:

    pretrain  <-  method.<method>  <-  recipe.<dataset>  <-  cell.<dataset>.<method>.<mix>

Only `load` reads params.yaml. `write` resolves the grid into small files (`read`): a stage depends on one that says what it
uses, so that it runs again when, and only when, that has changed; or, of a stage that trains or judges, its code.

Imports point one way: fields <- rows, training <- study <- merging <- handed <- loading;  code <- handed;  text <- loading.
"""

from imix.settings.code import CODE, fingerprint
from imix.schema import NAME, Seed, Strict, entry
from imix.settings.handed import ABLATIONS, FOLDER, read, resolved, write
from imix.settings.loading import check, load
from imix.settings.merging import data, domain, evaluation, resolve, variants
from imix.settings.rows import (
    ROWS,
    CommandRows,
    DrawnRows,
    PlacedRows,
    Source,
    SplitRows,
    SpokenRows,
    SpokenSource,
    StandardisedRows,
    VerifiedSource,
    at_most,
    splits,
)
from imix.settings.study import SUPERVISED, Ablations, Evaluation, Grid, Params, Probe, Projection, Transfer, Variant, Variants
from imix.settings.training import (
    PRETRAINING,
    Domain,
    ImageViews,
    Method,
    Mix,
    MLPEncoder,
    Pretraining,
    ResNetEncoder,
    SpeechViews,
    TabularViews,
)

__all__ = [
    "ABLATIONS", "CODE", "FOLDER", "NAME", "PRETRAINING", "ROWS", "SUPERVISED", "Ablations", "CommandRows", "Domain",
    "DrawnRows", "Evaluation", "Grid", "ImageViews", "MLPEncoder", "Method", "Mix", "Params", "PlacedRows", "Pretraining",
    "Probe", "Projection", "ResNetEncoder", "Seed", "Source", "SpeechViews", "SplitRows", "SpokenRows", "SpokenSource",
    "StandardisedRows", "Strict", "TabularViews", "Transfer", "Variant", "Variants", "VerifiedSource", "at_most", "check",
    "data", "domain", "entry", "evaluation", "fingerprint", "load", "read", "resolve", "resolved", "splits", "variants",
    "write",
]  # fmt: skip
