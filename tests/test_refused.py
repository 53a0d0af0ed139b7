"""Broken params.yaml, environments and command lines: each refused before any work, in one clear line."""

import copy
import importlib
import math
import os
import signal
import subprocess
import sys

import pytest
import yaml

from imix import archives, runtime, store
from imix.errors import UserError, exit_cleanly
from tests.test_settings import STUDY

HUGE, GONE = 10**30, "<gone>"
KEPT = ("mnist", "diamonds", "spoken", "cifar10", "speech_commands", "covtype")


def small() -> dict:
    """A study without most of the data sets that its grid does not name: checked in half the time."""
    params = copy.deepcopy(STUDY)
    for block in ("data", "recipe"):
        params[block] = {name: value for name, value in params[block].items() if name in KEPT}
    return params


SMALL = small()
settings_stage = importlib.import_module("stages.settings")


def changed(keys: str, value: object) -> str:
    params = block = copy.deepcopy(SMALL)
    *path, last = keys.split("/")
    for key in path:
        block = block.setdefault(key, {})
    if value is GONE:
        del block[last]
    else:
        block[last] = value
    return yaml.safe_dump(params, sort_keys=False, width=10_000)


def refusal(main, capsys) -> str:
    """The one line that a stage ends with."""
    with pytest.raises(SystemExit) as end:
        exit_cleanly(main)
    assert isinstance(end.value.code, str), end.value.code  # Python prints it and exits with 1
    assert capsys.readouterr() == ("", "")  # refused before the line that says what will be done
    line = end.value.code
    assert len(line.splitlines()) == 1 and line.startswith("imix: error: "), line
    return line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["settings.py"])
    return tmp_path


PAIR = {"pretrained_on": "mnist", "probed_on": "spoken"}
ABLATION = STUDY["ablation"]["mixing"]
RATES = STUDY["recipe"]["mnist"]["probe"]["rates"]
WRONG = [
    # unknown keys, at every level
    ("gird", {}, "gird = {}: unknown key; did you mean 'grid'"),
    ("grid/sedes", [0], "grid.sedes = [0]: unknown key; did you mean 'seeds'"),
    ("data/mnist/row", {}, "data.mnist.row: unknown key; allowed: source, rows, like"),
    ("data/mnist/source/sed", 0, "data.mnist.source.sed = 0: unknown key; allowed: name"),
    ("data/cifar10/source/sed", 0, "data.cifar10.source.sed = 0: unknown key; allowed: name, checksum"),
    ("data/cifar10/source/cheksum", None, "data.cifar10.source.cheksum = None: unknown key; did you mean 'checksum'"),
    ("data/mnist/source/checksum", None, "data.mnist.source.checksum = None: unknown key; allowed: name"),
    ("data/mnist/rows/canvass", 32, "data.mnist.rows.canvass = 32: unknown key; did you mean 'canvas'"),
    (
        "data/diamonds/rows/canvas",
        32,
        "data.diamonds.rows.canvas = 32: unknown key; allowed: train, validation, test, seed",
    ),
    ("defaults/learning_rat", 0.1, "defaults.learning_rat = 0.1: unknown key; did you mean 'learning_rate'"),
    ("defaults/mix", "imix", "defaults.mix = 'imix': unknown key"),
    ("defaults/augmentation", "clean", "defaults.augmentation = 'clean': unknown key"),
    ("defaults/like", "mnist", "defaults.like: unknown key; a recipe may be like another"),
    ("defaults/encoder", {"depth": 18}, "defaults.encoder = {'depth': 18}: unknown key"),
    ("defaults/npair/queue", 100, "defaults.npair.queue = 100: unknown key"),
    ("defaults/moko", {}, "defaults.moko = {}: unknown key"),
    ("defaults/probe/rate", [1], "defaults.probe.rate = [1]: unknown key; did you mean 'rates'"),
    ("recipe/mnist/batchsize", 50, "recipe.mnist.batchsize = 50: unknown key; did you mean 'batch_size'"),
    ("recipe/mnist/augmentd", {}, "recipe.mnist.augmentd = {}: unknown key"),
    ("recipe/mnist/encoder/dept", 10, "recipe.mnist.encoder.dept = 10: unknown key; did you mean 'depth'"),
    ("recipe/mnist/encoder/kind", "resnet", "recipe.mnist.encoder.kind = 'resnet': unknown key; allowed: depth, width"),
    ("recipe/diamonds/views/mask", [0, 0], "recipe.diamonds.views.mask = [0, 0]: unknown key; did you mean 'masking'"),
    ("recipe/mnits", {}, "recipe.mnits: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("recipe/mnist/imix/alhpa", 1.0, "recipe.mnist.imix.alhpa = 1.0: unknown key; did you mean 'alpha'"),
    ("recipe/mnist/npair/imix/alhpa", 1.0, "recipe.mnist.npair.imix.alhpa = 1.0: unknown key; did you mean 'alpha'"),
    (
        "recipe/mnist/clean/moco/none/quee",
        9,
        "recipe.mnist.clean.moco.none.quee = 9: unknown key; did you mean 'queue'",
    ),
    ("recipe/mnist/npair/imx", {}, "recipe.mnist.npair.imx = {}: unknown key"),
    ("recipe/mnist/probe/rate", [1], "recipe.mnist.probe.rate = [1]: unknown key; did you mean 'rates'"),
    ("recipe/mnist/moco/probe", {}, "recipe.mnist.moco.probe: must be one for all cells; move it out of moco"),
    (
        "recipe/mnist/clean/moco/like",
        "spoken",
        "recipe.mnist.clean.moco.like: must be one for all cells; move it out of clean.moco",
    ),
    ("transfer/pair", [], "transfer.pair = []: unknown key; did you mean 'pairs'"),
    (
        "transfer/pairs",
        [{**PAIR, "seed": 0}],
        "transfer.pairs.0.seed = 0: unknown key; allowed: pretrained_on, probed_on",
    ),
    ("projection/row", 5, "projection.row = 5: unknown key; did you mean 'rows'"),
    ("ablations/runs", [], "ablations.runs = []: unknown key; did you mean 'run'"),
    ("ablation/mixing/value", {}, "ablation.mixing.value = {}: unknown key; did you mean 'values'"),
    # ablations, whether they run or not
    (
        "ablation/mixing/values/half/alhpa",
        1.0,
        "ablation.mixing.values.half.alhpa = 1.0: unknown key; did you mean 'alpha'",
    ),
    (
        "ablation/mixing/values/half/alhpa",
        "x2",
        "ablation.mixing.values.half.alhpa = 'x2': unknown key; did you mean 'alpha'",
    ),
    (
        "ablation/mixing/values/half/queue",
        9,
        "ablation.mixing.values.half.queue = 9: unknown key",
    ),  # no method of it has one
    ("ablation/mixing/values/half/mix", "none", "ablation.mixing.values.half.mix = 'none': unknown key"),
    ("ablation/mixing/values/half/moco", {}, "ablation.mixing.values.half.moco = {}: unknown key"),
    ("ablation/mixing/values/half/probe", {}, "ablation.mixing.values.half.probe = {}: unknown key"),
    (
        "ablation/masking/values/masked/views/maskng",
        [0, 0],
        "values.masked.views.maskng = [0, 0]: unknown key; did you mean 'masking'",
    ),
    (
        "ablation/masking/values/masked/views/masking",
        [0, 2],
        "values.masked.views.masking.1 = 2: must be a number from 0 to 1",
    ),
    (
        "ablation/model_depth/values/resnet18/encoder",
        {"depth": 19},
        "resnet18.encoder.depth = 19: must be 10, 18, 34, 50, 101 or 152",
    ),
    (
        "ablation/model_size/values/half",
        {"encoder": {"widht": 3}},
        "values.half.encoder.widht = 3: unknown key; did you mean 'width'",
    ),
    (
        "ablation/model_size/values/half",
        {"encoder": 5},
        "ablation.model_size.values.half.encoder = 5: must be a block of keys",
    ),
    ("ablation/model_size/values/half", 5, "ablation.model_size.values.half = 5: must be a block of keys"),
    ("ablation/model_size/values/half", {"groups": "x0.5"}, "values.half.groups = 'x0.5': leaves 1 as it is"),
    ("ablation/model_size/values/half", {"epochs": "x0"}, "values.half.epochs = 'x0': must multiply by more than 0"),
    (
        "ablation/model_size/values/half",
        {"schedule": "x2"},
        "values.half.schedule = 'x2': there is no number to multiply",
    ),
    (
        "ablation/model_size/values/half",
        {"symmetric": "x2"},
        "values.half.symmetric = 'x2': there is no number to multiply",
    ),
    (
        "ablation/model_size/values/half",
        {"encoder": "x2"},
        "values.half.encoder = 'x2': there is no number to multiply",
    ),
    (
        "ablation/model_size/values/half",
        {"epochs": 1},
        "warmup_epochs 1 must be below epochs 1 (in recipe.mnist.augmented.npair.none)",
    ),
    ("ablation/model_size/values/half", {"epochs": 1}, " (with ablation.model_size.values.half)"),
    (
        "ablation/model_size/values/half",
        {"encoder": {"width": "x0.005"}},
        "ablation.model_size.values.half.encoder = {'width': 0.0003125}: makes 1",
    ),
    (
        "ablation/model_size/values/half",
        {"augmentation": "none"},
        "values.half.augmentation = 'none': must be augmented or clean",
    ),
    (
        "ablation/model_size/mixes",
        ["icutmix"],
        "ablation.model_size.mixes = ['icutmix']: CutMix cuts images; diamonds has tabular rows",
    ),
    (
        "ablation/model_size/methods",
        ["npairs"],
        "ablation.model_size.methods: no entry 'npairs' (did you mean 'npair'?)",
    ),
    (
        "ablation/model_size/datasets",
        ["mnits"],
        "ablation.model_size.datasets: data: no entry 'mnits' (did you mean 'mnist'?)",
    ),
    ("ablation/model_size/datasets", [], "ablation.model_size.datasets = []: must have at least 1 entry"),
    ("ablation/model_size/datasets", ["mnist", "mnist"], "datasets ['mnist', 'mnist'] repeats a value; give each once"),
    (
        "ablation/controls/values/inputs_only",
        {"mix_labels": False, "mix_inputs": "neither"},
        "mix_inputs is 'neither' and mix_labels false",
    ),
    (
        "ablation/data_size/values/half",
        {"fraction": 0},
        "ablation.data_size.values.half.fraction = 0: must be a number from 0.0001 to 1",
    ),
    (
        "ablation/data_size/axis",
        "columns",
        "ablation.data_size.axis = 'columns': must be 'parameters', 'rows', 'epochs' or 'alpha'",
    ),
    ("ablation/contrast/values/own", {"symmetric": True}, "symmetric must be false"),
    ("ablation/mixing/question", 5, "ablation.mixing.question = 5: must be one line"),
    ("ablation/mixing/question", "a\nb", "ablation.mixing.question = 'a\\nb': must be one line"),
    ("ablation/mixing/values", [], "ablation.mixing.values = []: must be a block of keys"),
    ("ablation/mixing/values", {}, "ablation.mixing.values = {}: must have at least 1 entry"),
    ("ablation/mixing/methods", ["npair", "npair"], "methods ['npair', 'npair'] repeats a value"),
    # what contradicts itself
    ("recipe/mnist/moco/npair", {}, "recipe.mnist.moco.npair: moco is chosen already; move these keys out of it"),
    ("recipe/mnist/moco/imix/byol", {}, "recipe.mnist.moco.imix.byol: moco is chosen already"),
    ("recipe/mnist/clean/augmented", {}, "recipe.mnist.clean.augmented: clean is chosen already"),
    ("recipe/mnist/imix/imix", {}, "recipe.mnist.imix.imix: imix is chosen already"),
    ("recipe/mnist/none/alpha", 1.0, "recipe.mnist.none.alpha = 1.0: unknown key"),
    ("recipe/mnist/npair/none/alpha", 1.0, "recipe.mnist.npair.none.alpha = 1.0: unknown key"),
    # missing keys
    ("grid", GONE, "grid: is missing"),
    ("grid/seeds", GONE, "grid.seeds: is missing"),
    ("grid/augmentation", GONE, "grid.augmentation: is missing"),
    ("grid/supervised", GONE, "grid.supervised: is missing"),
    ("defaults/momentum", GONE, "momentum: is missing"),
    ("defaults/probe/epochs", GONE, "defaults.probe.epochs: is missing"),
    ("defaults/alpha", GONE, "alpha is missing; must be a number from 0.01 to 1000"),
    ("recipe/mnist/encoder", GONE, "encoder: is missing"),
    ("recipe/mnist/encoder/depth", GONE, "recipe.mnist.encoder.depth: is missing"),
    ("recipe/mnist/views/scale", GONE, "recipe.mnist.views.scale: is missing"),
    ("recipe/mnist/epochs", GONE, "epochs: is missing"),
    ("data/mnist/rows", GONE, "data.mnist.rows: is missing; must be a block of keys"),
    ("data/mnist/source", GONE, "data.mnist.source: is missing; must be a block of keys"),
    ("data/mnist/source/name", GONE, "data.mnist.source.name: is missing; must be one of audio, cifar10, cifar100"),
    ("data/mnist/rows/seed", GONE, "data.mnist.rows.seed: is missing"),
    # wrong types
    ("grid", [], "grid = []: must be a block of keys"),
    ("grid/datasets", "mnist", "grid.datasets = 'mnist': must be a list"),
    ("grid/datasets", {}, "grid.datasets = {}: must be a list"),
    ("grid/seeds", 0, "grid.seeds = 0: must be a list"),
    ("grid/seeds", [0.5], "grid.seeds.0 = 0.5: must be a whole number from 0 to 2,147,483,647"),
    ("grid/seeds", ["0"], "grid.seeds.0 = '0': must be a whole number"),
    ("grid/seeds", [True], "grid.seeds.0 = True: must be a whole number"),
    ("grid/name", 5, "grid.name = 5: must be a name"),
    ("grid/supervised", "none", "grid.supervised = 'none': must be a list"),
    ("data/mnist", None, "data.mnist = None: must be a block of keys"),
    ("data/mnist/rows", 5, "data.mnist.rows: is missing; must be a block of keys"),
    ("data/mnist/source/name", 5, "data.mnist.source.name: no entry 5"),
    ("data/mnist/source/name", [], "data.mnist.source.name: no entry []"),
    ("data/mnist/like", 5, "data.mnist.like: no entry 5"),
    ("recipe/mnist/like", ["spoken"], "recipe.mnist.like: no entry ['spoken']"),
    ("recipe/mnist", 5, "recipe.mnist = 5: must be a block of keys"),
    ("defaults", 5, "defaults = 5: must be a block of keys"),
    ("defaults/npair", 5, "defaults.npair = 5: must be a block of keys"),
    ("defaults/none", [], "defaults.none = []: must be a block of keys"),
    ("defaults/probe", 5, "defaults.probe = 5: must be a block of keys"),
    ("defaults/symmetric", 1, "defaults.symmetric = 1: must be true or false"),
    ("defaults/symmetric", "true", "defaults.symmetric = 'true': must be true or false"),
    ("defaults/momentum", "0.9", "defaults.momentum = '0.9': must be a number from 0 to 0.99999"),
    ("defaults/milestones", 300, "defaults.milestones = 300: must be a list"),
    ("defaults/epochs", None, "defaults.epochs = None: must be a whole number from 1"),
    ("recipe/mnist/encoder", "resnet", "recipe.mnist.encoder = 'resnet': must be a block of keys"),
    ("recipe/mnist/encoder", None, "recipe.mnist.encoder = None: must be a block of keys"),
    ("recipe/mnist/views/scale", 0.5, "recipe.mnist.views.scale = 0.5: must be a list"),
    (
        "recipe/mnist/npair/none/epochs",
        6.0,
        "recipe.mnist.npair.none.epochs = 6.0: must be a whole number from 1 to 1,000,000",
    ),
    ("recipe/mnist/npair/none/epochs", "x2", "recipe.mnist.npair.none.epochs = 'x2': must be a whole number"),
    ("recipe/mnist/npair", [], "recipe.mnist.npair = []: must be a block of keys"),
    # numbers out of range
    ("recipe/mnist/epochs", -1, "recipe.mnist.epochs = -1: must be a whole number from 1"),
    ("recipe/mnist/epochs", 0, "recipe.mnist.epochs = 0: must be a whole number from 1"),
    (
        "recipe/mnist/epochs",
        HUGE,
        "epochs = 1000000000000000000000000000000: must be a whole number from 1 to 1,000,000",
    ),
    (
        "recipe/mnist/npair/imix/temperature",
        0,
        "recipe.mnist.npair.imix.temperature = 0: must be a number from 0.001 to 1000",
    ),
    ("recipe/mnist/npair/imix/temperature", 1e-320, "temperature = 1e-320: must be a number from 0.001"),
    ("recipe/mnist/npair/imix/temperature", -0.2, "temperature = -0.2: must be a number from 0.001"),
    ("recipe/mnist/npair/imix/alpha", 0, "alpha = 0: must be a number from 0.01 to 1000"),
    ("recipe/mnist/npair/imix/alpha", math.nan, "alpha = nan: must be a number from 0.01 to 1000"),
    ("recipe/mnist/npair/imix/alpha", math.inf, "alpha = inf: must be a number from 0.01 to 1000"),
    ("recipe/mnist/npair/imix/alpha", -1, "alpha = -1: must be a number from 0.01 to 1000"),
    ("defaults/learning_rate", 1e308, "defaults.learning_rate = 1e+308: must be a number from 1e-09 to 10000"),
    (
        "defaults/learning_rate",
        HUGE,
        "defaults.learning_rate = 1000000000000000000000000000000: must be a number from 1e-09",
    ),
    ("defaults/learning_rate", 10**400, "must be a number from 1e-09 to 10000"),
    ("defaults/learning_rate", 0, "defaults.learning_rate = 0: must be a number from 1e-09"),
    ("defaults/momentum", 1, "defaults.momentum = 1: must be a number from 0 to 0.99999"),
    ("defaults/weight_decay", -0.1, "defaults.weight_decay = -0.1: must be a number from 0 to 1"),
    ("defaults/warmup_epochs", -1, "defaults.warmup_epochs = -1: must be a whole number from 0"),
    (
        "defaults/embedding",
        HUGE,
        "defaults.embedding = 1000000000000000000000000000000: must be a whole number from 1 to 65,536",
    ),
    ("defaults/inputmix", -1, "defaults.inputmix = -1: must be a whole number from 0 to 100"),
    ("defaults/fraction", 0, "defaults.fraction = 0: must be a number from 0.0001 to 1"),
    ("defaults/fraction", 1.5, "defaults.fraction = 1.5: must be a number from 0.0001 to 1"),
    ("defaults/knn_every", 0, "defaults.knn_every = 0: must be a whole number from 1"),
    ("recipe/mnist/moco/none/ema", 1, "recipe.mnist.moco.none.ema = 1: must be a number from 0 to 0.99999"),
    (
        "recipe/mnist/encoder/width",
        HUGE,
        "encoder.width = 1000000000000000000000000000000: must be a whole number from 1 to 4,096",
    ),
    (
        "recipe/diamonds/encoder/width",
        1e308,
        "recipe.diamonds.encoder.width = 1e+308: must be a number from 0.0001 to 64",
    ),
    ("recipe/diamonds/encoder/width", 0.0001, "recipe.diamonds.encoder = {'width': 0.0001}: makes 1 feature"),
    ("recipe/mnist/encoder/depth", 19, "recipe.mnist.encoder.depth = 19: must be 10, 18, 34, 50, 101 or 152"),
    ("recipe/mnist/encoder/stem_stride", 3, "recipe.mnist.encoder.stem_stride = 3: must be 1 or 2"),
    ("recipe/mnist/views/scale", [0, 1], "recipe.mnist.views.scale.0 = 0: must be a number from 0.001 to 1"),
    ("recipe/mnist/views/scale", [0.9, 0.1], "recipe.mnist.views"),
    ("recipe/mnist/views/scale", [0.9, 0.1], "scale [0.9, 0.1] must not fall"),
    ("recipe/mnist/views/scale", [0.9], "recipe.mnist.views.scale = [0.9]: must have at least 2 entries"),
    (
        "recipe/mnist/views/scale",
        [0.1, 0.2, 0.3],
        "recipe.mnist.views.scale = [0.1, 0.2, 0.3]: must have at most 2 entries",
    ),
    ("recipe/mnist/views/jitter/contrast", 2, "jitter.contrast = 2: must be a number from 0 to 1"),
    ("recipe/mnist/views/jitter/hue", 0.6, "must be a number from 0 to 0.5"),
    ("recipe/mnist/views/flip_probability", 2, "recipe.mnist.views.flip_probability = 2: must be a number from 0 to 1"),
    ("recipe/spoken/views/amplitude", [2, 1], "amplitude [2.0, 1.0] must not fall"),
    ("recipe/spoken/views/speed", 1, "recipe.spoken.views.speed = 1: must be a number from 0 to 0.99"),
    (
        "recipe/diamonds/views/masking",
        [0.2, math.nan],
        "recipe.diamonds.views.masking.1 = nan: must be a number from 0 to 1",
    ),
    (
        "recipe/covtype/moco/imix/views/masking",
        [2, 0],
        "recipe.covtype.moco.imix.views.masking.0 = 2: must be a number",
    ),
    ("recipe/mnist/probe/rates", [0.1, 0], "recipe.mnist.probe.rates.1 = 0: must be a number from 1e-09 to 10000"),
    ("recipe/mnist/probe/rates", [0.1, 0.1], "rates [0.1, 0.1] repeats a value"),
    ("recipe/mnist/probe/rates", [], "recipe.mnist.probe.rates = []: must have at least 1 entry"),
    ("recipe/mnist/probe/milestones", [90, 80], "milestones [90, 80] must rise"),
    ("recipe/mnist/probe/milestones", [80, 100], "milestones [80, 100] must be below epochs 100"),
    ("defaults/probe/neighbours", 0, "defaults.probe.neighbours = 0: must be a whole number from 1"),
    ("projection/perplexity", 0, "projection.perplexity = 0: must be a number from 1 to 10000"),
    ("projection/perplexity", 400, "projection: perplexity 400.0 must be at most a third of rows 1000"),
    ("projection/rows", 10, "projection.rows = 10: must be a whole number from 50"),
    ("data/spoken/source/words", 9, "data.spoken.source.words = 9: must be a whole number from 10 to 1,000"),
    ("data/spoken/source/voices", {"train": 5, "test": 5}, "data.spoken.source.voices"),
    ("data/spoken/source/voices/dev", 3, "data.spoken.source.voices.dev"),
    ("data/spoken/rows/silence", 1, "data.spoken.rows.silence = 1: must be a number from 0 to 0.99"),
    ("data/mnist/rows/canvas", 2, "data.mnist.rows.canvas = 2: must be a whole number from"),
    ("data/mnist/rows/seed", -1, "data.mnist.rows.seed = -1: must be a whole number from 0"),
    # what does not fit together
    ("recipe/diamonds/batch_size", 1251, "recipe.diamonds"),
    (
        "recipe/diamonds/npair/batch_size",
        1251,
        "recipe.diamonds.npair.batch_size = 1251: must be at most the 1250 training rows of diamonds",
    ),
    (
        "recipe/diamonds/supervised/batch_size",
        1001,
        "recipe.diamonds.supervised.batch_size = 1001: must be at most the 1000 training rows",
    ),
    (
        "recipe/cifar10/npair/batch_size",
        50_002,
        "recipe.cifar10.npair.batch_size = 50002: must be at most the 50000 training rows of cifar10",
    ),
    (
        "recipe/speech_commands/npair/batch_size",
        60_000,
        "batch_size = 60000: must be at most the 56764 training rows of speech_commands",
    ),
    (
        "recipe/diamonds/npair/none/fraction",
        0.05,
        "recipe.diamonds.batch_size = 125: must be at most the 67 training rows of diamonds",
    ),
    ("recipe/diamonds/batch_size", 1, "recipe.diamonds.batch_size = 1: must be a whole number from 2"),
    (
        "recipe/diamonds/groups",
        125,
        "groups 125 must divide batch_size 125 into blocks of two or more",
    ),  # BatchNorm of one row
    ("recipe/diamonds/groups", 2, "groups 2 must divide batch_size 125 into blocks"),  # a last odd group
    ("recipe/mnist/moco/imix/queue", 49, "recipe.mnist.moco.imix: queue 49 must be at least batch_size 50"),
    ("recipe/mnist/moco/imix/queue", 0, "recipe.mnist.moco.imix.queue = 0: must be a whole number from 2"),
    (
        "recipe/mnist/moco/imix/queue",
        HUGE,
        "recipe.mnist.moco.imix.queue = 1000000000000000000000000000000: must be a whole number",
    ),
    ("recipe/mnist/npair/none/warmup_epochs", 6, "recipe.mnist.npair.none: warmup_epochs 6 must be below epochs 6"),
    ("recipe/speech_commands/npair/none/epochs", 400, "milestones [300, 400] must be below epochs 400"),
    (
        "recipe/speech_commands/milestones",
        [400, 300],
        "recipe.speech_commands: milestones [400, 300] must rise (in recipe.speech_commands.",
    ),
    ("recipe/speech_commands/schedule", "cosine", "milestones [300, 400] go with schedule 'step', and only with it"),
    ("defaults/schedule", "step", "milestones [] go with schedule 'step'"),
    ("recipe/mnist/views", SMALL["recipe"]["spoken"]["views"], "recipe.mnist.views.probability = 0.5: unknown key"),
    (
        "recipe/diamonds/encoder",
        SMALL["recipe"]["mnist"]["encoder"],
        "recipe.diamonds.encoder.depth = 10: unknown key; did you mean 'width'?; allowed: width",
    ),
    (
        "recipe/diamonds/probe/copies",
        3,
        "recipe.diamonds.probe.copies = 3: must be 0 for diamonds: only images are augmented",
    ),
    (
        "data/mnist/rows/train",
        2001,
        "data.mnist.rows.train + rows.test = 5001: must be at most the 5000 rows that there are",
    ),
    ("data/mnist/rows/test", 1, "data.mnist.rows.test = 1: must be at least 2; metrics need a spread"),
    ("data/cifar10/rows/test", 1, "data.cifar10.rows.test = 1: must be at least 2; metrics need a spread"),
    (
        "data/cifar10/rows/train",
        50_001,
        "data.cifar10.rows.train = 50001: must be at most the 50000 rows that there are",
    ),
    ("data/cifar10/rows/test", 10_001, "data.cifar10.rows.test = 10001: must be at most the 10000 rows that there are"),
    (
        "data/diamonds/rows/validation",
        0.0001,
        "data.diamonds.rows.validation = 0.0001: puts 0 of 1250 training rows aside",
    ),
    (
        "data/diamonds/rows/validation",
        0.999,
        "data.diamonds.rows.validation = 0.999: puts 1249 of 1250 training rows aside",
    ),
    ("data/mnist/rows/validation", 1.0, "data.mnist.rows.validation = 1.0: must be a number above 0 and below 1"),
    (
        "data/diamonds/rows/train",
        HUGE,
        "data.diamonds.rows.train = 1000000000000000000000000000000: must be a whole number",
    ),
    ("data/covtype/rows/standardise", "test", "data.covtype.rows.standardise = 'test': must be 'train' or 'all'"),
    ("recipe/mnist/moco/none/symmetric", True, "recipe.mnist.moco.none: symmetric must be false"),
    ("defaults/mix_inputs", "both", "mix_inputs"),
    # misspelt names
    ("grid/datasets", ["mnits"], "grid.datasets: data: no entry 'mnits' (did you mean 'mnist'?)"),
    (
        "grid/methods",
        ["mocco"],
        "grid.methods: no entry 'mocco' (did you mean 'moco'?); there are: byol, moco, npair, supervised",
    ),
    ("grid/methods", ["supervised"], "grid: methods must not name supervised: supervised lists its mixes"),
    ("grid/mixes", ["mixup"], "grid.mixes.0 = 'mixup': must be 'none', 'imix' or 'icutmix'"),
    (
        "grid/mixes",
        ["none", "icutmix"],
        "grid.mixes = ['none', 'icutmix']: CutMix cuts images; diamonds has tabular rows: must be none or imix",
    ),
    ("grid/supervised", ["icutmix"], "grid.supervised = ['icutmix']: CutMix cuts images; diamonds has tabular rows"),
    (
        "grid/augmentation",
        ["clear"],
        "grid.augmentation.0 = 'clear': must be 'augmented' or 'clean'; did you mean 'clean'",
    ),
    ("data/mnist/source/name", "minst", "data.mnist.source.name: no entry 'minst' (did you mean 'mnist'?)"),
    ("defaults/precision", "float16", "defaults.precision = 'float16': must be 'float32'"),
    (
        "defaults/moco/projection",
        "mlpb",
        "defaults.moco.projection = 'mlpb': must be 'linear', 'mlp', 'mlpbn' or 'mlpbn1'",
    ),
    ("ablations/run", ["contrasts"], "ablations.run: ablation: no entry 'contrasts' (did you mean 'contrast'?)"),
    ("ablations/datasets", ["mnits"], "ablations.datasets.0: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("transfer/pairs", [PAIR], "transfer.pairs.0: mnist to spoken: must have rows of one kind"),
    (
        "transfer/pairs",
        [{**PAIR, "probed_on": "mnits"}],
        "transfer.pairs.0: grid.datasets: no entry 'mnits' (did you mean 'mnist'?)",
    ),
    (
        "transfer/pairs",
        [{**PAIR, "probed_on": "mnist"}],
        "transfer.pairs.0: mnist to itself is no transfer; must be two data sets",
    ),
    # names that are paths, or of other things
    ("grid/name", "../x", "grid.name = '../x': must be a name"),
    ("grid/name", "a" * 61, "must be a name: at most 60"),
    ("grid/name", "", "grid.name = '': must be a name"),
    ("grid/datasets", ["../x"], "grid.datasets.0 = '../x': must be a name"),
    ("data/..\\x", SMALL["data"]["mnist"], "data...\\x: unknown key; must be a name"),
    ("data/metrics", SMALL["data"]["mnist"], "data.metrics: the name is used for other files; take another name"),
    ("data/asked", SMALL["data"]["mnist"], "data.asked: the name is used for other files; take another name"),
    ("ablation/..", ABLATION, "ablation...: unknown key; must be a name"),
    (
        "ablation/mixing/published",
        True,
        "ablation.mixing: published goes with axis: parameters alone, not with alpha",
    ),
    # repeated, or none
    ("grid/seeds", [0, 1, 0], "seeds [0, 1, 0] repeats a value; give each once"),
    ("grid/datasets", ["mnist", "mnist"], "datasets ['mnist', 'mnist'] repeats a value"),
    ("grid/methods", ["moco", "moco"], "methods ['moco', 'moco'] repeats a value"),
    ("grid/mixes", ["imix", "imix"], "mixes ['imix', 'imix'] repeats a value"),
    ("grid/supervised", ["imix", "imix"], "supervised ['imix', 'imix'] repeats a value"),
    ("grid/seeds", [], "grid.seeds = []: must have at least 1 entry"),
    ("grid/seeds", [-1], "grid.seeds.0 = -1: must be a whole number from 0 to 2,147,483,647"),
    ("grid/datasets", [], "grid.datasets = []: must have at least 1 entry"),
    ("grid/methods", [], "grid.methods = []: must have at least 1 entry"),
    ("grid/mixes", [], "grid.mixes = []: must have at least 1 entry"),
    ("grid/augmentation", [], "grid.augmentation = []: must have at least 1 entry"),
    ("ablations/run", ["contrast", "contrast"], "run ['contrast', 'contrast'] repeats a value"),
    ("ablations/seeds", [0, 0], "seeds [0, 0] repeats a value"),
    ("ablations/seeds", [], "ablations.seeds = []: must have at least 1 entry"),
    ("transfer/pairs", [PAIR, dict(PAIR)], "transfer.pairs: one is given twice; give each once"),
    ("data/cifar10/source/checksum", "md5:123", "data.cifar10.source.checksum = 'md5:123': must be official"),
    # values that a later layer would hide
    ("defaults/batch_size", -5, "defaults.batch_size = -5: must be a whole number from 2"),
    ("defaults/npair/projection", 5, "defaults.npair.projection = 5: must be 'linear'"),
    ("recipe/cifar10/clean/epochs", -5, "recipe.cifar10.clean.epochs = -5: must be a whole number from 1"),
]


def test_nobody_reads_on():
    code = "from imix.errors import exit_cleanly; exit_cleanly(lambda: [print('line') for _ in range(100_000)])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize("keys,value,words", WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_before_any_work(folder, capsys, keys, value, words):
    (folder / "params.yaml").write_text(changed(keys, value))
    line = refusal(settings_stage.main, capsys)
    assert line.startswith("imix: error: params.yaml: ") and words in line, line
    assert len(line) < 1000 and os.listdir(folder) == ["params.yaml"]  # noqa: PTH208


def test_transfer_needs_rows_of_one_kind(folder, capsys):
    params = copy.deepcopy(STUDY)
    params["grid"]["datasets"] = ["mnist", "cifar10_small", "cifar100_small", "diamonds", "covtype_small"]
    for source, target in (
        ("mnist", "cifar10_small"),
        ("diamonds", "covtype_small"),
        ("cifar10_small", "cifar100_small"),
    ):
        params["transfer"]["pairs"] = [{"pretrained_on": source, "probed_on": target}]
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        if source == "cifar10_small":
            settings_stage.main()
        else:
            assert f"{source} to {target}: must have rows of one kind" in refusal(settings_stage.main, capsys)


TEXT = yaml.safe_dump(SMALL, sort_keys=False)
BROKEN = {
    "empty": (b"", "is empty; must be a mapping with the keys grid"),
    "only a comment": (b"# nothing\n", "is empty; must be a mapping"),
    "a list": (b"- grid\n", "must be a mapping"),
    "a number": (b"5\n", "is 5; must be a mapping"),
    "text": (b"grid\n", "is 'grid'; must be a mapping"),
    "a tab": (TEXT.replace("  seeds:", "\tseeds:").encode(), "indent with spaces"),
    "not closed": (b"grid: [", "not YAML"),
    "a wrong indent": (TEXT.replace("  seeds:", "   seeds:").encode(), "not YAML"),
    "a key twice": (
        TEXT.replace("  seeds:", "  name: b\n  seeds:", 1).encode(),
        'not YAML: found duplicate key "name"',
    ),
    "a block twice": ((TEXT + "grid: {}\n").encode(), 'not YAML: found duplicate key "grid"'),
    "a key that is a number": (
        TEXT.replace("  seeds:", "  5: b\n  seeds:", 1).encode(),
        "grid: the key 5 is not a name",
    ),
    "a key that is null": (
        TEXT.replace("  seeds:", "  null: b\n  seeds:", 1).encode(),
        "grid: the key None is not a name",
    ),
    "a key that is a list": (TEXT.replace("  seeds:", "  [a]: b\n  seeds:", 1).encode(), "params.yaml: grid: the key"),
    "a key of two lines": (
        TEXT.replace("  seeds:", '  "a\\nb": b\n  seeds:', 1).encode(),
        "the key 'a\\nb' is not a name",
    ),
    "yes as a value": (
        TEXT.replace("symmetric: false", "symmetric: yes", 1).encode(),
        "symmetric = 'yes': must be true or false",
    ),
    "sixties": (TEXT.replace("groups: 1", "groups: 1:30", 1).encode(), "groups = '1:30': must be a whole number"),
    "a date": (
        TEXT.replace("name: study", "name: 2020-01-01").encode(),
        "grid.name = datetime.date(2020, 1, 1): must be a name",
    ),
    "no date": (TEXT.replace("name: study", "name: 2020-99-99").encode(), "params.yaml: "),
    "an anchor": (TEXT.replace("defaults:", "defaults: &p").encode(), "anchors and aliases (&, *) are not allowed"),
    "an alias": (TEXT.replace("name: study", "name: *p").encode(), "anchors and aliases (&, *) are not allowed"),
    "a merge key": (
        TEXT.replace("  seeds:", "  <<: {name: a}\n  seeds:", 1).encode(),
        "merge keys (<<) are not allowed",
    ),
    "a tag of Python's": (
        TEXT.replace("name: study", "name: !!python/object/apply:os.getcwd []").encode(),
        "is not allowed",
    ),
    "a tag": (TEXT.replace("name: study", "name: !!str study").encode(), "is not allowed; only plain values are"),
    "two documents": ((TEXT + "---\n" + TEXT).encode(), "not YAML: but found another document"),
    "a byte-order mark": (
        b"\xef\xbb\xbf" + TEXT.encode(),
        "starts with a byte-order mark; save the file as UTF-8 without one",
    ),
    "UTF-16": (TEXT.encode("utf-16"), "byte 0 is not UTF-8"),
    "Latin-1": (("# Fréchet\n" + TEXT).encode("latin-1"), "byte 4 is not UTF-8"),
    "a zero byte": (TEXT.replace("name: study", "name: st\0udy").encode(), "not YAML"),
    "a number of 5,000 digits": (
        TEXT.replace("groups: 1", "groups: " + "1" * 5000, 1).encode(),
        "params.yaml: not YAML",
    ),
    "a hexadecimal number": (TEXT.replace("groups: 1", "groups: 0x" + "1" * 5000, 1).encode(), "groups"),
    "nested too deeply": (b"[" * 20_000, "nested too deeply"),
    "two megabytes": (b"#" * 2_000_000, "must be at most 1,000,000 bytes"),
}


@pytest.mark.parametrize("content,words", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(folder, capsys, content, words):
    (folder / "params.yaml").write_bytes(content)
    line = refusal(settings_stage.main, capsys)
    assert line.startswith("imix: error: params.yaml: ") and words in line and len(line) < 1000, line
    assert os.listdir(folder) == ["params.yaml"]  # noqa: PTH208


def test_no_file_or_a_directory_is_refused(folder, capsys):
    assert "params.yaml: cannot be read: No such file" in refusal(settings_stage.main, capsys)
    (folder / "params.yaml").mkdir()
    assert "params.yaml: cannot be read: Is a directory" in refusal(settings_stage.main, capsys)


COUNT = "must be a whole number from 1 to 1024"
SECONDS = "must be a number"
ENVIRONMENT = [
    *(
        (variable, value, COUNT)
        for variable in ("IMIX_THREADS", "OMP_NUM_THREADS", "IMIX_WORKERS")
        for value in ("none", "0", "-1")
    ),
    *(("IMIX_THREADS", value, COUNT) for value in ("1.5", "1025", "9" * 5000, "\u0663", " 1")),
    *(
        ("IMIX_DEVICE", value, "must be cpu, cuda or cuda:N")
        for value in ("tpu", "meta", "CPU", "cpu,cuda", "cuda:99", "cuda:-1")
    ),
    *(("IMIX_SAVE_SECONDS", value, SECONDS) for value in ("soon", "-1", "nan", "inf")),
    *(("IMIX_STORE_GB", value, SECONDS) for value in ("much", "-1", "nan", "inf")),
    ("IMIX_STORE", "file", "must be a folder, or a path where one can be made"),
]


@pytest.mark.parametrize("variable,value,words", ENVIRONMENT, ids=lambda value: str(value)[:20])
def test_a_wrong_environment_is_refused(folder, monkeypatch, variable, value, words):
    (folder / "file").touch()
    for other in ("IMIX_THREADS", "IMIX_WORKERS"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as error:
        for reader in (runtime.configure, runtime.workers, store.save_seconds, store.bound, store.root):
            reader()
    line = str(error.value)
    assert line.startswith(f"{variable} = {value!r}: ") and words in line and len(line.splitlines()) == 1


MIRRORS = ["nowhere", "file", "ftp://example.org", "http://127.0.0.1:9", "http://", "https://["]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_wrong_mirror_is_refused(folder, monkeypatch, mirror):
    (folder / "file").touch()
    monkeypatch.setenv("IMIX_DATA_MIRROR", mirror)
    monkeypatch.setattr(archives, "PAUSES", ())
    covtype = importlib.import_module("imix.datasets.covtype")
    with pytest.raises(UserError) as error:
        covtype.fetch(covtype.Source(name="covtype"), folder / "raw")
    assert "IMIX_DATA_MIRROR" in str(error.value) and len(str(error.value).splitlines()) == 1
    assert not (folder / "raw").exists()


CELL = "--dataset mnist --augmentation clean --method npair --mix imix"
COMMANDS = [
    ("settings", "params.yaml", "unrecognized arguments: params.yaml; usage: python -m stages.settings"),
    ("settings", "--params x", "unrecognized arguments: --params x"),
    ("fetch", "", "required: --dataset; usage: python -m stages.fetch [-h] --dataset NAME"),
    ("fetch", "--dataset", "argument --dataset: expected one argument"),
    ("fetch", "--dataset mnits", "data/settings/mnits/source.json: is not there"),
    ("fetch", "--dataset ../x", "--dataset = '../x': must be a name"),
    ("fetch", "--dataset Mnist", "--dataset = 'Mnist': must be a name"),
    ("fetch", "--dataset mnist --dataset diamonds", "--dataset is given twice; give it once"),
    ("fetch", "--data mnist", "required: --dataset"),
    ("fetch", "mnist", "required: --dataset"),
    ("preprocess", "--dataset mnist --seed 0", "unrecognized arguments: --seed 0"),
    ("pretrain", "--dataset mnist --method npair --mix imix", "required: --augmentation"),
    ("pretrain", CELL.replace("mix imix", "mix imx"), "--mix = 'imx': must be one of none, imix, icutmix"),
    ("pretrain", CELL.replace("clean", "clear"), "--augmentation = 'clear': must be one of augmented, clean"),
    ("pretrain", CELL.replace("npair", "../npair"), "--method = '../npair': must be a name"),
    ("pretrain", CELL + " --epochs 5", "unrecognized arguments: --epochs 5"),
    ("pretrain", CELL + " --seed 0", "unrecognized arguments: --seed 0"),
    ("pretrain", CELL, "data/settings/mnist/clean/npair/imix.json: is not there; `dvc repro settings` writes"),
    ("evaluate", CELL.replace("imix", "mixup"), "--mix = 'mixup': must be one of"),
    ("evaluate", CELL, "data/settings/mnist/evaluate.json: is not there"),
    ("evaluate", CELL + " --pretrained_on ..", "--pretrained_on = '..': must be a name"),
    ("evaluate", CELL + " --pretrained_on a --pretrained_on b", "--pretrained_on is given twice"),
    ("evaluate", CELL.replace("--dataset mnist", "--pretrained_on a"), "required: --dataset"),
    ("evaluate", CELL + " --pretrained_on mnist", "--pretrained_on = 'mnist': must be another data set"),
    ("baseline", "--dataset mnist", "data/settings/mnist/baseline.json: is not there"),
    ("ablate", "--dataset mnist", "required: --ablation"),
    ("ablate", "--ablation mixing/.. --dataset mnist", "--ablation = 'mixing/..': must be a name"),
    ("ablate", "--ablation mixings --dataset mnist", "data/settings/ablations/mixings/mnist.json: is not there"),
    ("report", "", "required: --study"),
    ("report", "--study ../x", "--study = '../x': must be a name"),
    ("report", "--study embedded", "data/settings/grid.json: is not there"),
    ("report_ablation", "--ablation mixing", "required: --study"),
    ("report_ablation", "--study embedded --ablation mixing", "data/settings/grid.json: is not there"),
    ("project", "--dataset", "argument --dataset: expected one argument"),
    ("project", "--study embedded --dataset mnist", "data/settings/grid.json: is not there"),
]


@pytest.mark.parametrize("stage,arguments,words", COMMANDS, ids=lambda value: str(value)[:50])
def test_a_wrong_command_line_is_refused(folder, monkeypatch, capsys, stage, arguments, words):
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", *arguments.split()])
    assert words in refusal(importlib.import_module(f"stages.{stage}").main, capsys)
    assert not os.listdir(folder)  # noqa: PTH208


def test_a_report_of_another_study_is_refused(folder, monkeypatch, capsys):
    (folder / "params.yaml").write_text(TEXT)
    settings_stage.main()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["report.py", "--study", "smal"])
    line = refusal(importlib.import_module("stages.report").main, capsys)
    assert f"--study: grid.name: no entry 'smal'; there are: {SMALL['grid']['name']}" in line


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"code": {}}'])
def test_a_damaged_settings_file_is_refused(folder, monkeypatch, capsys, content):
    (folder / "data/settings/mnist").mkdir(parents=True)
    (folder / "data/settings/mnist/source.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--dataset", "mnist"])
    line = refusal(importlib.import_module("stages.fetch").main, capsys)
    assert "data/settings/mnist/source.json: cannot be read (" in line and "`dvc repro settings` writes" in line


def test_there_are_enough_of_them():
    assert len({(keys, repr(value)) for keys, value, _ in WRONG}) + len(BROKEN) + 2 >= 250
    assert len(ENVIRONMENT) + len(MIRRORS) >= 30 and len(COMMANDS) >= 34
