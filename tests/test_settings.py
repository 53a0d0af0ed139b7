"""params.yaml: how its layers merge, the published recipes, and that any change is harmless or refused."""

import copy
import difflib
import json
import math
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import hypothesis
import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import strategies

from imix import plugins, pretraining
from imix.domains import domain_class, training_class
from imix.errors import UserError
from imix.evaluation import Probe
from imix.methods import npair
from imix.paths import Cell
from imix.settings import files, loading, merging, resolved, text
from imix.views import tabular
from tests.conftest import ROOT

REAL = text.read(ROOT / "params.yaml")
# what tests change must not change with the studies of params.yaml
OWN = text.parse(
    """
grid: {name: study, datasets: [mnist, diamonds, spoken], augmentation: [augmented, clean], methods: [npair, moco, byol],
  mixes: [none, imix], supervised: [none], seeds: [0, 1]}
ablations: {run: [model_size, data_size, controls, contrast], datasets: [mnist, diamonds], seeds: [0]}
transfer: {pairs: []}
projection: {rows: 1000, perplexity: 30, seed: 0}
data:
  diamonds:
    source: {name: diamonds}
    rows: {train: 1250, validation: 0.2, test: 836, seed: 0}
recipe:
  diamonds:
    encoder: {width: 0.0625}
    views: {masking: [0.2, 0.2]}
    epochs: 30
    batch_size: 125
    temperature: 0.1
    ema: 0.95
    queue: 500
    alpha: 2.0
    knn_every: 5
    probe: {rates: [0.01, 0.1, 1, 10], neighbours: 20}
mnist: {epochs: 6, batch_size: 50, warmup_epochs: 1, queue: 100, byol: {epochs: 10, batch_size: 25}}
ablation:
  model_size:
    question: Larger?
    methods: [npair]
    axis: parameters
    values: {half: {encoder: {width: x0.5}}, unchanged: {}, double: {encoder: {width: x2}}}
  model_depth: {question: Deeper?, axis: parameters, values: {resnet18: {encoder: {depth: 18}}}}
  data_size:
    question: Little data?
    methods: [npair]
    axis: rows
    values:
      fifth: {fraction: 0.2}
      half: {fraction: 0.5}
      unchanged: {}
      fifth_equal_steps: {fraction: 0.2, epochs: x5, warmup_epochs: x5, milestones: x5}
  training_length: {question: Longer?, values: {unchanged: {}, quadruple: {epochs: x4, milestones: x4}}}
  augmentation:
    question: Without views?
    values: {unchanged: {}, none: {augmentation: clean, inputmix: 0}, inputmix: {augmentation: clean, inputmix: 2}}
  masking: {question: Masked?, values: {unchanged: {}, masked: {views: {masking: [0.2, 0.2]}}}}
  mixing: {question: How much?, methods: [npair], mixes: [imix], axis: alpha, values: {half: {alpha: 0.5}}}
  controls:
    question: Both?
    methods: [npair]
    mixes: [imix]
    values: {unchanged: {}, inputs_only: {mix_labels: false}, labels_only: {mix_inputs: neither}}
  contrast: {question: Which set?, methods: [moco], values: {own: {contrast: own}, batch: {contrast: batch}}}
""",
    "OWN",
)
STUDY = copy.deepcopy(REAL)
for each in ("data", "recipe"):
    STUDY[each] |= OWN[each]
STUDY["recipe"]["mnist"] |= OWN["mnist"]
STUDY |= {key: OWN[key] for key in ("grid", "ablations", "transfer", "projection", "ablation")}
METHODS = ("npair", "moco", "byol")
PUBLISHED = ("cifar10", "cifar100", "speech_commands", "covtype")


def changed(*changes):
    """The settings of `STUDY`, with values set at paths such as "recipe/mnist/epochs"; None removes a key."""
    params = copy.deepcopy(STUDY)
    for path, value in changes:
        *keys, last = path.split("/")
        block = params
        for key in keys:
            block = block.setdefault(key, {})
        if value is None:
            del block[last]
        else:
            block[last] = value
    return params


def resolve(params, *cell):
    return merging.resolve(loading.check(params), Cell(*cell))


def refusal(params):
    with pytest.raises(UserError) as error:
        loading.check(params)
    line = str(error.value)
    assert len(line.splitlines()) == 1 and line.startswith("params.yaml: ")
    return line


# --- merging


def test_the_real_file_is_valid():
    cell = merging.resolve(loading.load(), Cell("mnist", "augmented", "moco", "imix"))
    assert cell.momentum == REAL["defaults"]["momentum"] and cell.projection == REAL["defaults"]["moco"]["projection"]
    assert cell.batch_size == REAL["recipe"]["mnist"]["batch_size"] and cell.alpha == REAL["defaults"]["alpha"]


SELECTORS = ("augmented", "moco", "imix")
# every way to nest the three, from the weakest to the strongest
NESTED = ["", "augmented", "moco", "imix", "augmented/moco", "augmented/imix", "moco/imix", "augmented/moco/imix"]
LAYERS = [f"{block}/{path}".rstrip("/") for block in ("defaults", "recipe/diamonds") for path in NESTED]


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_the_stronger_layer_wins(number):
    """Recipe over defaults, deeper over shallower, and at one depth mix over method over augmentation."""
    values = {f"{layer}/weight_decay": 0.01 * (place + 1) for place, layer in enumerate(LAYERS[: number + 1])}
    for order in (values.items(), reversed(values.items())):
        found = resolve(changed(*order), "diamonds", "augmented", "moco", "imix")
        assert found.weight_decay == 0.01 * (number + 1)
    if number:
        other = resolve(changed(*values.items()), "diamonds", "clean", "npair", "none").weight_decay
        assert other == (0.01 * (len(NESTED) + 1) if number >= len(NESTED) else 0.01)


@pytest.mark.parametrize("path", ["imix/augmented/moco", "moco/imix/augmented", "imix/moco", "moco/augmented"])
def test_selectors_nest_in_any_order(path):
    params = changed((f"recipe/diamonds/{path}/weight_decay", 0.5))
    assert resolve(params, "diamonds", "augmented", "moco", "imix").weight_decay == 0.5
    assert resolve(params, "diamonds", "augmented", "byol", "imix").weight_decay == REAL["defaults"]["weight_decay"]
    weaker = ("recipe/diamonds/moco/augmented/weight_decay", 0.4)
    params = changed(("recipe/diamonds/imix/moco/weight_decay", 0.5), weaker)
    assert resolve(params, "diamonds", "augmented", "moco", "imix").weight_decay == 0.5


def test_blocks_merge_key_by_key_and_lists_are_replaced():
    params = changed(
        ("recipe/mnist/moco/imix/views/scale", [0.3, 0.9]),
        ("recipe/mnist/clean/encoder/depth", 18),
        ("recipe/mnist/imix/milestones", []),
    )
    plain = resolve(params, "mnist", "augmented", "moco", "none")
    mixed = resolve(params, "mnist", "augmented", "moco", "imix")
    assert mixed.views.scale == [0.3, 0.9] and plain.views.scale == REAL["recipe"]["mnist"]["views"]["scale"]
    assert mixed.views.model_copy(update={"scale": plain.views.scale}) == plain.views
    clean = resolve(params, "mnist", "clean", "moco", "none").encoder
    assert (clean.depth, clean.width) == (18, REAL["recipe"]["mnist"]["encoder"]["width"])
    # an evaluation's views are the recipe's own, whatever a cell trains with
    assert merging.evaluation_settings(loading.check(params), "mnist")["views"] == REAL["recipe"]["mnist"]["views"]


def test_views_of_one_cell_alone():
    masking = {
        (method, mix): resolve(STUDY, "covtype", "augmented", method, mix).views.masking
        for method, mix in product(METHODS, ("none", "imix"))
    }
    assert {cell for cell, value in masking.items() if value == [0.0, 0.0]} == {("moco", "imix"), ("byol", "imix")}
    assert all(value in ([0.2, 0.2], [0.0, 0.0]) for value in masking.values())


def test_like_chains():
    params = changed(
        ("data/a", {"like": "cifar10_small", "rows": {"train": 3000}}),
        ("recipe/a", {"like": "cifar10_small", "epochs": 33, "moco": {"queue": 512}}),
    )
    data = merging.data(loading.check(params), "a")
    assert (data.rows.train, data.rows.test, data.rows.seed) == (3000, 2000, 0) and data.source.name == "cifar10"
    mine, parent = (resolve(params, name, "clean", "moco", "imix") for name in ("a", "cifar10_small"))
    assert (mine.epochs, mine.queue, mine.inputmix) == (33, 512, 2)  # the last one from cifar10
    assert mine.model_copy(update={"epochs": parent.epochs, "queue": parent.queue}) == parent
    # a plain key of a recipe wins over a selected one of the recipe that it is like
    assert resolve(params, "a", "augmented", "npair", "imix").epochs == 33


@pytest.mark.parametrize("block", ["data", "recipe"])
def test_a_circle_of_likes_is_refused(block):
    line = refusal(changed((f"{block}/cifar10/like", "cifar10_small")))
    assert f"{block}.cifar10" in line and "is a circle; break it" in line
    for like, words in (
        ("cifar11", "no entry 'cifar11' (did you mean 'cifar10'?)"),
        (5, "no entry 5"),
        ([], "no entry []"),
    ):
        assert f"{block}.cifar10_small.like: {words}" in refusal(changed((f"{block}/cifar10_small/like", like)))
    itself = refusal(changed((f"{block}/cifar10/like", "cifar10")))
    assert f"{block}.cifar10.like: cifar10 -> cifar10 is a circle" in itself


def test_a_key_of_another_method_is_left_out_or_refused():
    params = changed(("recipe/diamonds/queue", 1000), ("recipe/diamonds/imix/predictor", "mlp"))
    assert resolve(params, "diamonds", "augmented", "moco", "imix").queue == 1000
    assert "queue" not in resolve(params, "diamonds", "augmented", "npair", "imix").model_dump()
    assert "recipe.diamonds.npair.queue = 1000: unknown key" in refusal(changed(("recipe/diamonds/npair/queue", 1000)))
    assert "recipe.diamonds.npair.imix.queue" in refusal(changed(("recipe/diamonds/npair/imix/queue", 1000)))
    assert "recipe.diamonds.imix.npair.queue" in refusal(changed(("recipe/diamonds/imix/npair/queue", 1000)))


def test_plain_cells_have_no_alpha():
    params = changed(("recipe/diamonds/alpha", 4.0))
    assert resolve(params, "diamonds", "augmented", "moco", "none").alpha is None
    assert resolve(params, "diamonds", "augmented", "moco", "imix").alpha == 4.0
    line = refusal(changed(("recipe/diamonds/moco/none/alpha", 2.0)))
    assert "recipe.diamonds.moco.none.alpha = 2.0: unknown key" in line


@pytest.mark.parametrize(
    "path,value,words",
    [
        ("recipe/covtype/moco/imix/views/masking", [1.5, 0], "recipe.covtype.moco.imix.views.masking.0 = 1.5: must be"),
        (
            "recipe/covtype/npair/imix/batch_size",
            15_122,
            "recipe.covtype.npair.imix.batch_size = 15122: must be at most",
        ),
        ("recipe/diamonds/moco/queue", 124, "recipe.diamonds.moco: queue 124 must be at least batch_size 125"),
        (
            "recipe/cifar10/clean/warmup_epochs",
            1000,
            "recipe.cifar10.clean: warmup_epochs 1000 must be below epochs 1000",
        ),
        ("recipe/cifar100/clean/none/groups", 3, "recipe.cifar100.clean.none: groups 3 must divide batch_size 256"),
        ("defaults/groups", 3, "defaults: groups 3 must divide batch_size 25"),
        ("recipe/mnist/imix/moco/encoder/depth", 20, "recipe.mnist.imix.moco.encoder.depth = 20: must be"),
        ("defaults/byol/ema", 1, "defaults.byol.ema = 1: must be a number from 0"),
    ],
)
def test_an_error_names_the_layer_that_holds_the_key(path, value, words):
    assert words in refusal(changed((path, value)))


def test_naming_data_sets_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params = loading.check(changed(("grid/datasets", ["covtype_small"])))
    resolved.write(params)
    names = {path.parts[0] for path in resolved.resolved(params)}
    assert names == {"covtype_small", "ablations", "grid.json", "transfer.json", "projection.json"}
    left_out = capsys.readouterr().err.splitlines()
    assert left_out == [
        f"imix: ablation {name} is left out: none of its data sets is in grid.datasets" for name in params.ablations.run
    ]
    for name in params.ablations.run:
        assert files.read("ablations", name, "covtype_small")["variants"] == []
        assert files.read("ablations", name, "asked")["settings"]["datasets"] == []


def test_an_ablation_may_have_data_sets_of_its_own():
    params = loading.check(changed(("ablation/contrast/datasets", ["diamonds", "cifar10"])))
    assert merging.ablation_datasets(params, "contrast") == ["diamonds"]  # cifar10 is not in the grid
    assert merging.ablation_datasets(params, "controls") == ["mnist", "diamonds"]
    written = resolved.resolved(params)
    for dataset, count in (("mnist", 0), ("diamonds", 4), ("spoken", 0)):
        assert len(written[Path("ablations", "contrast", f"{dataset}.json")]["variants"]) == count


def test_an_ablation_changes_what_it_says_and_nothing_else():
    params = loading.check(STUDY)
    variants = merging.variants(params, "model_size", "diamonds")
    found = {(value, cell.mix): settings for cell, value, settings in variants}
    plain = merging.resolve(params, Cell("diamonds", "augmented", "npair", "none"))
    assert found["unchanged", "none"] == plain and found["double", "none"].encoder.width == 2 * plain.encoder.width
    assert found["double", "none"].model_copy(update={"encoder": plain.encoder}) == plain
    digits = {value: settings for _, value, settings in merging.variants(params, "data_size", "mnist")}
    for name in ("epochs", "warmup_epochs"):
        assert getattr(digits["fifth_equal_steps"], name) == 5 * getattr(digits["fifth"], name)
    assert digits["fifth_equal_steps"].fraction == 0.2
    longer = {value: settings for _, value, settings in merging.variants(params, "training_length", "speech_commands")}
    assert (longer["unchanged"].milestones, longer["quadruple"].milestones) == ([300, 400], [1200, 1600])
    found = {value: s for cell, value, s in merging.variants(params, "augmentation", "diamonds") if cell.mix == "imix"}
    of_views = [(found[value].augmentation, found[value].inputmix) for value in ("unchanged", "none", "inputmix")]
    assert of_views == [("augmented", 0), ("clean", 0), ("clean", 2)]


@pytest.mark.parametrize(
    "factor,old,new", [("x2", 3, 6), ("x0.5", 3, 2), ("x0.1", 3, 1), ("x2", 0, 0), ("x0.5", 0.5, 0.25)]
)
def test_factors(factor, old, new):
    merged = merging.Merged()
    merged.add({"number": old, "list": [old, 2 * old]}, "first")
    merged.add({"number": factor, "list": factor}, "second")
    assert merged.settings["number"] == new and type(merged.settings["number"]) is type(old)
    assert merged.settings["list"][0] == new and merged.origin == {"number": "second", "list": "second"}


@pytest.mark.parametrize("name", REAL["ablation"])
def test_every_ablation_fits_a_data_set(name):
    """At least one of all that have a recipe."""
    kinds, params = set(), loading.load()
    for dataset in params.recipe:
        try:
            assert merging.variants(params, name, dataset)
        except UserError:
            continue
        kinds.add(merging.data(params, dataset).module.KIND)
    only = {"operators": {"image"}, "masking": {"tabular"}}
    assert kinds and kinds == only.get(name, kinds)


def test_no_supervised_cells():
    params = loading.check(changed(("grid/supervised", [])))
    assert params.grid.supervised_cells() == []
    assert not [path for path in resolved.resolved(params) if "supervised" in path.parts]
    assert len(loading.check(STUDY).grid.supervised_cells()) == 6


# --- the paper's recipes


SGD = {
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "learning_rate": 0.125,
    "embedding": 128,
    "mix_inputs": "first",
    "mix_depth": "input",
}
SGD |= {"mix_labels": True, "symmetric": False, "shared_lam": False, "fraction": 1.0}
SGD |= {"precision": "float32", "compile": False}
IMAGES = {
    "scale": [0.2, 1.0],
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "jitter_probability": 0.8,
    "grey_probability": 0.2,
    "flip_probability": 0.5,
}
CLIPS = {"probability": 0.5, "amplitude": [0.7, 1.1], "speed": 0.2, "stretch": 0.2, "shift": 8, "noise": 0.45}
RESNET50 = {"depth": 50, "width": 64, "stem_stride": 1}
EPOCHS = {  # plain, i-Mix
    ("cifar10", "augmented", "npair"): (2000, 4000), ("cifar10", "augmented", "moco"): (1000, 4000),
    ("cifar10", "augmented", "byol"): (1000, 2000), ("cifar100", "augmented", "npair"): (4000, 2000),
    ("cifar100", "augmented", "moco"): (1000, 2000), ("cifar100", "augmented", "byol"): (1000, 4000),
    ("cifar10", "clean", "moco"): (500, 1000), ("cifar100", "clean", "moco"): (1000, 500),
}  # fmt: skip


def published(dataset, augmentation, method, mix):
    """What the paper's table says of a cell: written out once more, in another form than params.yaml."""
    mixed, clean = mix != "none", augmentation == "clean"
    epochs = EPOCHS.get((dataset, augmentation, method), (500, 500))[mixed]
    wanted = SGD | {"epochs": epochs, "warmup_epochs": 10 if epochs > 500 else 5}
    wanted |= {
        "schedule": "cosine",
        "milestones": [],
        "alpha": 1.0 if mixed else None,
        "inputmix": 0,
        "groups": 2,
        "batch_size": 256,
    }
    if dataset in ("cifar10", "cifar100"):
        wanted |= {"encoder": RESNET50, "views": IMAGES, "inputmix": 2 * (clean and mixed)}
        heads, temperature = ("mlpbn" if method == "npair" else "mlpbn1", "mlpbn1"), 0.2
    elif dataset == "speech_commands":
        wanted |= {"encoder": RESNET50, "views": CLIPS, "schedule": "step", "milestones": [300, 400]}
        heads, temperature = ("mlpbn", "mlpbn1"), 0.2 if clean else 0.5
    else:
        masked = 0.0 if mixed and method != "npair" else 0.2
        wanted |= {"encoder": {"width": 1.0}, "views": {"masking": [masked, masked]}, "batch_size": 512, "groups": 1}
        wanted |= {"alpha": 2.0 if mixed else None}
        heads, temperature = ("mlpbn", "mlpbn"), 0.1
    wanted |= {"projection": heads[0]}
    if method != "byol":
        wanted |= {"temperature": temperature}
    if method != "npair":
        wanted |= {"ema": 0.999}
    if method == "moco":
        wanted |= {"queue": 4096, "contrast": "batch" if mixed else "own"}
    return wanted | ({"predictor": heads[1]} if method == "byol" else {})


@pytest.mark.parametrize("dataset", PUBLISHED)
@pytest.mark.parametrize("augmentation", ["augmented", "clean"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mix", ["none", "imix"])
def test_the_published_recipes(dataset, augmentation, method, mix):
    found = merging.resolve(loading.load(), Cell(dataset, augmentation, method, mix)).model_dump()
    if dataset in ("cifar10", "cifar100") and augmentation == "clean" and method != "moco":
        return  # not published
    wanted = published(dataset, augmentation, method, mix) | {"augmentation": augmentation, "mix": mix}
    if augmentation == "clean":
        del wanted["views"], found["views"]  # clean rows have none
    del found["knn_every"]
    assert found == wanted


def test_the_published_probe():
    for dataset in PUBLISHED:
        probe = merging.evaluation_settings(loading.load(), dataset)["probe"]
        image = dataset.startswith("cifar")
        assert (probe["rates"], probe["epochs"], probe["milestones"]) == ([1, 3, 5, 10, 30, 50, 70], 100, [80, 90, 95])
        assert (probe["batch_size"], probe["momentum"]) == (256, 0.9)
        assert (probe["copies"] > 0, probe["flip"]) == (image, image)


@pytest.mark.parametrize("dataset", ["speech_commands", "speech_commands_small", "spoken"])
def test_a_vote_of_neighbours_is_smaller_where_silence_is_a_class(dataset):
    """Silent clips have equal features: among 200 neighbours they would be most."""
    params = loading.load()
    rows, probe = merging.source_and_rows(params, dataset)[2], merging.evaluation_settings(params, dataset)["probe"]
    assert rows.silence > 0 and probe["neighbours"] == pretraining.MONITOR_NEIGHBOURS


@pytest.mark.parametrize("dataset", [n for n in REAL["recipe"] if n not in (*PUBLISHED, *merging.BASES)])
def test_plain_and_mixed_train_for_as_long(dataset):
    """Where the settings are ours, i-Mix has no more epochs than plain training."""
    params = loading.load()
    for augmentation, method in product(("augmented", "clean"), METHODS):
        cells = [merging.resolve(params, Cell(dataset, augmentation, method, mix)) for mix in ("none", "imix")]
        assert len({(cell.epochs, cell.learning_rate, cell.batch_size, cell.warmup_epochs) for cell in cells}) == 1


# --- the file and DVC


def test_dvc_writes_the_file_as_it_is(tmp_path):
    copied = shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(copied, ["grid.name=embedded"])
    assert Path(copied).read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert len(Path(copied).read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "change,lines",
    [
        ("grid.seeds=[0,1]", [f"-  - {seed}" for seed in REAL["grid"]["seeds"][2:]]),
        (
            "grid.datasets=[covtype_small]",
            [*(f"-  - {name}" for name in REAL["grid"]["datasets"]), "+  - covtype_small"],
        ),
        (
            "defaults.weight_decay=1e-5",
            ["-  weight_decay: 0.0001 # on every parameter", "+  weight_decay: 1e-05  # on every parameter"],
        ),
        ("recipe.covtype_small.epochs=25", ["-    epochs: 100", "+    epochs: 25"]),
    ],
)
def test_an_override_changes_only_its_lines(tmp_path, change, lines):
    copied, before = Path(shutil.copy(ROOT / "params.yaml", tmp_path)), (ROOT / "params.yaml").read_text().splitlines()
    apply_overrides(copied, [change])
    after = copied.read_text().splitlines()
    diff = difflib.unified_diff(before, after, lineterm="", n=0)
    assert [line for line in diff if line[:2] not in ("--", "++", "@@")] == lines
    key, value = change.split("=")
    found = loading.load(copied)
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == text.parse(value, "value")


def test_what_dvc_reads_is_what_is_read():
    from dvc.utils.serialize import load_yaml

    assert load_yaml(ROOT / "params.yaml") == REAL


# --- whatever is changed


def leaves(block, path=()):
    """Paths of all values that are no blocks."""
    if not isinstance(block, dict) or not block:
        return [path]
    return [leaf for key, value in block.items() for leaf in leaves(value, (*path, key))]


KEPT = ("mnist", "diamonds", "spoken", "cifar10_small", "cifar10", "covtype")
SMALL = copy.deepcopy(STUDY)  # checked in a third of the time
for each in ("data", "recipe"):
    SMALL[each] = {name: block for name, block in SMALL[each].items() if name in KEPT}
WRONG = [
    None,
    "wrong",
    "../x",
    "x3",
    -1,
    0,
    1,
    2,
    7,
    0.5,
    10**30,
    10**400,
    1e-320,
    1e308,
    math.inf,
    math.nan,
    True,
    [],
    [None],
    [1],
]
WRONG += [
    ["x", "x"],
    [0, 10**30],
    {},
    {"unknown": 1},
    {"imix": {}},
    {"like": "mnist"},
    "imix",
    "mnist",
    "clean",
    [["mnist"]],
    {1: 2},
    "a\nb",
]
WRONG += [{"moco": {"imix": {"epochs": 3}}}, {"none": 5}, {"clean": {"augmented": {}}}, {"probe": {"epochs": 2}}]


def harmless(params):
    """All that an accepted file asks for can be written, comes back as it was, and can be trained with."""
    for path, content in resolved.resolved(params).items():
        assert json.loads(json.dumps(content, allow_nan=False)) == content, path
    for dataset in params.grid.datasets:
        data = merging.data(params, dataset)
        assert min(data.form.fit, data.form.validation, data.form.test) >= 2
        assert data.module.Rows.model_validate_json(data.rows.model_dump_json()) == data.rows
        evaluation = json.loads(json.dumps(merging.evaluation_settings(params, dataset)))
        Probe.model_validate(evaluation.pop("probe"))
        domain_class(data.module.KIND).model_validate(evaluation)
    for cell in (*params.grid.cells(), *params.grid.supervised_cells()):
        able(cell, merging.resolve(params, cell), merging.data(params, cell.dataset))
    for name in params.ablations.run:
        for dataset in merging.ablation_datasets(params, name):
            for cell, _, settings in merging.variants(params, name, dataset):
                able(cell, settings, merging.data(params, dataset))


def able(cell, settings, data):
    rows = data.form.fit if cell.method == "supervised" else data.form.train
    assert training_class(cell.method, data.module.KIND).model_validate(settings.model_dump()) == settings
    assert 2 <= settings.batch_size <= rows and settings.batch_size // settings.groups >= 2
    steps = rows // settings.batch_size
    rates = [pretraining.learning_rate(step, steps, settings) for step in (0, steps, settings.epochs * steps - 1)]
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates) and rates[0] > 0
    assert (settings.mix == "none") == (settings.alpha is None) and settings.mix == cell.mix
    assert settings.mix != "icutmix" or data.module.KIND == "image"
    assert getattr(settings, "temperature", 1) > 1e-4 and getattr(settings, "queue", 10**6) >= settings.batch_size
    assert max(getattr(settings, "queue", 0), settings.embedding, settings.epochs) <= 10**7


@hypothesis.settings(max_examples=600, deadline=None, derandomize=True)
@hypothesis.given(strategies.sampled_from(leaves(SMALL)), strategies.integers(0, 5), strategies.sampled_from(WRONG))
def test_whatever_is_changed_is_harmless_or_refused_in_one_line(path, cut, value):
    """Any leaf, or a block above it, is set to something else: never a traceback, two lines, or no training."""
    keys = path[: max(1, len(path) - cut)]
    params = copy.deepcopy(SMALL)
    block = params
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    check_or_refuse(params)


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(
    strategies.sampled_from(["defaults", "recipe/mnist", "recipe/diamonds", "recipe/cifar10_small"]),
    strategies.lists(strategies.sampled_from(["augmented", "clean", "moco", "byol", "none", "imix"]), max_size=3),
    strategies.sampled_from(
        [
            *REAL["defaults"],
            *REAL["recipe"]["mnist"],
            "like",
            "contrast",
            "predictor",
            "mix",
            "augmentation",
            "unknown",
            "views",
        ]
    ),
    strategies.sampled_from(
        [*WRONG, 250, "mlp", "both", "hidden", "step", "own", 0.01, {"masking": [0, 0]}, {"depth": 34}, {"flip": True}]
    ),
)
def test_whatever_layer_is_added_is_harmless_or_refused_in_one_line(block, selectors, key, value):
    check_or_refuse(add(copy.deepcopy(SMALL), block.split("/") + selectors, key, value))


def add(params, path, key, value):
    block = params
    for part in path:
        block = block.setdefault(part, {})
    block[key] = value
    return params


def check_or_refuse(params):
    try:
        accepted = loading.check(params)
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and str(error).startswith("params.yaml: ") and len(str(error)) < 1500
    else:
        harmless(accepted)


def test_the_real_file_is_harmless():
    harmless(loading.load())


@pytest.mark.parametrize("path", [path for path in leaves(SMALL) if path[0] not in ("transfer",)][::5], ids="/".join)
def test_a_misspelt_key_is_refused_at_every_level(path):
    params = copy.deepcopy(SMALL)
    block = params
    for key in path[:-1]:
        block = block[key]
    block[f"{path[-1]}_x"] = block.pop(path[-1])
    if path[:2] in (("ablation", path[1]),) and path[2:3] == ("values",) and len(path) == 4:
        loading.check(params)  # the name of a value is free
    else:
        assert path[-1] in refusal(params)


# --- modules that are dropped in


DATASET = '''
"""Two blobs of points."""

from typing import Literal

import numpy as np

from imix.schema import Strict
from imix.sources import DrawnRows, Splits, carve, column_statistics, drawn_form, training_rows

KIND, CLASSES, ORIGIN, ARCHIVE = "tabular", ["left", "right"], "drawn at random", None


class Source(Strict):
    name: Literal["blobs"]


class Rows(DrawnRows):
    columns: int


def form(source, rows):
    groups = (rows.columns,)
    return drawn_form(rows, 500, classes=2, shape=groups, dtype="float32", column_groups=groups, numbers=rows.columns)


def fetch(source, folder):
    folder.mkdir(parents=True)


def read(source, rows, folder):
    labels = np.arange(500) % 2
    points = np.random.default_rng(0).normal(labels[:, None], 1, (500, rows.columns)).astype(np.float32)
    inputs, split = carve(points, labels, rows, folder)
    mean, std = column_statistics(training_rows(inputs))
    return Splits(inputs, split, CLASSES, mean, std, True, (rows.columns,), rows.columns)
'''
METHOD = '''
"""N-pair with a margin."""

from imix.methods import npair
from imix.methods.npair import Method
from imix.schema import Fraction

TITLE = "margin"


class Settings(npair.Settings):
    margin: Fraction
'''
BLOBS = {"source": {"name": "blobs"}, "rows": {"train": 200, "validation": 0.2, "test": 100, "seed": 0, "columns": 3}}


@pytest.fixture
def package(tmp_path):
    """A copy of the package with a data set, a method and settings that use them."""
    shutil.copytree(ROOT / "imix", tmp_path / "imix", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "imix/datasets/blobs.py").write_text(DATASET)
    (tmp_path / "imix/methods/arc.py").write_text(METHOD)
    own = {"batch_size": 50, "queue": 50, "arc": {"imix": {"margin": 0.5}}}
    params = changed(
        ("grid/datasets", ["blobs"]),
        ("grid/methods", ["npair", "arc"]),
        ("defaults/arc", {"projection": "mlpbn", "margin": 0.1}),
        ("data/blobs", BLOBS),
        ("recipe/blobs", STUDY["recipe"]["diamonds"] | own),
    )
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    return tmp_path


def settings_stage(folder):
    environment = os.environ | {"PYTHONPATH": str(folder)}
    code = "from imix.settings import loading, resolved; resolved.write(loading.load()); from pathlib import Path; "
    code += f"loading.load(Path({str(ROOT / 'params.yaml')!r}))"  # which knows nothing of the new modules
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_new_modules_are_known_without_a_list(package):
    done = settings_stage(package)
    assert done.returncode == 0, done.stderr
    assert json.loads((package / "data/settings/blobs/rows.json").read_text())["settings"] == BLOBS["rows"]
    cell = json.loads((package / "data/settings/blobs/augmented/arc/imix.json").read_text())
    plain = json.loads((package / "data/settings/blobs/augmented/arc/none.json").read_text())
    assert (plain["settings"]["margin"], cell["settings"]["margin"]) == (0.1, 0.5)
    assert cell["settings"]["views"] == {"masking": [0.2, 0.2]}


@pytest.mark.parametrize(
    "package,name,lacks",
    [
        *(("datasets", "mnist", key) for key in plugins.DECLARED["datasets"]),
        ("methods", "npair", "TITLE"),
        ("methods", "supervised", "Settings"),
        ("views", "image", "Encoder"),
        ("views", "tabular", "check_rows"),
    ],
)
def test_a_module_that_declares_too_little_is_refused(monkeypatch, package, name, lacks):
    monkeypatch.delattr(plugins.find(package, name), lacks)
    with pytest.raises(UserError) as error:
        plugins.find(package, name)
    wanted = ", ".join(plugins.DECLARED[package])
    line = f"imix/{package}/{name}.py: does not define {lacks}; a module of imix/{package} must define {wanted}"
    assert str(error.value) == line


def test_a_source_of_no_domain_is_refused(monkeypatch):
    monkeypatch.setattr(plugins.find("datasets", "mnist"), "KIND", "images")
    with pytest.raises(UserError, match=r"imix/datasets/mnist.py: KIND: no entry 'images' \(did you mean 'image'\?\)"):
        loading.check(STUDY)


def test_an_encoder_of_one_feature_is_refused():
    for path in ("recipe/diamonds/encoder/width", "recipe/diamonds/moco/imix/encoder/width"):
        line = refusal(changed((path, 0.0001)))
        where = path.removesuffix("/width").replace("/", ".")
        assert f"{where} = {{'width': 0.0001}}: makes 1 feature" in line and "must make 2 or more" in line
    loading.check(changed(("recipe/diamonds/encoder/width", 0.001), ("ablations/run", [])))


def test_settings_files_are_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolved.write(loading.check(STUDY))
    assert files.read("mnist", "augmented", "moco", "imix")["settings"]["contrast"] == "batch"
    assert files.read("mnist", "augmented", "moco", "imix")["seeds"] == [0, 1]
    for name, words in ((("mnist", "x"), "is not there"), (("grid",), "cannot be read")):
        if name == ("grid",):
            (tmp_path / "data/settings/grid.json").write_text("{")
        with pytest.raises(UserError, match=words):
            files.read(*name)


def test_all_modules_declare_what_they_must():
    for package in plugins.DECLARED:
        for name in plugins.names(package):
            plugins.find(package, name)


def test_a_new_field_with_a_default_breaks_no_old_study(monkeypatch):
    """Neither params.yaml, nor a cell's file of settings, nor an encoder's header has the field."""
    old = loading.load()
    cell = merging.resolve(old, Cell("diamonds", "clean", "npair", "imix")).model_dump()
    domain = {"kind": "tabular", "encoder": cell["encoder"], "views": cell["views"]}

    class Method(npair.Settings):
        novelty: float = 0.5

    class Encoder(tabular.Encoder.Settings):
        novelty: float = 0.5

    monkeypatch.setattr(npair, "Settings", Method)
    monkeypatch.setattr(tabular.Encoder, "Settings", Encoder)
    for cached in (domain_class, training_class):
        cached.cache_clear()
    try:
        now = merging.resolve(loading.load(), Cell("diamonds", "clean", "npair", "imix"))
        assert now.novelty == now.encoder.novelty == 0.5
        again = training_class("npair", "tabular").model_validate(cell)
        assert again == now and domain_class("tabular").model_validate(domain).encoder.novelty == 0.5
    finally:
        for cached in (domain_class, training_class):
            cached.cache_clear()
