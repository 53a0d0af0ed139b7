"""Broken params.yaml, environments and command lines: each refused before any work, in one line that says what is allowed."""

import copy
import importlib
import math
import os
import signal
import subprocess
import sys

import pytest
import yaml

from imix import __main__ as imix_main
from imix import runtime, settings
from imix.datasets import archives
from imix.errors import UserError, exit_cleanly
from tests.conftest import ROOT

HUGE, GONE = 10**30, object()
KEPT = ("mnist", "segment", "spoken", "cifar10", "speech_commands")


def small() -> dict:
    """The real params.yaml without most of the data sets that its grid does not name: read in a tenth of the time."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block in ("data", "recipe", "cell", "probe"):
        params[block] = {name: value for name, value in params[block].items() if name in KEPT}
    return params


SMALL = small()
settings_stage = importlib.import_module("stages.settings")


def changed(keys: str, value: object) -> str:
    params = block = copy.deepcopy(SMALL)
    *path, last = keys.split("/")
    for key in path:
        block = block[key]
    if value is GONE:
        del block[last]
    else:
        block[last] = value
    return yaml.safe_dump(params, sort_keys=False, width=10_000)


def refusal(main, capsys, code: int = 1) -> str:
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
WRONG = [
    # unknown keys, at every level
    ("gird", {}, "gird = {}: unknown key; did you mean 'grid'"),
    ("grid/sedes", [0], "grid.sedes = [0]: unknown key; did you mean 'seeds'"),
    ("sources/cifar10/cheksum", None, "sources.cifar10.cheksum = None: unknown key; did you mean 'checksum'"),
    ("data/mnist/row", {}, "data.mnist.row = {}: unknown key; did you mean 'rows'"),
    ("data/mnist/source/sed", 0, "data.mnist.source.sed = 0: unknown key; allowed: name"),
    ("data/cifar10/source/sed", 0, "data.cifar10.source.sed = 0: unknown key; allowed: name"),
    ("data/mnist/rows/canvass", 32, "data.mnist.rows.canvass = 32: unknown key; did you mean 'canvas'"),
    ("data/segment/rows/canvas", 32, "data.segment.rows.canvas = 32: unknown key; allowed: train, validation, test, seed"),
    ("pretrain/learning_rat", 0.1, "pretrain.learning_rat = 0.1: unknown key; did you mean 'learning_rate'"),
    ("pretrain/mix", "imix", "pretrain.mix = 'imix': unknown key"),
    ("method/npair/queue", 100, "method.npair.queue = 100: unknown key"),
    ("method/moko", {}, "method.moko: unknown key; must be 'npair', 'moco', 'byol' or 'supervised'; did you mean 'moco'"),
    ("recipe/mnist/batchsize", 50, "recipe.mnist.batchsize = 50: unknown key; did you mean 'batch_size'"),
    ("recipe/mnist/encoder/dept", 10, "recipe.mnist.encoder.dept = 10: unknown key; did you mean 'depth'"),
    ("recipe/segment/views/mask", [0, 0], "recipe.segment.views.mask = [0, 0]: unknown key; did you mean 'masking'"),
    ("recipe/mnits", {}, "recipe.mnits: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("cell/mnist/npair/imix/alhpa", 1.0, "cell.mnist.npair.imix.alhpa = 1.0: unknown key; did you mean 'alpha'"),
    ("cell/mnist/npair/imx", {}, "cell.mnist.npair.imx: unknown key; must be 'none', 'imix' or 'icutmix'; did you mean 'imix'"),
    ("probe/mnist/rate", [1], "probe.mnist.rate = [1]: unknown key; did you mean 'rates'"),
    ("probe/mnits", SMALL["probe"]["mnist"], "probe.mnits: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("transfer/pair", [], "transfer.pair = []: unknown key; did you mean 'pairs'"),
    ("transfer/pairs", [{**PAIR, "seed": 0}], "transfer.pairs.0.seed = 0: unknown key; allowed: pretrained_on, probed_on"),
    ("projection/row", 5, "projection.row = 5: unknown key; did you mean 'rows'"),
    ("ablations/runs", [], "ablations.runs = []: unknown key; did you mean 'run'"),
    ("ablation/mixing/value", {}, "ablation.mixing.value = {}: unknown key; did you mean 'values'"),
    ("ablation/mixing/values/half/alhpa", 1.0, "ablation.mixing.values.half.alhpa = 1.0: unknown key"),  # one that does not run
    # missing keys
    ("grid", GONE, "grid: is missing"),
    ("grid/seeds", GONE, "grid.seeds: is missing"),
    ("probe/mnist/epochs", GONE, "probe.mnist.epochs: is missing"),
    ("recipe/mnist/encoder", GONE, "recipe.mnist.encoder: is missing"),
    ("recipe/mnist/encoder/kind", GONE, "recipe.mnist.encoder.kind: is missing"),
    ("cell/mnist/moco/none/queue", GONE, "cell.mnist.moco.none.queue: is missing"),
    ("cell/mnist/npair/imix/alpha", GONE, "alpha is missing; must be a number from 0.01 to 1000"),
    # wrong types
    ("grid", [], "grid = []: must be a block of keys"),
    ("grid/datasets", "mnist", "grid.datasets = 'mnist': must be a list"),
    ("grid/datasets", {}, "grid.datasets = {}: must be a list"),
    ("grid/seeds", 0, "grid.seeds = 0: must be a list"),
    ("grid/seeds", [0.5], "grid.seeds.0 = 0.5: must be a whole number from 0 to 2,147,483,647"),
    ("grid/seeds", ["0"], "grid.seeds.0 = '0': must be a whole number"),
    ("grid/seeds", [True], "grid.seeds.0 = True: must be a whole number"),
    ("grid/name", 5, "grid.name = 5: must be a name"),
    ("data/mnist", None, "data.mnist = None: must be a block of keys"),
    ("pretrain", 5, "pretrain = 5: must be a block of keys"),
    ("pretrain/augment", 1, "pretrain.augment = 1: must be true or false"),
    ("pretrain/augment", "true", "pretrain.augment = 'true': must be true or false"),
    ("pretrain/momentum", "0.9", "pretrain.momentum = '0.9': must be a number from 0 to 0.99999"),
    ("pretrain/milestones", 300, "pretrain.milestones = 300: must be a list"),
    ("recipe/mnist/encoder", "resnet", "recipe.mnist.encoder = 'resnet': must be a block of keys"),
    ("recipe/mnist/views/scale", 0.5, "recipe.mnist.views.scale = 0.5: must be a list"),
    ("cell/mnist/npair/none/epochs", 6.0, "cell.mnist.npair.none.epochs = 6.0: must be a whole number from 1 to 1,000,000"),
    ("cell/mnist/npair/none/epochs", "x2", "cell.mnist.npair.none.epochs = 'x2': must be a whole number"),
    ("cell/mnist/npair", [], "cell.mnist.npair = []: must be a block of keys"),
    ("ablation/mixing/question", 5, "ablation.mixing.question = 5: must be one line"),
    ("ablation/mixing/question", "a\nb", "ablation.mixing.question = 'a\\nb': must be one line"),
    ("ablation/mixing/values", [], "ablation.mixing.values = []: must be a block of keys"),
    # numbers out of range
    ("cell/mnist/npair/none/epochs", -1, "epochs = -1: must be a whole number from 1"),
    ("cell/mnist/npair/none/epochs", 0, "epochs = 0: must be a whole number from 1"),
    ("cell/mnist/npair/none/epochs", HUGE, "epochs = 1000000000000000000000000000000: must be a whole number from 1 to 1,000,000"),
    ("cell/mnist/npair/imix/temperature", 0, "temperature = 0: must be a number from 0.001 to 1000"),
    ("cell/mnist/npair/imix/temperature", 1e-320, "temperature = 1e-320: must be a number from 0.001"),
    ("cell/mnist/npair/imix/temperature", -0.2, "temperature = -0.2: must be a number from 0.001"),
    ("cell/mnist/npair/imix/alpha", 0, "alpha = 0: must be a number from 0.01 to 1000"),
    ("cell/mnist/npair/imix/alpha", math.nan, "alpha = nan: must be a number from 0.01 to 1000"),
    ("cell/mnist/npair/imix/alpha", math.inf, "alpha = inf: must be a number from 0.01 to 1000"),
    ("cell/mnist/npair/imix/alpha", -1, "alpha = -1: must be a number from 0.01 to 1000"),
    ("pretrain/learning_rate", 1e308, "pretrain.learning_rate = 1e+308: must be a number from 1e-09 to 10000"),
    ("pretrain/learning_rate", HUGE, "pretrain.learning_rate = 1000000000000000000000000000000: must be a number from 1e-09"),
    ("pretrain/learning_rate", 10**400, "is not the same to all readers of YAML; must be a whole number of at most 100"),
    ("pretrain/learning_rate", 0, "pretrain.learning_rate = 0: must be a number from 1e-09"),
    ("pretrain/momentum", 1, "pretrain.momentum = 1: must be a number from 0 to 0.99999"),
    ("pretrain/weight_decay", -0.1, "pretrain.weight_decay = -0.1: must be a number from 0 to 1"),
    ("pretrain/warmup_epochs", -1, "pretrain.warmup_epochs = -1: must be a whole number from 0"),
    ("pretrain/embedding", HUGE, "pretrain.embedding = 1000000000000000000000000000000: must be a whole number from 1 to 65,536"),
    ("pretrain/inputmix", -1, "pretrain.inputmix = -1: must be a whole number from 0 to 100"),
    ("pretrain/fraction", 0, "pretrain.fraction = 0: must be a number from 0.0001 to 1"),
    ("pretrain/fraction", 1.5, "pretrain.fraction = 1.5: must be a number from 0.0001 to 1"),
    ("pretrain/knn_every", 0, "pretrain.knn_every = 0: must be a whole number from 1"),
    ("cell/mnist/moco/none/ema", 1, "cell.mnist.moco.none.ema = 1: must be a number from 0 to 0.999999"),
    ("recipe/mnist/encoder/width", HUGE, "encoder.width = 1000000000000000000000000000000: must be a whole number from 1 to 4,096"),
    ("recipe/segment/encoder/width", 1e308, "recipe.segment.encoder.width = 1e+308: must be a number from 0.0001 to 64"),
    ("recipe/mnist/encoder/depth", 19, "recipe.mnist.encoder.depth = 19: must be 10, 18, 34, 50, 101 or 152"),
    ("recipe/mnist/encoder/stem_stride", 3, "recipe.mnist.encoder.stem_stride = 3: must be 1 or 2"),
    ("recipe/mnist/views/scale", [0, 1], "recipe.mnist.views.scale.0 = 0: must be a number from 0.001 to 1"),
    ("recipe/mnist/views/scale", [0.9, 0.1], "scale [0.9, 0.1] must not fall"),
    ("recipe/mnist/views/scale", [0.9], "recipe.mnist.views.scale = [0.9]: must have at least 2 entries"),
    ("recipe/mnist/views/scale", [0.1, 0.2, 0.3], "recipe.mnist.views.scale = [0.1, 0.2, 0.3]: must have at most 2 entries"),
    ("recipe/mnist/views/jitter", [2, 0, 0, 0], "jitter.0 = 2: must be a number from 0 to 1"),
    ("recipe/mnist/views/jitter", [0, 0, 0, 0.6], "must be at most [1, 1, 1, 0.5]"),
    ("recipe/mnist/views/flip_probability", 2, "recipe.mnist.views.flip_probability = 2: must be a number from 0 to 1"),
    ("recipe/spoken/views/amplitude", [2, 1], "amplitude [2.0, 1.0] must not fall"),
    ("recipe/spoken/views/speed", 1, "recipe.spoken.views.speed = 1: must be a number from 0 to 0.99"),
    ("recipe/segment/views/masking", [0.2, math.nan], "recipe.segment.views.masking.1 = nan: must be a number from 0 to 1"),
    ("probe/mnist/rates", [0.1, 0], "probe.mnist.rates.1 = 0: must be a number from 1e-09 to 10000"),
    ("probe/mnist/rates", [0.1, 0.1], "rates [0.1, 0.1] names a value twice"),
    ("probe/mnist/milestones", [90, 80], "milestones [90, 80] must rise"),
    ("probe/mnist/milestones", [80, 100], "milestones [80, 100] must lie below epochs 100"),
    ("probe/mnist/neighbours", 0, "probe.mnist.neighbours = 0: must be a whole number from 1"),
    ("projection/perplexity", 0, "projection.perplexity = 0: must be a number from 1 to 10000"),
    ("projection/rows", 10, "projection.rows = 10: must be a whole number from 50"),
    ("data/spoken/source/words", 9, "data.spoken.source.words = 9: must be a whole number from 10 to 1,000"),
    ("data/spoken/source/voices", {"train": 5, "test": 5}, "data.spoken.source.voices"),
    ("data/spoken/source/voices/dev", 3, "data.spoken.source.voices.dev"),
    ("data/spoken/rows/silence", 1, "data.spoken.rows.silence = 1: must be a number from 0 to 0.99"),
    ("data/mnist/rows/canvas", 20, "data.mnist.rows.canvas = 20: must be a whole number from 28 to 512"),
    ("data/mnist/rows/seed", -1, "data.mnist.rows.seed = -1: must be a whole number from 0"),
    # what does not fit together
    ("recipe/segment/batch_size", 1251, "recipe.segment.batch_size = 1251: must be at most the 1250 training rows of segment"),
    ("cell/segment/supervised/none/batch_size", 1001, "none.batch_size = 1001: must be at most the 1000 training rows"),
    ("recipe/cifar10/batch_size", 50_002, "recipe.cifar10.batch_size = 50002: must be at most the 50000 training rows of cifar10"),
    ("recipe/speech_commands/batch_size", 60_000, "recipe.speech_commands.batch_size = 60000: must be at most the 56764 training rows"),
    ("recipe/spoken/batch_size", 2134, "recipe.spoken.batch_size = 2134: must be at most the 2133 training rows of spoken"),
    ("cell/segment/npair/none/fraction", 0.05, "recipe.segment.batch_size = 125: must be at most the 69 training rows of segment"),
    ("recipe/segment/batch_size", 1, "recipe.segment.batch_size = 1: must be a whole number from 2"),
    ("recipe/segment/groups", 125, "groups 125 must divide batch_size 125 into blocks of two or more"),  # BatchNorm of one row
    ("recipe/segment/groups", 2, "groups 2 must divide batch_size 125 into blocks"),  # a last odd group
    ("cell/mnist/moco/imix/queue", 49, "cell.mnist.moco.imix.queue = 49: must be at least batch_size = 50"),
    ("cell/mnist/moco/imix/queue", 0, "cell.mnist.moco.imix.queue = 0: must be a whole number from 2"),
    ("cell/mnist/moco/imix/queue", HUGE, "cell.mnist.moco.imix.queue = 1000000000000000000000000000000: must be a whole number"),
    ("cell/segment/npair/icutmix", {"epochs": 6, "temperature": 0.1, "alpha": 1.0}, "CutMix cuts images; segment has tabular views"),
    ("cell/spoken/npair/icutmix", {"epochs": 6, "temperature": 0.1, "alpha": 1.0}, "CutMix cuts images; spoken has speech views"),
    ("cell/mnist/npair/none/alpha", 1.0, "cell.mnist.npair.none.alpha belongs to mixing cells only"),
    ("cell/mnist/npair/none/warmup_epochs", 6, "warmup_epochs 6 must be below epochs 6"),
    ("cell/speech_commands/npair/none/epochs", 400, "milestones [300, 400] must lie below epochs 400"),
    (
        "recipe/speech_commands/milestones",
        [400, 300],
        "recipe.speech_commands: milestones [400, 300] must rise (in cell.speech_commands.npair.none)",
    ),
    ("recipe/speech_commands/schedule", "cosine", "milestones [300, 400] go with schedule 'step', and only with it"),
    ("recipe/mnist/views", SMALL["recipe"]["spoken"]["views"], "recipe.mnist.views.kind = 'speech': must be 'image'"),
    ("recipe/segment/views", SMALL["recipe"]["mnist"]["views"], "recipe.segment.views.kind = 'image': must be 'tabular'"),
    ("recipe/segment/encoder", SMALL["recipe"]["mnist"]["encoder"], "'mlp' goes with 'tabular'"),
    ("data/mnist/rows/train", 2001, "data.mnist.rows.train + test = 5001: must be at most the 5000 rows that there are"),
    ("data/cifar10/rows/train", 50_001, "data.cifar10.rows.train = 50001: must be at most the 50000 rows that there are"),
    ("data/cifar10/rows/test", 10_001, "data.cifar10.rows.test = 10001: must be at most the 10000 rows that there are"),
    ("data/segment/rows/validation", 0.0001, "data.segment.rows.validation = 0.0001: puts 0 of 1250 training rows aside"),
    ("data/segment/rows/validation", 0.999, "data.segment.rows.validation = 0.999: puts 1249 of 1250 training rows aside"),
    ("data/segment/rows/train", HUGE, "data.segment.rows.train = 1000000000000000000000000000000: must be a whole number"),
    ("cell/mnist/moco/none/symmetric", True, "symmetric must be false"),
    ("pretrain/mix_inputs", "both", "mix_inputs"),
    # misspelt names
    ("grid/datasets", ["mnits"], "grid.datasets: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("grid/methods", ["mocco"], "grid.methods.0 = 'mocco': must be 'npair', 'moco' or 'byol'; did you mean 'moco'"),
    ("grid/mixes", ["mixup"], "grid.mixes.0 = 'mixup': must be 'none', 'imix' or 'icutmix'"),
    ("grid/mixes", ["none", "icutmix"], "cell.segment.npair: no entry 'icutmix'"),
    ("data/mnist/source/name", "minst", "data.mnist.source.name = 'minst': must be one of mnist, segment"),
    ("recipe/mnist/encoder/kind", "resnets", "recipe.mnist.encoder.kind = 'resnets': must be one of resnet, mlp; did you mean 'resnet'"),
    ("recipe/mnist/views/kind", "images", "views.kind = 'images': must be one of image, speech, tabular; did you mean 'image'"),
    ("pretrain/precision", "float16", "pretrain.precision = 'float16': must be 'float32' or 'bfloat16'"),
    ("method/moco/projection", "mlpb", "method.moco.projection = 'mlpb': must be 'linear', 'mlp', 'mlpbn' or 'mlpbn1'"),
    ("ablations/run", ["contrasts"], "ablations.run: ablation: no entry 'contrasts' (did you mean 'contrast'?)"),
    ("ablations/datasets", ["mnits"], "ablations.datasets: data: no entry 'mnits' (did you mean 'mnist'?)"),
    ("transfer/pairs", [PAIR], "mnist to spoken: must both be speech, colour images or digits"),
    # names that are paths, or that hold other things
    ("grid/name", "../x", "grid.name = '../x': must be a name"),
    ("grid/name", "ablations", "name 'ablations': reports/ablations holds other things; take another name"),
    ("grid/name", "a" * 61, "must be a name: at most 60"),
    ("grid/name", "", "grid.name = '': must be a name"),
    ("data/..\\x", SMALL["data"]["mnist"], "data...\\x: unknown key; must be a name"),
    ("data/metrics", SMALL["data"]["mnist"], "data.metrics: data/metrics holds other things; take another name"),
    ("ablation/settings", SMALL["ablation"]["mixing"], "ablation.settings: data/ablations/settings holds other things"),
    # twice, or none
    ("grid/seeds", [0, 1, 0], "seeds [0, 1, 0] names a value twice; each must stand once"),
    ("grid/datasets", ["mnist", "mnist"], "datasets ['mnist', 'mnist'] names a value twice"),
    ("grid/methods", ["moco", "moco"], "methods ['moco', 'moco'] names a value twice"),
    ("grid/mixes", ["imix", "imix"], "mixes ['imix', 'imix'] names a value twice"),
    ("grid/seeds", [], "grid.seeds = []: must have at least 1 entry"),
    ("grid/datasets", [], "grid.datasets = []: must have at least 1 entry"),
    ("grid/methods", [], "grid.methods = []: must have at least 1 entry"),
    ("grid/mixes", [], "grid.mixes = []: must have at least 1 entry"),
    ("probe/mnist/rates", [], "probe.mnist.rates = []: must have at least 1 entry"),
    ("ablation/mixing/values", {}, "ablation.mixing.values = {}: must have at least 1 entry"),
    ("ablation/mixing/methods", ["npair", "npair"], "methods ['npair', 'npair'] names a value twice"),
    ("ablations/seeds", [0, 0], "seeds [0, 0] names a value twice"),
    ("sources/cifar10/checksum", "md5:123", "sources.cifar10.checksum = 'md5:123': must be official"),
    ("sources/mnist", {"checksum": None}, "sources.mnist: unknown key; must be 'cifar10'"),
    # values that a later layer would hide
    ("pretrain/batch_size", -5, "pretrain.batch_size = -5: must be a whole number from 2"),
    ("method/npair/projection", 5, "method.npair.projection = 5: must be 'linear'"),
]


def test_nobody_reads_on():
    code = "import sys; from imix.errors import exit_cleanly; exit_cleanly(lambda: [print('line') for _ in range(100_000)])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize("keys,value,words", WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_before_any_work(folder, capsys, keys, value, words):
    (folder / "params.yaml").write_text(changed(keys, value))
    line = refusal(settings_stage.main, capsys)
    assert line.startswith("imix: error: params.yaml: ") and words in line
    assert len(line) < 1000 and os.listdir(folder) == ["params.yaml"]  # noqa: PTH208


TEXT = yaml.safe_dump(SMALL, sort_keys=False)
BROKEN = {
    "empty": (b"", "is empty; must be a mapping with the keys grid"),
    "only a comment": (b"# nothing\n", "is empty; must be a mapping"),
    "a list": (b"- grid\n", "must be a mapping"),
    "a number": (b"5\n", "is 5; must be a mapping"),
    "text": (b"grid\n", "is 'grid'; must be a mapping"),
    "a tab": (TEXT.replace("  seeds:", "\tseeds:").encode(), "not YAML: found character '\\t' that cannot start any token; indent"),
    "not closed": (b"grid: [", "not YAML"),
    "a wrong indent": (TEXT.replace("  seeds:", "   seeds:").encode(), "not YAML"),
    "a key twice": (TEXT.replace("  seeds:", "  name: b\n  seeds:").encode(), "the key 'name' stands twice"),
    "a block twice": ((TEXT + "grid: {}\n").encode(), "the key 'grid' stands twice"),
    "a key that is a number": (TEXT.replace("  seeds:", "  5: b\n  seeds:").encode(), "the key 5 is not a name"),
    "a key that is null": (TEXT.replace("  seeds:", "  null: b\n  seeds:").encode(), "the key None is not a name"),
    "a key that is a list": (TEXT.replace("  seeds:", "  [a]: b\n  seeds:").encode(), "the key ['a'] is not a name"),
    "a key of two lines": (TEXT.replace("  seeds:", '  "a\\nb": b\n  seeds:').encode(), "the key 'a\\nb' is not a name"),
    "yes as a key": (TEXT.replace("  seeds:", "  yes: b\n  seeds:").encode(), "'yes' is not the same to all readers of YAML"),
    "no as a value": (TEXT.replace("augment: true", "augment: yes").encode(), "'yes' is not the same to all readers of YAML"),
    "an octal number": (TEXT.replace("groups: 1", "groups: 01").encode(), "'01' is not the same to all readers of YAML"),
    "sixties": (TEXT.replace("groups: 1", "groups: 1:30").encode(), "'1:30' is not the same to all readers of YAML"),
    "underscores": (TEXT.replace("groups: 1", "groups: 1_0").encode(), "'1_0' is not the same to all readers of YAML"),
    "a date": (TEXT.replace("name: embedded", "name: 2020-01-01").encode(), "'2020-01-01' is not the same to all readers of YAML"),
    "no date": (TEXT.replace("name: embedded", "name: 2020-99-99").encode(), "params.yaml: "),
    "an anchor": (TEXT.replace("pretrain:", "pretrain: &p").encode(), "anchors and aliases (&, *) are not allowed"),
    "an alias": (TEXT.replace("name: embedded", "name: *p").encode(), "anchors and aliases (&, *) are not allowed"),
    "a merge key": (TEXT.replace("  seeds:", "  <<: {name: a}\n  seeds:").encode(), "merge keys (<<) are not allowed"),
    "a tag of Python's": (TEXT.replace("name: embedded", "name: !!python/object/apply:os.getcwd []").encode(), "is not allowed"),
    "a tag": (TEXT.replace("name: embedded", "name: !!str embedded").encode(), "the tag 'tag:yaml.org,2002:str' is not allowed"),
    "two documents": ((TEXT + "---\n" + TEXT).encode(), "not YAML: but found another document"),
    "a byte-order mark": (b"\xef\xbb\xbf" + TEXT.encode(), "starts with a byte-order mark; save the file as UTF-8 without one"),
    "UTF-16": (TEXT.encode("utf-16"), "byte 0 is not UTF-8"),
    "Latin-1": (("# Fréchet\n" + TEXT).encode("latin-1"), "byte 4 is not UTF-8"),
    "a zero byte": (TEXT.replace("embedded", "embed\0ded").encode(), "not YAML"),
    "a number of 5,000 digits": (TEXT.replace("groups: 1", "groups: " + "1" * 5000).encode(), "is not the same to all readers"),
    "a hexadecimal number": (TEXT.replace("groups: 1", "groups: 0x" + "1" * 5000).encode(), "is not the same to all readers"),
    "nested too deeply": (b"[" * 20_000, "nested too deeply"),
    "two megabytes": (b"#" * 2_000_000, "must be at most 1,000,000 bytes"),
}


@pytest.mark.parametrize("content,words", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(folder, capsys, content, words):
    (folder / "params.yaml").write_bytes(content)
    line = refusal(settings_stage.main, capsys)
    assert line.startswith("imix: error: params.yaml: ") and words in line and len(line) < 1000
    assert os.listdir(folder) == ["params.yaml"]  # noqa: PTH208


def test_no_file_or_a_directory_is_refused(folder, capsys):
    assert "params.yaml: cannot be read: No such file" in refusal(settings_stage.main, capsys)
    (folder / "params.yaml").mkdir()
    assert "params.yaml: cannot be read: Is a directory" in refusal(settings_stage.main, capsys)


ENVIRONMENT = [
    ("IMIX_DEVICE", "tpu", "allowed: cpu, cuda, cuda:N"),
    ("IMIX_DEVICE", "", "allowed: cpu"),
    ("IMIX_DEVICE", "meta", "allowed: cpu"),
    ("IMIX_DEVICE", "CPU", "allowed: cpu"),
    ("IMIX_DEVICE", "cpu,cuda", "allowed: cpu"),
    ("IMIX_DEVICE", "cuda:99", "allowed: cpu"),
    ("IMIX_DEVICE", "cuda:-1", "allowed: cpu"),
    ("IMIX_THREADS", "none", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "0", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "-1", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "1.5", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "1025", "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "9" * 5000, "must be a whole number from 1 to 1024"),
    ("IMIX_THREADS", "\u0663", "must be a whole number from 1 to 1024"),
    ("IMIX_SAVE_SECONDS", "soon", "must be a number of seconds from 0"),
    ("IMIX_SAVE_SECONDS", "", "must be a number of seconds from 0"),
    ("IMIX_SAVE_SECONDS", "-1", "must be a number of seconds from 0"),
    ("IMIX_SAVE_SECONDS", "nan", "must be a number of seconds from 0"),
    ("IMIX_SAVE_SECONDS", "inf", "must be a number of seconds from 0"),
    ("IMIX_RESUME", "", "must be a folder of its own"),
    ("IMIX_RESUME", ".", "must be a folder of its own; 'file' is not ours"),
    ("IMIX_RESUME", "file", "Not a directory; must be a folder"),
    ("IMIX_RESUME", "full", "must be a folder of its own; 'thesis.tex' is not ours"),
]


@pytest.mark.parametrize("variable,value,words", ENVIRONMENT, ids=lambda value: str(value)[:20])
def test_a_wrong_environment_is_refused(folder, monkeypatch, variable, value, words):
    (folder / "file").touch()
    (folder / "full").mkdir()
    (folder / "full/thesis.tex").touch()
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as error:
        runtime.configure()
    line = str(error.value)
    assert line.startswith(f"{variable} = {value!r}: ") and words in line and len(line.splitlines()) == 1


def test_a_folder_of_unfinished_trainings_is_taken(folder, monkeypatch):
    (folder / "states").mkdir()
    for name in ("0123456789abcdef01234567.state", ".0123456789abcdef01234567.state.1.tmp", "timings.json"):
        (folder / "states" / name).touch()
    for name in ("states", "not/there/yet"):
        monkeypatch.setenv("IMIX_RESUME", name)
        runtime.configure()


MIRRORS = ["nowhere", "file", "ftp://example.org", "http://127.0.0.1:9", "http://", "https://["]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_wrong_mirror_is_refused(folder, monkeypatch, mirror):
    (folder / "file").touch()
    monkeypatch.setenv("IMIX_DATA_MIRROR", mirror)
    monkeypatch.setattr(archives, "PAUSES", ())
    with pytest.raises(UserError) as error:
        archives.fetch(settings.VerifiedSource(name="covtype", checksum="official"), folder / "raw")
    assert "IMIX_DATA_MIRROR" in str(error.value) and len(str(error.value).splitlines()) == 1
    assert not (folder / "raw").exists()


CELL = "--dataset mnist --method npair --mix imix --seed 0"
COMMANDS = [
    ("settings", "params.yaml", "unrecognized arguments: params.yaml; usage: python -m stages.settings"),
    ("settings", "--params x", "unrecognized arguments: --params x"),
    ("fetch", "", "required: --dataset; usage: python -m stages.fetch [-h] --dataset NAME"),
    ("fetch", "--dataset", "argument --dataset: expected one argument"),
    ("fetch", "--dataset mnits", "data/settings/mnits/source.json: not there"),
    ("fetch", "--dataset ../x", "--dataset = '../x': must be a name"),
    ("fetch", "--dataset Mnist", "--dataset = 'Mnist': must be a name"),
    ("fetch", "--dataset mnist --dataset segment", "--dataset stands twice; each option must stand once"),
    ("fetch", "--data mnist", "required: --dataset"),
    ("fetch", "mnist", "required: --dataset"),
    ("preprocess", "--dataset mnist --seed 0", "unrecognized arguments: --seed 0"),
    ("pretrain", "--dataset mnist --method npair --mix imix", "required: --seed"),
    ("pretrain", CELL.replace("seed 0", "seed abc"), "--seed = 'abc': must be a whole number from 0 to 2,147,483,647"),
    ("pretrain", CELL.replace("seed 0", "seed -1"), "--seed = '-1': must be a whole number"),
    ("pretrain", CELL.replace("seed 0", "seed 1.0"), "--seed = '1.0': must be a whole number"),
    ("pretrain", CELL.replace("seed 0", "seed 01"), "--seed = '01': must be a whole number"),
    ("pretrain", CELL.replace("seed 0", "seed 2147483648"), "--seed = '2147483648': must be a whole number"),
    ("pretrain", CELL.replace("seed 0", "seed 1" + "0" * 5000), "must be a whole number"),
    ("pretrain", CELL.replace("mix imix", "mix imx"), "--mix: no entry 'imx' (did you mean 'imix'?); there are: icutmix, imix, none"),
    ("pretrain", CELL.replace("npair", "npairs"), "--method: no entry 'npairs' (did you mean 'npair'?)"),
    ("pretrain", CELL + " --epochs 5", "unrecognized arguments: --epochs 5"),
    ("pretrain", CELL, "data/settings/mnist/npair/imix.json: not there; `dvc repro settings` writes"),
    ("evaluate", "--dataset mnist --method npair --mix mixup", "--mix: no entry 'mixup'"),
    ("evaluate", "--dataset mnist --method npair --mix imix", "data/settings/mnist/evaluate.json: not there"),
    ("evaluate", CELL, "unrecognized arguments: --seed 0"),
    ("evaluate", "--pretrained_on .. --dataset b --method npair --mix imix", "--pretrained_on = '..': must be a name"),
    ("evaluate", "--pretrained_on a --pretrained_on b --dataset b --method npair --mix imix", "--pretrained_on stands twice"),
    ("evaluate", "--pretrained_on a --method npair --mix imix", "required: --dataset"),
    ("evaluate", "--pretrained_on a --dataset a --method npair --mix imix", "--pretrained_on = 'a': must be another data set"),
    ("baseline", "--dataset mnist", "data/settings/mnist/baseline.json: not there"),
    ("ablate", "--ablation mixing --dataset mnist", "required: --seed"),
    ("ablate", "--ablation mixing/.. --dataset mnist --seed 0", "--ablation = 'mixing/..': must be a name"),
    ("ablate", "--ablation mixings --dataset mnist --seed 0", "data/ablations/settings/mixings/mnist.json: not there"),
    ("report", "", "required: --study"),
    ("report", "--study ../x", "--study = '../x': must be a name"),
    ("report", "--study embedded", "data/settings/grid.json: not there"),
    ("report_ablations", "--ablation mixing", "unrecognized arguments: --ablation mixing"),
    ("project", "--dataset", "argument --dataset: expected one argument"),
    ("project", "--dataset mnist", "data/settings/grid.json: not there"),
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
    assert "--study: grid.name: no entry 'smal'; there are: embedded" in refusal(importlib.import_module("stages.report").main, capsys)


PLANS = [
    ("", "required: command"),
    ("plna", "invalid choice: 'plna'"),
    ("plan --rate fast", "argument --rate: invalid float value: 'fast'"),
    ("plan --rate 0", "--rate = 0.0: must be a positive number"),
    ("plan --rate nan", "--rate = nan: must be a positive number"),
    ("plan -S grid.seeds", "-S 'grid.seeds': must be key=value"),
    ("plan -S grid.sedes=[0]", "grid.sedes = [0]: unknown key; did you mean 'seeds'"),
    ("plan -S gird.seeds=[0]", "no entry 'gird' (did you mean 'grid'?)"),
    ("plan -S grid.seeds.first=0", "grid.seeds is a value, not a block"),
    ("plan -S grid.seeds=[", "not YAML"),
    ("plan -S grid.seeds=&a", "anchors and aliases"),
    ("plan -S =5", "unknown key"),
]


@pytest.mark.parametrize("arguments,words", PLANS)
def test_a_wrong_plan_is_refused(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["imix", *arguments.split()])
    assert words in refusal(imix_main.main, capsys)


def test_there_are_enough_of_them():
    assert len({(keys, repr(value)) for keys, value, _ in WRONG}) + len(BROKEN) + 2 >= 200
    assert len(ENVIRONMENT) + len(MIRRORS) >= 30 and len(COMMANDS) + len(PLANS) >= 50
