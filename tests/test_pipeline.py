"""The pipeline on a clone with a small study: what runs, what becomes stale, what is trained, what comes out."""

import csv
import json
import shutil

from tests import clones

CELLS = {f"{dataset}-clean-moco-{mix}" for dataset in ("diamonds", "other") for mix in ("none", "imix")}
EVALUATED = {f"evaluate@{cell}" for cell in CELLS} | {"baseline@diamonds", "baseline@other"}
EVALUATED |= {f"transfer@pair0-clean-moco-{mix}" for mix in ("none", "imix")}
SUPERVISED = {"supervised@diamonds-clean-none", "supervised@other-clean-none"}
ABLATED = {"ablate@contrast-diamonds", "ablate@contrast-other"}
REPORTS = {"report@clone", "report_ablation@clone-contrast"}
REPORTS |= {f"{stage}{dataset}" for stage in ("project@clone-", "best@") for dataset in ("diamonds", "other")}
DATA = {f"{stage}@{dataset}" for stage in ("fetch", "preprocess") for dataset in ("diamonds", "other")}
ALL = {f"pretrain@{cell}" for cell in CELLS} | EVALUATED | SUPERVISED | ABLATED | REPORTS | DATA | {"settings"}
MOCO = "diamonds-clean-moco-imix"  # one cell
TEMPERATURE = "recipe.diamonds.moco.imix.temperature"  # of that cell alone


def stale(folder):
    """Return what would run once the parameters are resolved."""
    clones.run(folder, "dvc", "repro", "settings")
    return set(json.loads(clones.run(folder, "dvc", "status", "--json").splitlines()[0]))  # then what it warns of


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_everything_runs_once(study):
    folder, ran = study
    assert ran == ALL
    assert clones.repro(folder) == set()
    assert clones.git(folder, "status", "--porcelain") == ""
    assert clones.git(folder, "ls-files", "data").split() == ["data/README.md", "data/ablations/.gitkeep"]


def test_a_variant_that_equals_a_cell_is_not_trained_again(study):
    """Of `contrast`, own is what the plain cell has, batch what the mixing one has."""
    grid, ablation = 4 + 2, 2 * 2
    assert len(clones.trainings(study[0])) == grid + ablation - 2


def test_reports_are_whole(study):
    folder = study[0]
    rows = list(csv.DictReader((folder / "reports/clone/results.csv").open()))
    assert len(rows) == 4 + 2 + 2 * 2  # cells, supervised ones, baselines
    assert len(list(csv.DictReader((folder / "reports/clone/transfer.csv").open()))) == 2
    drawn = [f"{name}.{kind}" for name in ("gains", "curves") for kind in ("csv", "png", "svg")]
    for name in ("index.html", "results.tex", "results.md", "metrics.json", "settings.json", *drawn):
        assert (folder / "reports/clone" / name).stat().st_size > 100
    assert json.loads((folder / "reports/clone/cost.json").read_text())["diamonds"]["known"] == 3
    drawn = ("projections/diamonds.png", "projections/other.svg")
    for name in ("ablations/contrast.md", "ablations/contrast.csv", *drawn):
        assert (folder / "reports/clone" / name).stat().st_size > 100


def test_dvc_has_something_to_show(clone):
    (shown,) = json.loads(clones.run(clone, "dvc", "metrics", "show", "--json"))[""]["data"].values()
    assert shown["data"]["best"].keys() == {"diamonds", "other"}
    clones.run(clone, "dvc", "plots", "show")
    page = (clone / "dvc_plots/index.html").read_text()
    assert "gains" in page and "curves" in page
    assert f"pretrain@{MOCO}" in clones.run(clone, "dvc", "dag", "--dot")


def test_one_cells_parameter_there_and_back(clone):
    """By `dvc exp run` in a clean tree. Back again, DVC's run-cache has it all, also where the store is gone."""
    before = clones.trainings(clone)
    said = clones.run(clone, "dvc", "exp", "run", "-S", f"{TEMPERATURE}=0.3")
    reports = {"report@clone", "project@clone-diamonds"}
    changed = {"settings", f"pretrain@{MOCO}", f"evaluate@{MOCO}", "transfer@pair0-clean-moco-imix"}
    # the ablation changes this cell, too
    ablation = {"ablate@contrast-diamonds", "report_ablation@clone-contrast"}
    assert clones.stages_run(said) == changed | reports | ablation | {"best@diamonds", "best@other"}
    # the cell, which is an ablation's variant as well, and another variant
    assert before < clones.trainings(clone) and len(clones.trainings(clone)) == len(before) + 2
    assert "0.3" in clones.run(clone, "dvc", "exp", "show", "--csv")
    (clone / ".imix").rename(clone / ".imix_aside")
    clones.change(clone, TEMPERATURE, 0.1)
    said = clones.run(clone, "dvc", "repro")
    assert clones.stages_run(said) == reports | {"report_ablation@clone-contrast"}  # which git keeps, not DVC
    assert clones.stages_restored(said) >= {"settings", f"pretrain@{MOCO}", f"evaluate@{MOCO}"}
    assert clones.trainings(clone) == set()
    changed = {*clones.git(clone, "status", "--porcelain", "reports").split()} - {"M"}
    assert changed <= {"reports/clone/cost.json", "reports/clone/cost.js"}
    (clone / ".imix_aside").rename(clone / ".imix")


def test_a_seed_more_trains_one_and_a_seed_less_none(clone):
    target, folder = f"evaluate@{MOCO}", clone / "data/encoders/diamonds/clean/moco/imix"
    cell = {f"pretrain@{MOCO}", target}
    before, zero = clones.trainings(clone), (folder / "0.safetensors").read_bytes()
    clones.change(clone, "grid.seeds", [0, 1])
    assert clones.repro(clone, target) == cell | {"settings"}
    added = clones.trainings(clone)
    assert before < added and len(added) == len(before) + 1
    assert (folder / "0.safetensors").read_bytes() == zero
    clones.change(clone, "grid.seeds", [1])
    assert clones.repro(clone, target) == cell | {"settings"}
    assert clones.trainings(clone) == added and [path.name for path in folder.iterdir()] == ["1.safetensors"]
    clones.change(clone, "grid.seeds", [0])
    assert clones.repro(clone, target) == set()
    assert clones.trainings(clone) == added and (folder / "0.safetensors").read_bytes() == zero


def test_a_probe_trains_nothing(clone):
    clones.change(clone, "recipe.diamonds.probe", clones.PROBE | {"neighbours": 3})
    labels = "supervised@diamonds-clean-none"  # which trains and evaluates
    evaluated = {name for name in EVALUATED if "@diamonds" in name} | {labels, "ablate@contrast-diamonds"}
    assert stale(clone) == evaluated | {"report@clone", "project@clone-diamonds", "best@diamonds"}
    before = clones.trainings(clone)
    assert clones.repro(clone, labels) == {labels}
    assert clones.trainings(clone) == before


def test_comments_and_docstrings_make_nothing_stale(clone):
    edit(clone / "imix/pretraining.py", '"""The training loop', '"""Another docstring. The training loop')
    edit(clone / "imix/views/tabular.py", "class Views:\n", "class Views:  # a comment\n")
    edit(clone / "stages/evaluate.py", "def main", "# a comment\ndef main")
    assert stale(clone) == set()


def test_code_of_reports_makes_reports_alone_stale(clone):
    edit(clone / "imix/reporting/tables.py", '"""', '"""Another. ')
    assert stale(clone) == REPORTS


TOY_DATA = '''
"""Two blobs of random numbers."""

from typing import Literal

import numpy as np

from imix.files import write_bytes
from imix.schema import Strict
from imix.sources import DrawnRows, Splits, carve, column_statistics, drawn_form, training_rows

KIND = "tabular"
CLASSES = ["left", "right"]
COLUMN_GROUPS = (4,)
NUMBERS = 4
ORIGIN = "random numbers"
ARCHIVE = None


class Source(Strict):
    name: Literal["toy"]
    shift: float


class Rows(DrawnRows):
    """A seeded choice."""


def form(source, rows):
    table = {"shape": (4,), "dtype": "float32", "column_groups": COLUMN_GROUPS, "numbers": NUMBERS}
    return drawn_form(rows, 200, classes=2, **table)


def fetch(source, folder):
    numbers = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    write_bytes(folder / "toy.bin", (numbers + source.shift * (np.arange(200) % 2)[:, None]).astype("<f4").tobytes())


def read(source, rows, folder):
    numbers = np.frombuffer((folder / "toy.bin").read_bytes(), "<f4").reshape(200, 4)
    inputs, labels = carve(numbers, np.arange(200) % 2, rows, folder)
    mean, std = column_statistics(training_rows(inputs))
    return Splits(inputs, labels, CLASSES, mean, std, carved=True, column_groups=list(COLUMN_GROUPS), numbers=NUMBERS)
'''
TOY_METHOD = '''
"""N-pair with labels smoothed."""

from imix.methods import npair

TITLE = "Toy"


class Settings(npair.Settings):
    """N-pair's, and how much the loss is scaled."""

    scale: float


class Method(npair.Method):
    """N-pair with another scale."""

    def forward(self, anchors, keys, generator):
        loss = super().forward(anchors, keys, generator)
        return lambda labels: self.settings.scale * loss(labels)
'''


def test_a_data_set_and_a_method_of_ones_own(clone):
    """Two new files, and blocks in params.yaml; then a study without labels and without ablations."""
    (clone / "imix/datasets/toy.py").write_text(TOY_DATA)
    (clone / "imix/methods/toy.py").write_text(TOY_METHOD)
    params = clones.read_params(clone)
    params["defaults"]["toy"] = {"scale": 0.5, "projection": "mlpbn"}
    clones.write_params(clone, params)
    assert stale(clone) <= REPORTS  # no cell
    rows = {"train": 100, "validation": 0.2, "test": 60, "seed": 0}
    params["data"]["toy"] = {"source": {"name": "toy", "shift": 1.5}, "rows": rows}
    params["recipe"]["toy"] = {
        "encoder": {"width": 0.0625}, "views": {"masking": [0.2, 0.2]}, "epochs": 2, "warmup_epochs": 0,
        "batch_size": 20, "queue": 40, "probe": clones.PROBE,
    }  # fmt: skip
    params["grid"] |= {"name": "toys", "datasets": ["toy"], "methods": ["toy"], "mixes": ["imix"], "supervised": []}
    params["transfer"]["pairs"], params["ablations"]["run"] = [], []
    clones.write_params(clone, params)
    rest = {"fetch@toy", "preprocess@toy", "baseline@toy", "report@toys", "project@toys-toy", "best@toy"}
    ran = clones.repro(clone)
    assert ran == {"settings", "pretrain@toy-clean-toy-imix", "evaluate@toy-clean-toy-imix"} | rest
    (trained,) = [row for row in csv.DictReader((clone / "reports/toys/results.csv").open()) if row["method"] == "toy"]
    assert float(trained["linear_accuracy"]) > 60
    assert "Toy" in (clone / "reports/toys/results.md").read_text()
    changed = clones.git(clone, "status", "--porcelain").splitlines()
    new = {"?? imix/datasets/toy.py", "?? imix/methods/toy.py", "?? reports/toys/"}
    assert set(changed) == new | {" M params.yaml", " M dvc.lock"}
    assert (clone / "reports/toys/projections/toy.png").exists()
    shutil.rmtree(clone / "reports/toys")
