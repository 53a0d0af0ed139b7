"""What dvc.yaml declares of a stage is what the stage reads; and what becomes stale is what reads it."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml

from imix import identity, paths
from imix.settings import loading, overrides, resolved
from tests import clones, observe
from tests.conftest import ROOT


def forget():
    """Let identity read the files of the code anew."""
    for cached in (identity.fingerprint, identity._tokens, identity._imports):
        cached.cache_clear()


# Deps that a stage of the study here does not open: an ablation that does not run on a data set; no data of one's own
UNREAD = {("ablate@contrast-other", "data/other/tensors"), ("settings", "own")}
# What a stage opens that is no dep of it, with the reason
OPENED = {
    ".imix": "the store: an entry is named by all that its content depends on",
    ".git": "the commit of a record, which is no output",
    "dvc.yaml": "git looks for changes",
}
# Code that workers import and that no fingerprint of theirs has, with the reason why a change of it need not run them
# again; `identity.WITHOUT_EFFECT` besides
UNCOUNTED = {
    "imix/__init__.py": "names only",
    "stages/__init__.py": "command lines, and what is printed",
    "imix/encoders/__init__.py": "a docstring",
    "imix/methods/__init__.py": "a docstring",
    "imix/views/__init__.py": "a docstring",
    "imix/checkpoints.py": "how weights are put into a file, which has a checksum of them",
    "imix/jobs.py": "hashed beside the fingerprint: `resolved` adds it to every stage",
    "imix/pretraining.py": "of evaluations, which import it with imix.jobs and train nothing",
    "imix/mixing.py": "the same",
    "imix/objectives.py": "the same",
    "imix/methods/base.py": "the same",
    "imix/evaluation.py": "of trainings, which import it with imix.jobs and evaluate nothing",
    "imix/runtime.py": "of evaluations: device and threads, which the store's keys have",
}
WORKERS = ("pretrain", "supervised", "evaluate", "transfer", "baseline", "ablate")


class Graph:
    """The stages as DVC resolves them: deps and outs by stage."""

    def __init__(self, folder: Path) -> None:
        from dvc.repo import Repo

        with Repo(str(folder)) as repo:
            stages = list(repo.index.stages)
        self.deps = {stage.name: {dep.def_path for dep in stage.deps} for stage in stages}
        self.outs = {stage.name: {out.def_path for out in stage.outs} for stage in stages}

    def readers(self, files: set[str]) -> set[str]:
        """Return the stages that depend on one of these files, but for `settings`."""
        found = {name for name, deps in self.deps.items() if any(within(f, d) for f in files for d in deps)}
        return found - {"settings"}


def within(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return clones.studied(tmp_path_factory.getbasetemp())[0]


@pytest.fixture(scope="module")
def graph(study):
    return Graph(study)


@pytest.fixture(scope="module")
def seen(study):
    return observe.read(study.parent / "observed")


def undeclared(graph, seen):
    """Return files that a stage opened, or folders that it listed, that are no deps of it."""
    return {
        (name, path)
        for name, notes in seen.items()
        for path in notes.read
        if Path(path).parts[0] not in ("imix", "stages")  # Python's search for modules; `uncounted` checks them
        and not any(within(path, place) for place in {*graph.deps[name], *graph.outs[name], *OPENED})
        and not any(within(out, path) for out in graph.outs[name])  # a folder that is made
    }


def unread(graph, seen):
    """Return deps that a stage did not open, but for those in `UNREAD`."""
    return {
        (name, dep)
        for name, deps in graph.deps.items()
        for dep in deps
        if (name, dep) not in UNREAD
        if not any(within(path, dep) for path in seen[name].read | seen[name].modules())
    }


def counted(name):
    """Return the code in the fingerprints that the settings of a stage with workers hold."""
    kind = name.split("@")[0]
    modules = ["imix.views.tabular"]
    if kind in ("pretrain", "supervised", "ablate"):
        modules += ["imix.pretraining", f"imix.methods.{'supervised' if kind == 'supervised' else 'moco'}"]
    if kind != "pretrain":
        modules.append("imix.evaluation")
    script = "evaluate" if kind == "transfer" else "pretrain" if kind == "supervised" else kind
    scripts = {f"stages/{script}.py", *(["stages/evaluate.py"] if kind == "supervised" else [])}
    return {path.relative_to(ROOT).as_posix() for path in identity.closure(modules)} | scripts


def without_effect(path):
    return any(within(path.removesuffix(".py"), name.replace(".", "/")) for name in identity.WITHOUT_EFFECT - {"imix"})


def uncounted(seen):
    """Return code that stages with workers imported and that none of their fingerprints has."""
    return {
        (name, path)
        for name, notes in seen.items()
        if name.split("@")[0] in WORKERS
        for path in notes.modules() - counted(name)
        if not without_effect(path) and path not in UNCOUNTED
    }


def test_every_stage_was_seen(graph, seen):
    assert set(seen) == set(graph.deps)
    kinds = {name.split("@")[0] for name in seen}
    assert kinds == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def test_what_is_read_is_declared(graph, seen):
    assert undeclared(graph, seen) == set()


def test_what_is_declared_is_read(graph, seen):
    assert unread(graph, seen) == set()


def test_outs_are_written_and_nothing_else(graph, seen):
    """But for the store, and a report's costs, which are no outs as they name seconds."""
    for name, notes in seen.items():
        for path in notes.written | notes.removed:
            if Path(path).name.endswith((".tmp", ".pyc")) or ".pyc." in path or within(path, ".imix"):
                continue  # temporary files beside their place
            assert any(within(path, out) for out in graph.outs[name]), (name, path)
        for out in graph.outs[name]:
            beside = f"{Path(out).parent.as_posix()}/.{Path(out).name}."
            assert any(within(path, out) or path.startswith(beside) for path in notes.written), (name, out)


def test_code_that_workers_import_is_fingerprinted(seen):
    assert uncounted(seen) == set()


def test_code_that_is_fingerprinted_is_imported(seen):
    for name, notes in seen.items():
        if name.split("@")[0] in WORKERS and name != "ablate@contrast-other":  # which runs nothing
            assert counted(name) <= notes.modules(), name


def test_every_exemption_is_needed(seen):
    modules = set().union(*(notes.modules() for name, notes in seen.items() if name.split("@")[0] in WORKERS))
    assert set(UNCOUNTED) <= modules


def test_nothing_from_outside_is_unpickled(seen):
    """Workers unpickle what the stage that started them sends: names, paths, numbers."""
    allowed = ("multiprocessing.", "imix.running.", "imix.paths.Cell", "pathlib.")
    classes = set().union(*(notes.unpickled for notes in seen.values()))
    assert not {name for name in classes if not name.startswith(allowed)}


@pytest.mark.parametrize(
    "stage,dep,guard",
    [
        ("evaluate@diamonds-clean-moco-imix", "data/settings/diamonds/evaluate.json", undeclared),
        ("pretrain@other-clean-moco-none", "data/settings/other/clean/moco/none.json", undeclared),
        ("transfer@pair0-clean-moco-imix", "data/encoders/diamonds/clean/moco/imix", undeclared),
        ("preprocess@diamonds", "data/settings/diamonds/source.json", undeclared),
        ("settings", "params.yaml", undeclared),
        ("report@clone", "data/settings", undeclared),
        ("project@clone-diamonds", "data/encoders/diamonds", undeclared),
        ("ablate@contrast-diamonds", "data/settings/ablations/contrast/diamonds.json", undeclared),
        ("evaluate@diamonds-clean-moco-imix", "data/settings/diamonds/rows.json", unread),
        ("evaluate@diamonds-clean-moco-imix", "data/settings/diamonds/baseline.json", unread),
        ("fetch@other", "data/settings/other/rows.json", unread),
        ("pretrain@other-clean-moco-none", "imix/reporting", unread),
    ],
)
def test_the_guard_sees_a_dep_too_few_or_too_many(graph, seen, stage, dep, guard):
    other = copy.copy(graph)
    other.deps = {name: deps ^ {dep} if name == stage else deps for name, deps in graph.deps.items()}
    assert guard(other, seen)


# --- what becomes stale: the files of settings that change, and the stages that depend on them


def files(params, root=None):
    """Return the content of every file that `settings` would write, with the code below ``root``."""
    before = identity.ROOT
    forget()
    try:
        identity.ROOT = root or before
        return {(paths.SETTINGS / path).as_posix(): content for path, content in resolved.resolved(params).items()}
    finally:
        identity.ROOT = before
        forget()


def differ(before, after):
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


GRID = {"datasets": ["diamonds", "mnist"], "augmentation": ["augmented", "clean"], "methods": ["npair", "moco"]}


@pytest.fixture(scope="module")
def raw():
    params = clones.small(yaml.safe_load((ROOT / "params.yaml").read_text()), 2, GRID)
    clones.merged(params, {"ablations": {"run": ["controls", "contrast"], "datasets": ["diamonds"]}})
    return clones.pruned(params, "covtype")


@pytest.fixture(scope="module")
def params(raw):
    return loading.check(raw)


@pytest.fixture(scope="module")
def wide(raw, tmp_path_factory):
    """DVC's graph and the settings of a study of two domains."""
    folder = clones.committed(tmp_path_factory.mktemp("wide") / "clone", raw)
    return Graph(folder), files(loading.check(raw)), folder


def family(graph, *starts, but=()):
    return {name for name in graph.deps if name.startswith(starts) and not any(word in name for word in but)}


PROBED = ("evaluate@{}", "baseline@{}", "supervised@{}", "project@clone-{}", "ablate@controls-{}", "ablate@contrast-{}")
READ_ALL = ("report@", "best@")  # which read every setting of a study, or of a data set
CHANGES = {
    "recipe.diamonds.temperature": (0.3, ("pretrain@diamonds", "ablate@c"), ("mnist",)),
    "recipe.diamonds.batch_size": (100, ("pretrain@diamonds", "ablate@c"), ("mnist",)),
    "recipe.mnist.byol": ({}, (), ()),
    "recipe.covtype.batch_size": (128, (), ()),
    "recipe.diamonds.views.masking": (
        [0.1, 0.1],
        ("pretrain@diamonds-augmented", *(name.format("diamonds") for name in PROBED)),
        ("mnist",),
    ),
    "recipe.mnist.probe": (
        clones.PROBE | {"neighbours": 3},
        tuple(name.format("mnist") for name in PROBED),
        (),
    ),
    "data.diamonds.rows.seed": (1, ("preprocess@diamonds",), ()),
    "data.covtype.rows.seed": (1, (), ()),
    "projection.rows": (100, ("project@",), ()),
    "grid.seeds": ([0, 1], ("pretrain@", "supervised@", "baseline@", "report_ablation@", "project@"), ()),
    "ablations.seeds": ([0, 1], ("ablate@", "report_ablation@"), ()),
    "ablation.controls.mixes": (["imix", "none"], ("ablate@controls-diamonds", "report_ablation@clone-controls"), ()),
    "defaults.ema": (0.9, (), ()),
    "defaults.moco.contrast": ("own", ("pretrain@diamonds-augmented-moco-imix", "pretrain@diamonds-clean-moco-imix",
        "pretrain@mnist-augmented-moco-imix", "pretrain@mnist-clean-moco-imix"), ()),
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_exactly_what_uses_a_parameter_becomes_stale(wide, raw, key):
    graph, before, _ = wide
    value, starts, but = CHANGES[key]
    params = block = copy.deepcopy(raw)
    *path, last = key.split(".")
    for name in path:
        block = block[name]
    assert block.get(last) != value
    block[last] = value
    changed = differ(before, files(loading.check(params)))
    found = {name for name in graph.readers(changed) if not name.startswith(READ_ALL)}
    assert found == family(graph, *starts, but=but) if starts else not found
    assert bool(changed) == any(name.startswith("report@") for name in graph.readers(changed))


CODE = {
    "imix/objectives.py": ("pretrain@", "supervised@", "ablate@controls-diamonds", "ablate@contrast-diamonds"),
    "imix/mixing.py": ("pretrain@", "supervised@", "ablate@controls-diamonds", "ablate@contrast-diamonds"),
    "imix/methods/npair.py": ("pretrain@diamonds-augmented-npair", "pretrain@diamonds-clean-npair",
        "pretrain@mnist-augmented-npair", "pretrain@mnist-clean-npair", "ablate@controls-diamonds"),
    "imix/methods/byol.py": (),
    "imix/evaluation.py": ("supervised@", "evaluate@", "baseline@", "ablate@", "project@"),
    "imix/views/image.py": ("pretrain@mnist", "supervised@mnist", "evaluate@mnist",
        "baseline@mnist", "ablate@controls-mnist", "ablate@contrast-mnist", "project@clone-mnist"),
    "imix/views/speech.py": (),
    "imix/datasets/diamonds.py": ("fetch@diamonds", "preprocess@diamonds"),
    "imix/datasets/cifar10.py": (),
    "imix/errors.py": (),
    "imix/store.py": (),
    "imix/settings/merging.py": (),
    "imix/reporting/tables.py": (),  # reports depend on these files themselves
    "stages/pretrain.py": ("pretrain@", "supervised@"),
    "stages/baseline.py": ("baseline@",),
    "stages/ablate.py": ("ablate@",),
    "imix/jobs.py": ("fetch@", "preprocess@", "pretrain@", "supervised@", "evaluate@", "baseline@", "ablate@",
        "project@"),
}  # fmt: skip


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A copy of the code that tests may change."""
    folder = tmp_path_factory.mktemp("edited")
    for name in ("imix", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("module", CODE)
def test_exactly_what_runs_a_module_becomes_stale(wide, params, edited, module):
    graph, before, _ = wide
    path = edited / module
    text = path.read_text()
    try:
        path.write_text(text.replace('"""', '"""Another. ', 1) + "# a comment\n")
        assert files(params, edited) == before
        path.write_text(text + "\nCHANGED = 1\n")
        changed = differ(before, files(params, edited))
    finally:
        path.write_text(text)
    found = {name for name in graph.readers(changed) if not name.startswith(READ_ALL)}
    assert found == (family(graph, *CODE[module]) if CODE[module] else set())


def test_an_empty_list_of_ablations_or_supervised_mixes_has_no_stages(wide, raw):
    folder = wide[2]
    none = clones.merged(copy.deepcopy(raw), {"grid": {"supervised": []}, "ablations": {"run": []}})
    loading.check(none)
    clones.write_params(folder, none)
    kinds = {name.split("@")[0] for name in Graph(folder).deps}
    clones.write_params(folder, raw)
    assert not kinds & {"supervised", "ablate", "report_ablation"} and {"pretrain", "report"} <= kinds


@pytest.mark.parametrize("dataset", yaml.safe_load((ROOT / "params.yaml").read_text())["grid"]["datasets"])
def test_the_committed_parameters_run_on_any_one_data_set(dataset, tmp_path):
    """With ``-S 'grid.datasets=[...]'`` alone: ablations name data sets that are then not there."""
    found = files(overrides.changed(tmp_path, [f"grid.datasets=[{dataset}]"]))
    named = {Path(path).parts[2] for path in found} - {"ablations"}
    assert named & set(yaml.safe_load((ROOT / "params.yaml").read_text())["data"]) == {dataset}
    assert {Path(path).stem for path in found if "ablations" in path} <= {dataset, "asked"}
