"""The pipeline itself, on a copy of the repository with a tiny grid: what runs, what becomes stale, what comes out."""

import copy
import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from imix import settings
from tests.conftest import ROOT

TINY = {"name": "tiny", "datasets": ["segment"], "methods": ["npair", "moco"], "mixes": ["none", "imix"], "seeds": [0]}
CELLS = [f"segment-{method}-{mix}" for method in ("npair", "moco") for mix in ("none", "imix")]

# every block that a table can have, cut down to one method
BLOCKS = [name for name in settings.load(ROOT / "params.yaml").ablation if name not in ("operators", "model_depth")]
TRAININGS = {f"pretrain@{cell}-0" for cell in CELLS} | {"supervised@segment-0"}
JUDGED = {f"evaluate@{cell}" for cell in CELLS} | {"baseline@segment"}
ABLATIONS = {f"ablate@{name}-segment-0" for name in BLOCKS}
REPORTS = {"report@tiny", "project@segment", "report_ablations"}


class Copy:
    """A copy of the repository in a folder of its own, as a user's clone is."""

    def __init__(self, folder: Path, environment: dict):
        self.folder, self.environment = folder, environment

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def stages_run(self, *command: str) -> set[str]:
        return {line.split("'")[1] for line in self.run(*command).splitlines() if line.startswith("Running stage")}

    def stale(self) -> set[str]:
        """What would run, once the parameters are resolved."""
        self.run("dvc", "repro", "settings")
        return {stage for stage in json.loads(self.run("dvc", "status", "--json")) if not stage.startswith("report")}

    def params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def set(self, key: str, value: object) -> None:
        params = block = self.params()
        *path, last = key.split(".")
        for name in path:
            block = block[name]
        assert block[last] != value
        block[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("clone")
    for name in ("imix", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "README.md", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    copy = Copy(folder, environment)
    params = copy.params() | {"grid": TINY}
    params["pretrain"] |= {"warmup_epochs": 0}
    params["projection"] |= {"rows": 200}
    params["ablations"] = {"run": BLOCKS, "datasets": ["segment"], "seeds": [0]}
    for block in params["ablation"].values():
        block["methods"] = block["methods"][:1]
    params["ablation"]["equal_epochs"]["values"]["equal"]["epochs"] = 3
    for mixes in params["cell"]["segment"].values():
        for cell in mixes.values():
            cell["epochs"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (["init", "-q"], ["config", "user.email", "test@example.org"], ["config", "user.name", "test"]):
        copy.run("git", *command)
    copy.run("dvc", "init", "-q")
    copy.run("dvc", "config", "core.analytics", "false")
    ran = copy.stages_run("dvc", "repro")
    assert ran == TRAININGS | JUDGED | ABLATIONS | REPORTS | {"settings", "fetch@segment", "preprocess@segment"}
    copy.run("git", "add", "-A")
    copy.run("git", "commit", "-qm", "first")
    return copy


@pytest.fixture
def kept(clone):
    """Put params.yaml and what was resolved from it back after the test."""
    names = ("params.yaml", "dvc.lock")
    before = [(clone.folder / name).read_bytes() for name in names]
    yield clone
    for name, content in zip(names, before, strict=True):
        (clone.folder / name).write_bytes(content)
    clone.run("dvc", "checkout", "-q", "--force", "settings")


def test_a_second_run_runs_nothing(clone):
    assert clone.stages_run("dvc", "repro") == set()


def test_the_plan_leaves_out_what_need_not_run(clone):
    def left(*changes: str) -> dict[str, str]:
        output = clone.run("python", "-m", "imix", "plan", "--rate", "1e12", *(word for change in changes for word in ("-S", change)))
        rows = [re.split(r"  +", line) for line in output.splitlines()[1:9]]
        return {row[0].split(" (")[0]: row[1] + ", " + row[2] for row in rows}

    blocks = clone.params()["ablation"]
    ablated = sum(len(blocks[name]["values"]) * len(blocks[name]["mixes"]) for name in BLOCKS)
    assert left()["total"] == f"0 of {len(TRAININGS | JUDGED | ABLATIONS | REPORTS) + 3}, 0 of {5 + ablated}"
    changed = left("cell.segment.moco.imix.temperature=0.3", "ablation.mixing.values.half.alpha=0.3")
    assert (changed["data"], changed["pretrain"], changed["evaluate"]) == ("0 of 2, -", "1 of 5, 1 of 5", "1 of 5, -")
    assert left("grid.seeds=[0, 1]")["report"] == "2 of 3, -"  # not the ablations'
    assert changed["ablate"] == f"2 of {len(ABLATIONS)}, 3 of {ablated}"  # `contrast` asks the changed cell two questions


def test_git_sees_no_data(clone):
    assert not [line for line in clone.run("git", "status", "--porcelain", "-uall").splitlines() if "data/" in line]


def test_results_are_tidy_and_whole(clone):
    rows = list(csv.DictReader((clone.folder / "reports/tiny/results.csv").open()))
    assert len(rows) == 3 + 4
    wanted = (
        "dataset, method, mix, seed, linear_accuracy, linear_accuracy_test_selected, balanced_accuracy, knn_accuracy, epochs, train_seconds"
    )
    assert set(wanted.split(", ")) <= set(rows[0])
    assert all(14 < float(row["linear_accuracy"]) <= float(row["linear_accuracy_test_selected"]) <= 100 for row in rows)
    assert {row["epochs"] for row in rows if row["method"] != "baseline"} == {"2"}
    for name in ("results.md", "gains.png", "gains.svg", "curves.png", "curves.svg", "metrics.json"):
        assert (clone.folder / "reports/tiny" / name).stat().st_size > 100
    provenance = json.loads((clone.folder / "data/trainings/segment/npair/imix/0/provenance.json").read_text())
    assert {"settings", "versions", "device", "threads", "git", "seconds"} <= set(provenance)


def test_dvc_has_something_to_show(clone):
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))
    assert "linear_accuracy" in json.dumps(shown)
    clone.run("dvc", "plots", "show")
    page = (clone.folder / "dvc_plots/index.html").read_text()
    assert "gains" in page and "curves" in page
    assert "pretrain@segment-npair-imix-0" in clone.run("dvc", "dag", "--dot")


@pytest.mark.parametrize(
    "key,value,stale",
    [
        ("data.spoken.source.seed", 1, set()),
        ("data.segment.rows.seed", 1, {"preprocess@segment"}),
        ("data.mnist.rows.seed", 1, set()),
        ("pretrain.momentum", 0.8, TRAININGS | ABLATIONS),
        ("projection.rows", 500, {"project@segment"}),
        ("ablation.contrast.mixes", ["imix"], {"ablate@contrast-segment-0"}),
        (
            "method.moco.projection",
            "linear",
            {f"pretrain@{cell}-0" for cell in CELLS if "moco" in cell} | {"ablate@contrast-segment-0"},
        ),
        ("method.byol.projection", "linear", set()),
        ("cell.segment.supervised.none.epochs", 3, {"supervised@segment-0", "ablate@supervised-segment-0"}),
        ("recipe.segment.batch_size", 100, TRAININGS | ABLATIONS),
        ("recipe.segment.views.masking", [0.1, 0.1], TRAININGS | JUDGED | ABLATIONS),
        ("recipe.mnist.batch_size", 25, set()),
        ("cell.segment.moco.imix.temperature", 0.3, {"pretrain@segment-moco-imix-0", "ablate@contrast-segment-0"}),
        ("cell.segment.byol.imix.ema", 0.5, set()),
        ("probe.segment.neighbours", 3, JUDGED | ABLATIONS),
        ("probe.mnist.neighbours", 3, set()),
    ],
)
def test_exactly_what_uses_a_parameter_becomes_stale(kept, key, value, stale):
    kept.set(key, value)
    assert kept.stale() == stale


@pytest.mark.parametrize("name", BLOCKS)
def test_exactly_one_ablation_becomes_stale(kept, name):
    value, change = list(kept.params()["ablation"][name]["values"].items())[-1]
    kept.set(f"ablation.{name}.values.{value}", change | {"weight_decay": 0.01})
    assert kept.stale() == {f"ablate@{name}-segment-0"}


MODULES = {
    "imix/objectives.py": TRAININGS | ABLATIONS,
    "imix/settings/training.py": set(),
    "imix/evaluation.py": JUDGED | ABLATIONS,
    "imix/views/tabular.py": TRAININGS | JUDGED | ABLATIONS | {"preprocess@segment", "project@segment"},
    "stages/pretrain.py": TRAININGS,
    "stages/baseline.py": {"baseline@segment"},
    "stages/ablate.py": ABLATIONS,
    "imix/errors.py": set(),
    "imix/reporting/tables.py": {"project@segment"},  # and the reports, which `stale` leaves out
}


@pytest.mark.parametrize("module,stale", MODULES.items())
def test_exactly_what_runs_a_module_becomes_stale(kept, module, stale):
    path = kept.folder / module
    before = path.read_text()
    path.write_text(before + "# changed\n")
    try:
        assert kept.stale() == stale
    finally:
        path.write_text(before)


CELL = "--dataset segment --method moco --mix imix"


@pytest.mark.parametrize(
    "command",
    [
        f"pretrain {CELL} --seed 0",
        f"evaluate {CELL}",
        "baseline --dataset segment",
        "ablate --ablation mixing --dataset segment --seed 0",
    ],
)
def test_what_trains_or_judges_runs_no_other_code_than_it_is_run_for(kept, command):
    """What DVC writes down is the code that `settings` saw."""
    path = kept.folder / "imix/encoders.py"
    before = path.read_text()
    path.write_text(before + "# changed while a study runs\n")
    try:
        output = kept.run("python", "-m", *f"stages.{command}".split(), code=1)
    finally:
        path.write_text(before)
    assert ".json: the code has changed since this was written; `dvc repro settings`" in output and len(output.splitlines()) == 1


def test_training_again_to_the_same_encoder_judges_nothing_again(kept):
    """Its seconds are others."""
    before = (kept.folder / "data/trainings/segment/moco/imix/0/provenance.json").read_text()
    kept.run("dvc", "repro", "-q", "-s", "-f", "pretrain@segment-moco-imix-0")
    assert (kept.folder / "data/trainings/segment/moco/imix/0/provenance.json").read_text() != before
    assert kept.stages_run("dvc", "repro", "evaluate") == set()
    kept.run("git", "checkout", "-q", ".")
    kept.run("dvc", "checkout", "-q", "--force")


def test_an_experiment_reruns_what_it_touches(kept):
    off = ["-S", "ablations.run=[]"]
    judged = [kept.folder / f"data/metrics/segment/{name}/0.json" for name in ("baseline/untrained", "baseline/supervised", "npair/none")]
    alone = [path.read_bytes() for path in judged]
    ran = kept.stages_run("dvc", "exp", "run", "-S", "cell.segment.moco.imix.temperature=0.3", *off)
    once = {"settings", "report@tiny", "project@segment"}
    assert ran == {"pretrain@segment-moco-imix-0", "evaluate@segment-moco-imix", "report_ablations"} | once
    assert kept.params()["cell"]["segment"]["moco"]["imix"]["temperature"] == 0.3
    assert kept.stages_run("dvc", "exp", "run", "-S", "grid.methods=[npair]", *off) == once
    added = kept.stages_run("dvc", "exp", "run", "-S", "grid.seeds=[0,1]", "-S", "grid.methods=[npair]", "-S", "grid.mixes=[none]", *off)
    labelled = {"supervised@segment-1", "baseline@segment"}
    assert added == {"pretrain@segment-npair-none-1", "evaluate@segment-npair-none"} | labelled | once
    assert [path.read_bytes() for path in judged] == alone and all(path.with_name("1.json").exists() for path in judged)
    # what another seed left is judged with the others wherever it lies, and asks for nothing
    assert kept.stages_run("dvc", "exp", "run", "-S", "grid.seeds=[0]", *off) == once
    kept.run("git", "checkout", "-q", ".")
    kept.run("dvc", "checkout", "-q", "--force")


def test_several_at_once_do_what_one_does(kept):
    """The README's own lines."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (lines,) = (block for block in blocks if "xargs" in block)
    assert lines.endswith("\ndvc repro\n")
    kept.set("pretrain.momentum", 0.7)
    for ablations in (BLOCKS[:1], []):  # the last of the lists may be empty
        kept.set("ablations.run", ablations)
        output = kept.run("sh", "-c", lines.removesuffix("dvc repro\n"))
        ran = sorted(line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage"))
        assert "ERROR" not in output
        asked = TRAININGS | JUDGED | {"settings", f"ablate@{BLOCKS[0]}-segment-0"} if ablations else {"settings"}
        assert ran == sorted(asked)
    at_once = {path: path.read_bytes() for path in (kept.folder / "data/metrics").rglob("*.json")}
    assert kept.stages_run("dvc", "repro") == REPORTS
    kept.run("dvc", "repro", "-q", "-f", "pretrain", "supervised", "evaluate", "baseline", IMIX_THREADS="1")
    assert at_once == {path: path.read_bytes() for path in (kept.folder / "data/metrics").rglob("*.json")}
    kept.run("git", "checkout", "-q", ".")
    kept.run("dvc", "checkout", "-q", "--force")


def test_an_encoder_is_probed_on_another_data_set(kept):
    """Two choices out of the digits, both ways."""
    params = kept.params()
    for name, seed in (("digits", 1), ("others", 2)):
        rows = {"train": 100, "validation": 0.2, "test": 100, "canvas": 28, "seed": seed}
        params["data"][name] = {"source": {"name": "mnist"}, "rows": rows}
        for block in ("recipe", "cell", "probe"):
            params[block][name] = copy.deepcopy(params[block]["mnist"])
        for method in ("npair", "supervised"):
            params["cell"][name][method]["none"]["epochs"] = 1
        params["recipe"][name]["warmup_epochs"] = 0
    params["grid"] |= {"datasets": ["digits", "others"], "methods": ["npair"], "mixes": ["none"]}
    params["transfer"]["pairs"] = [{"pretrained_on": a, "probed_on": b} for a, b in (("digits", "others"), ("others", "digits"))]
    params["ablations"]["run"] = []
    (kept.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ran = kept.stages_run("dvc", "repro", "report@tiny")
    assert {stage for stage in ran if stage.startswith("transfer")} == {"transfer@pair0-npair-none", "transfer@pair1-npair-none"}
    rows = list(csv.DictReader((kept.folder / "reports/tiny/transfer.csv").open()))
    assert [(row["pretrained_on"], row["dataset"]) for row in rows] == [("digits", "others"), ("others", "digits")]
    page = (kept.folder / "reports/tiny/results.md").read_text()
    assert f"| digits to others | {float(rows[0]['linear_accuracy']):.1f} |" in page
    kept.run("git", "checkout", "-q", ".")
    kept.run("dvc", "checkout", "-q", "--force")


def test_a_longer_ablation_reruns_nothing_that_ran(kept):
    folder = kept.folder / "data/ablations/controls/segment/0"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    values = kept.params()["ablation"]["controls"]["values"]
    assert len(before) == len(values) >= 3
    kept.set("ablation.controls.values", values | {"faster": {"epochs": 1}})
    assert kept.stages_run("dvc", "repro") == {"settings", "ablate@controls-segment-0", "report_ablations"}
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert before.items() < after.items() and len(after) == len(before) + 1
    assert "`faster`" in (kept.folder / "reports/ablations.md").read_text()
    kept.set("ablation.controls.values", {"inputs_only": {"mix_labels": False}})
    kept.run("dvc", "repro")
    assert len(list(folder.iterdir())) == 1


def test_the_same_bytes_again(clone):
    identity = ["--dataset", "segment", "--method", "moco", "--mix", "imix", "--seed", "0"]
    files = [
        clone.folder / "data" / name
        for name in (
            "segment/raw/segment.csv.zip",
            "segment/tensors/tensors.safetensors",
            "segment/tensors/card.json",
            "encoders/segment/moco/imix/0.safetensors",
            "trainings/segment/moco/imix/0/history.csv",
            "metrics/segment/moco/imix/0.json",
        )
    ]
    files += [clone.folder / "reports/tiny" / name for name in ("results.md", "metrics.json", "gains.png", "gains.svg", "curves.svg")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    for stage, arguments in {
        "fetch": identity[:2],
        "preprocess": identity[:2],
        "pretrain": identity,
        "evaluate": identity[:-2],
        "report": ["--study", "tiny"],
    }.items():
        clone.run("python", "-m", f"stages.{stage}", *arguments)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    "key,value,words",
    [
        ("cell.segment.npair.imix.temperature", 0, "params.yaml: cell.segment.npair.imix.temperature = 0"),
        ("recipe.segment.batch_size", 100_000, "params.yaml: recipe.segment.batch_size = 100000: must be at most the 1250 training rows"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(kept, key, value, words):
    kept.set(key, value)
    cell = ["--dataset", "segment", "--method", "npair", "--mix", "imix", "--seed", "0"]
    commands = "python -m stages.settings && python -m stages.pretrain " + " ".join(cell)
    output = kept.run("sh", "-c", commands, code=1)
    lines = [line for line in output.splitlines() if not line.startswith(("settings:", "pretrain "))]
    assert len(lines) == 1 and words in lines[0] and lines[0].startswith("imix: error:")


@pytest.mark.parametrize(
    "arguments,words",
    [
        ("fetch --dataset segmnet", "data/settings/segmnet/source.json: not there"),
        ("baseline --dataset ../x", "--dataset = '../x': must be a name"),
        ("evaluate --dataset segment --method byol --mix imix", "data/encoders/segment/byol/imix: no <seed>.safetensors there"),
        ("pretrain --dataset segment --method simclr --mix imix --seed 0", "--method: no entry 'simclr'"),
    ],
)
def test_a_wrong_identity_is_one_line(clone, arguments, words):
    output = clone.run("python", "-m", *f"stages.{arguments}".split(), code=1)
    assert words in output and "Traceback" not in output and len(output.splitlines()) == 1


def test_a_damaged_file_is_one_line(clone):
    encoder = clone.folder / "data/encoders/segment/npair/none/0.safetensors"
    content = encoder.read_bytes()
    encoder.unlink()
    encoder.write_bytes(content[:1000])
    output = clone.run("python", "-m", "stages.evaluate", "--dataset", "segment", "--method", "npair", "--mix", "none", code=1)
    assert "npair/none/0.safetensors: not an encoder of this project" in output and "Traceback" not in output
    encoder.unlink()
    encoder.write_bytes(content)


@pytest.mark.parametrize(
    "variable,value", [("IMIX_THREADS", "none"), ("IMIX_THREADS", "0"), ("IMIX_DEVICE", "cuda:99"), ("IMIX_DEVICE", "tpu")]
)
def test_a_wrong_environment_is_one_line(clone, variable, value):
    clone.environment = clone.environment | {variable: value}
    output = clone.run("python", "-m", "stages.baseline", "--dataset", "segment", code=1)
    del clone.environment[variable]
    assert f"{variable} = {value!r}" in output and "Traceback" not in output
