import copy
import json
import math
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import strategies

from imix import pretraining, settings
from imix.errors import UserError

REAL = yaml.safe_load(Path(__file__).parents[1].joinpath("params.yaml").read_text())


def load(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return settings.load(path)


def changed(keys, value):
    params = copy.deepcopy(REAL)
    *path, last = keys.split("/")
    block = params
    for key in path:
        block = block[key]
    if value is KeyError:
        del block[last]
    else:
        block[last] = value
    return params


def test_the_real_file_is_valid_and_layers_merge():
    params = settings.load()
    cell = settings.resolve(params, "mnist", "moco", "imix")
    assert cell.momentum == REAL["pretrain"]["momentum"]
    assert cell.projection == REAL["method"]["moco"]["projection"]
    assert cell.batch_size == REAL["recipe"]["mnist"]["batch_size"]
    assert cell.alpha == REAL["cell"]["mnist"]["moco"]["imix"]["alpha"]


def test_later_layers_win(tmp_path):
    for layer in ("pretrain", "method/moco", "recipe/mnist", "cell/mnist/moco/imix"):
        params = load(tmp_path, changed(f"{layer}/weight_decay", 0.5))
        assert settings.resolve(params, "mnist", "moco", "imix").weight_decay == 0.5
    both = changed("recipe/mnist/weight_decay", 0.5)
    both["cell"]["mnist"]["moco"]["imix"]["weight_decay"] = 0.25
    assert settings.resolve(load(tmp_path, both), "mnist", "moco", "imix").weight_decay == 0.25


@pytest.mark.parametrize(
    "keys,value,words",
    [
        ("gird", {}, ["gird", "unknown key"]),
        ("grid/methods", ["mocco"], ["grid.methods", "'mocco'", "'npair', 'moco' or 'byol'"]),
        ("grid/datasets", ["mnits"], ["'mnits'", "did you mean 'mnist'"]),
        ("grid/datasets", ["../x"], ["grid.datasets", "lower-case letters"]),
        ("grid/datasets", [], ["grid.datasets", "at least 1"]),
        ("grid/seeds", [0, 0], ["seeds [0, 0] names a value twice"]),
        ("grid/seeds", [-1], ["grid.seeds", "-1", "whole number from 0 to 2,147,483,647"]),
        ("grid/seeds", ["a"], ["grid.seeds", "'a'", "whole number"]),
        ("pretrain/momentun", 0.9, ["pretrain.momentun", "did you mean 'momentum'"]),
        ("pretrain/momentum", 1.5, ["pretrain.momentum = 1.5", "number from 0 to 0.99999"]),
        ("pretrain/momentum", KeyError, ["momentum", "is missing"]),
        ("pretrain/schedule", "linear", ["pretrain.schedule", "'cosine' or 'step'"]),
        ("pretrain/schedule", "step", ["milestones"]),
        ("pretrain/symmetric", True, ["symmetric must be false"]),
        ("recipe/speech_commands/milestones", [300, 500], ["milestones [300, 500] must lie below epochs 500"]),
        ("pretrain/groups", 3, ["groups 3 must divide batch_size"]),
        ("method/moco/projection", "mlpbn2", ["method.moco.projection", "mlpbn"]),
        ("recipe/mnist/encoder/depth", 20, ["recipe.mnist.encoder.depth = 20", "18"]),
        ("recipe/mnist/encoder/kind", "vit", ["recipe.mnist.encoder", "resnet"]),
        ("recipe/mnist/views/scale", [0.5, 0.2], ["recipe.mnist.views", "scale [0.5, 0.2]"]),
        ("recipe/segment/encoder", {"kind": "resnet", "depth": 18, "width": 8, "stem_stride": 1}, ["segment", "'mlp' goes with 'tabular'"]),
        ("cell/mnist/npair/imix/temperature", 0, ["cell.mnist.npair.imix.temperature = 0", "number from 0.001 to 1000"]),
        ("cell/mnist/npair/imix/temperature", "0.2", ["cell.mnist.npair.imix.temperature = '0.2'", "number"]),
        ("cell/mnist/npair/imix/alpha", float("nan"), ["cell.mnist.npair.imix.alpha", "from 0.01 to 1000"]),
        ("cell/mnist/npair/imix/alpha", KeyError, ["cell.mnist.npair.imix.alpha", "is missing"]),
        ("cell/mnist/npair/none/alpha", 1.0, ["cell.mnist.npair.none.alpha", "mixing cells only"]),
        ("cell/mnist/npair/none/epochs", -5, ["cell.mnist.npair.none.epochs = -5", "whole number from 1 to 1,000,000"]),
        ("cell/mnist/npair/none/epochs", True, ["cell.mnist.npair.none.epochs = True", "whole number"]),
        ("cell/mnist/byol/none/temperature", 0.1, ["cell.mnist.byol.none.temperature", "unknown key"]),
        ("cell/mnist/moco/none/contrast", "all", ["cell.mnist.moco.none.contrast", "'own' or 'batch'"]),
        ("cell/segment/npair/icutmix", {"epochs": 60, "temperature": 0.1, "alpha": 1.0}, ["CutMix cuts images", "segment"]),
        ("probe/mnist/rates", [], ["probe.mnist.rates", "at least 1"]),
        ("probe/segment/copies", 3, ["probe.segment.copies = 3", "only images"]),
        ("data/mnist/rows/validation", 1.0, ["data.mnist.rows.validation = 1.0", "above 0 and below 1"]),
        ("data/mnist/source/name", "minst", ["data.mnist", "'minst'"]),
        ("data/cifar10/rows/trian", 5, ["data.cifar10.rows.trian", "did you mean 'train'"]),
        ("data/covtype/rows/standardise", "test", ["data.covtype.rows.standardise", "'train' or 'all'"]),
        ("sources/cifar10/checksum", "abc", ["sources.cifar10.checksum = 'abc'", "official"]),
        ("sources/mnist", {"checksum": None}, ["sources.mnist", "'cifar10'"]),
        ("grid/name", "../x", ["grid.name", "lower-case letters"]),
    ],
)
def test_refused_in_one_line(tmp_path, keys, value, words):
    with pytest.raises(UserError) as error:
        load(tmp_path, changed(keys, value))
    message = str(error.value)
    assert "\n" not in message and "params.yaml" in message
    for word in words:
        assert word in message, message


def test_an_ablation_changes_what_it_says_and_nothing_else():
    params = settings.load()
    found = {
        (v.value, v.mix): v.pretraining()
        for dataset in ("mnist", "segment")
        for v in settings.variants(params, "model_size", dataset).variants
        if dataset == "segment"
    }
    plain = settings.resolve(params, "segment", "npair", "none")
    assert found["unchanged", "none"] == plain
    assert found["double", "none"].encoder.width == 2 * plain.encoder.width
    assert found["double", "none"].model_copy(update={"encoder": plain.encoder}) == plain
    digits = {v.value: v.pretraining() for v in settings.variants(params, "data_size", "mnist").variants}
    for name in ("epochs", "warmup_epochs"):
        assert getattr(digits["fifth_steps"], name) == 5 * getattr(digits["fifth"], name)
    assert digits["fifth_steps"].fraction == 0.2
    longer = {v.value: v.pretraining() for v in settings.variants(params, "training_length", "speech_commands").variants}
    assert (longer["unchanged"].milestones, longer["quadruple"].milestones) == ([300, 400], [1200, 1600])


@pytest.mark.parametrize("name", settings.load().ablation)
def test_every_ablation_fits_every_data_set_of_its_domain(name):
    params = settings.load()
    for dataset in ("mnist", "spoken", "segment", "cifar10", "cifar10_small", "speech_commands", "covtype", "covtype_small"):
        kind = settings.domain(params, dataset).views.kind
        if kind != {"operators": "image", "masking": "tabular"}.get(name, kind) or (name == "model_depth" and kind == "tabular"):
            continue
        assert settings.variants(params, name, dataset).variants


@pytest.mark.parametrize(
    "keys,value,words",
    [
        ("ablations/run", ["modelsize"], ["ablation: no entry 'modelsize'", "did you mean 'model_size'"]),
        ("ablations/run", ["contrast", "contrast"], ["run ['contrast', 'contrast'] names a value twice"]),
        ("ablations/datasets", ["cifar10"], ["ablations.datasets: 'cifar10' is not in grid.datasets"]),
        ("ablations/datasets", [], ["datasets or seeds are empty"]),
        ("ablation/model_size/values/half", {"encoder": {"widht": 3}}, ["ablation.model_size.values.half.encoder", "widht", "unknown key"]),
        ("ablation/model_size/values/half", {"encoder": {"kind": "x2"}}, ["model_size.values.half.encoder.kind = 'x2'", "no number"]),
        ("ablation/controls/values/inputs_only", {"mix_labels": False, "mix_inputs": "neither"}, ["mix_labels false: that is mix 'none'"]),
        ("ablation/controls/values/inputs_only", {"mix": "none"}, ["ablation.controls.values.inputs_only.mix: unknown key"]),
        ("ablation/data_size/values/half", {"fraction": 0}, ["ablation.data_size.values.half.fraction = 0", "from 0.0001 to 1"]),
        ("ablation/contrast/values/own", {"symmetric": True}, ["symmetric must be false"]),
        ("ablation/model_size/values/half", {"groups": "x0.5"}, ["model_size.values.half.groups = 'x0.5': leaves 1 as it is"]),
        ("ablation/model_size/values/half", {"epochs": "x0"}, ["model_size.values.half.epochs = 'x0': must multiply by more than 0"]),
        (
            "ablation/model_size/values/half",
            {"epochs": "x0.1"},
            ["warmup_epochs", "(with ablation.model_size.values.half)"],
        ),
        ("ablation/model_size/values/half", {"jitter": "x2"}, ["model_size.values.half.jitter = 'x2': there is no number"]),
        ("ablation/data_size/axis", "columns", ["ablation.data_size.axis", "'rows'"]),
    ],
)
def test_ablations_refused_in_one_line(tmp_path, keys, value, words):
    with pytest.raises(UserError) as error:
        load(tmp_path, changed(keys, value))
    assert "\n" not in str(error.value) and "params.yaml" in str(error.value)
    for word in words:
        assert word in str(error.value), error.value


@pytest.mark.parametrize(
    "keys,value,words",
    [
        ("transfer/pairs", [{"pretrained_on": "mnist", "probed_on": "spoken"}], ["transfer.pairs.0: mnist to spoken", "must both be"]),
        ("transfer/pairs", [{"pretrained_on": "mnits", "probed_on": "mnist"}], ["transfer.pairs.0", "'mnits'", "did you mean 'mnist'"]),
        ("transfer/pairs", [{"pretrained_on": "mnist", "probed_on": "mnist"}], ["mnist to itself is no transfer"]),
        ("projection/perplexity", 400, ["projection", "perplexity 400.0 must be at most a third of rows 1000"]),
        ("data/encoders", {"source": {"name": "mnist"}, "rows": {}}, ["data.encoders", "take another name"]),
        ("data/trainings", {"source": {"name": "mnist"}, "rows": {}}, ["data.trainings", "take another name"]),
    ],
)
def test_transfer_and_projection_refused_in_one_line(tmp_path, keys, value, words):
    with pytest.raises(UserError) as error:
        load(tmp_path, changed(keys, value))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), error.value


@pytest.mark.parametrize(
    "text,word",
    [("", "mapping"), ("- 1", "mapping"), ("grid: [", "not YAML"), ("\tgrid: 1", "not YAML"), ("grid: 1\ngrid: 2", "stands twice")],
)
def test_not_the_yaml_it_should_be(tmp_path, text, word):
    with pytest.raises(UserError, match=word):
        load(tmp_path, text)


def test_small_numbers_as_dvc_writes_them(tmp_path):
    text = Path("params.yaml").read_text().replace("weight_decay: 0.0001", "weight_decay: 1e-05")
    assert load(tmp_path, text).pretrain["weight_decay"] == 1e-5


def leaves(block, path=()):
    """Paths of all values that are no blocks."""
    if not isinstance(block, dict) or not block:
        return [path]
    return [leaf for key, value in block.items() for leaf in leaves(value, (*path, key))]


WRONG = [None, "wrong", "../x", "x3", -1, 0, 1, 2, 7, 0.5, 10**30, 10**400, 1e-320, 1e308, math.inf, math.nan, True, [], [None], [1]]
WRONG += [["x", "x"], [0, 10**30], {}, {"unknown": 1}, {"kind": "mlp"}, "imix", "mnist", [["mnist"]], {1: 2}, "a\nb"]


def harmless(params):
    """Everything that an accepted file asks for can be handed to the stages, comes back as it was, and can be trained with."""
    for path, content in settings.resolved(params).items():
        assert json.loads(json.dumps(content, allow_nan=False)) == content, path
    for dataset in params.grid.datasets:
        source, rows = settings.data(params, dataset)
        counts = settings.splits(source, rows)
        assert min(counts.values()) >= 1
        settings.ROWS[source.name].model_validate_json(rows.model_dump_json())
        settings.Evaluation.model_validate_json(settings.evaluation(params, dataset).model_dump_json())
        cells = [settings.resolve(params, dataset, method, mix) for method in params.grid.methods for mix in params.grid.mixes]
        for cell in cells:
            assert type(cell).model_validate_json(cell.model_dump_json()) == cell
            able(cell, counts["train"])
    for name in params.ablations.run:
        for dataset in params.ablations.datasets:
            rows = settings.splits(*settings.data(params, dataset))["train"]
            for variant in settings.variants(params, name, dataset).variants:
                able(variant.pretraining(), rows)


def able(cell, rows):
    assert 2 <= cell.batch_size <= rows and cell.batch_size % cell.groups == 0 and cell.batch_size // cell.groups >= 2
    steps = rows // cell.batch_size
    rates = [pretraining.learning_rate(step, steps, cell) for step in (0, steps, cell.epochs * steps - 1)]
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates) and rates[0] > 0
    assert cell.views.kind in ("image", "speech", "tabular") and (cell.mix == "none") == (cell.alpha is None)
    assert cell.mix != "icutmix" or cell.views.kind == "image"
    assert getattr(cell, "temperature", 1) > 1e-4 and getattr(cell, "queue", cell.batch_size) >= cell.batch_size
    assert max(getattr(cell, "queue", 0), cell.embedding, cell.epochs) <= 10**7


@hypothesis.settings(max_examples=1000, deadline=None, derandomize=True)
@hypothesis.given(strategies.sampled_from(leaves(REAL)), strategies.integers(0, 5), strategies.sampled_from(WRONG))
def test_whatever_is_changed_is_harmless_or_refused_in_one_line(path, cut, value):
    """Any leaf, or a block above it, becomes something else: never a traceback, never two lines, never what cannot be trained."""
    keys = path[: max(1, len(path) - cut)]
    params = copy.deepcopy(REAL)
    block = params
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    try:
        accepted = settings.check(params)
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and str(error).startswith("params.yaml: ") and len(str(error)) < 1500
    else:
        harmless(accepted)


def test_the_real_file_is_harmless():
    harmless(settings.load())


@pytest.mark.parametrize(
    "path", [path for path in leaves(REAL) if path[0] in ("pretrain", "method", "recipe", "cell", "probe", "grid", "data")][::7]
)
def test_a_misspelt_key_is_refused_at_every_level(tmp_path, path):
    params = copy.deepcopy(REAL)
    block = params
    for key in path[:-1]:
        block = block[key]
    block[f"{path[-1]}x"] = block.pop(path[-1])
    with pytest.raises(UserError) as error:
        load(tmp_path, params)
    assert "\n" not in str(error.value) and f"{path[-1]}" in str(error.value)


def test_digits_do_not_transfer_to_colour_images(tmp_path):
    params = changed("transfer/pairs", [{"pretrained_on": "mnist", "probed_on": "cifar10_small"}])
    params["grid"]["datasets"] = ["mnist", "cifar10_small"]
    params["ablations"]["run"] = []
    with pytest.raises(UserError, match="mnist to cifar10_small: must both be"):
        load(tmp_path, params)
    params["transfer"]["pairs"] = [{"pretrained_on": "cifar10_small", "probed_on": "cifar100_small"}]
    params["grid"]["datasets"] = ["cifar10_small", "cifar100_small"]
    assert load(tmp_path, params).transfer.pairs[0].probed_on == "cifar100_small"


def test_changes_are_read_as_dvc_reads_them():
    params = settings.load(changes={"pretrain.weight_decay": "1e-5", "grid.seeds": "[3]", "ablations.run": "[]"})
    assert params.pretrain["weight_decay"] == 1e-5 and params.grid.seeds == [3]
