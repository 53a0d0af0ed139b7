"""What dvc.yaml declares of a stage is what the stage reads: files, settings, code; and what becomes stale is what reads."""

import copy
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from imix import settings
from imix.errors import UserError
from tests.conftest import ROOT

GRID = {"name": "tiny", "datasets": ["segment", "spoken", "one", "two"], "methods": ["moco"], "mixes": ["imix"], "seeds": [0]}
# Code that every stage imports and that none names, each with the reason why a change of it need not rerun anything
EXEMPT = {
    "imix/__init__.py": "names only",
    "stages/__init__.py": "command lines, and what is printed",
    "imix/errors.py": "how a command ends",
    "imix/files.py": "how and where a file is written, not what is in it: DVC does not find an out elsewhere",
    "imix/progress.py": "what is printed",
    "imix/resuming.py": "evaluations remove finished trainings' states with it; a dep of trainings",
    "imix/settings": "the schema: every value that decides a result stands, resolved, in what the stage reads of data/settings",
}


# What else a stage opens that is no dep of its own
OPENED = {
    ("report", "README.md"): "rewritten in place between two marks; no result is read from it",
}


def tiny() -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["pretrain"]["warmup_epochs"] = 0
    params["data"]["spoken"]["source"]["voices"] = {"train": 3, "validation": 1, "test": 1}
    params["data"]["spoken"]["source"]["words"] = 14
    for name, seed in (("one", 1), ("two", 2)):
        rows = {"train": 60, "validation": 0.5, "test": 60, "canvas": 28, "seed": seed}
        params["data"][name] = {"source": {"name": "mnist"}, "rows": rows}
    for name in GRID["datasets"]:
        like = name if name in ("segment", "spoken") else "mnist"
        for block in ("recipe", "probe"):
            params[block][name] = json.loads(json.dumps(params[block][like]))
        params["recipe"][name] |= {"batch_size": 16, "warmup_epochs": 0}
        params["probe"][name] |= {"epochs": 1, "milestones": [], "rates": [1]}
        cells = params["cell"][like]
        chosen = {"moco": "imix", "supervised": "none"}
        params["cell"][name] = {method: {mix: cells[method][mix] | {"epochs": 1}} for method, mix in chosen.items()}
    params["grid"] = GRID
    params["transfer"]["pairs"] = [{"pretrained_on": "one", "probed_on": "two"}]
    params["projection"] |= {"rows": 50, "perplexity": 5}
    params["ablation"] = {"mixing": params["ablation"]["mixing"] | {"methods": ["moco"], "values": {"one": {"alpha": 1.0}}}}
    params["ablations"] = {"run": ["mixing"], "datasets": ["segment"], "seeds": [0]}
    return params


class Graph:
    """The stages as DVC resolves them: deps, outs and commands by name."""

    def __init__(self, folder: Path) -> None:
        from dvc.repo import Repo

        stages = list(Repo.init(str(folder), no_scm=True).index.stages)
        self.commands = {stage.name: stage.cmd for stage in stages}
        self.deps = {stage.name: {Path(dep.fs_path).relative_to(folder).as_posix() for dep in stage.deps} for stage in stages}
        self.modules = {**settings.CODE, "supervised": settings.CODE["pretrain"], "transfer": settings.CODE["evaluate"]}
        self.outs = {stage.name: {Path(out.fs_path).relative_to(folder).as_posix() for out in stage.outs} for stage in stages}

    def order(self) -> list[str]:
        """The stages, each after those that make its deps."""
        left, order = set(self.deps), []
        while left:
            awaited = {out for name in left for out in self.outs[name]}
            ready = sorted(
                name for name in left if not any(touches(dep, out) for dep in self.deps[name] for out in awaited - self.outs[name])
            )
            assert ready
            order, left = order + ready, left - set(ready)
        return order

    def code(self, name: str) -> set[str]:
        """The code that a stage depends on, itself or by way of its file of settings."""
        deps = self.deps[name].union(self.modules.get(name.split("@")[0], ()))
        return {dep for dep in deps if dep.startswith(("imix/", "stages/"))}

    def readers(self, files: set[str]) -> set[str]:
        """The stages that depend on one of these files, but for the reports, which depend on everything."""
        return {name for name, deps in self.deps.items() if any(within(f, d) for f in files for d in deps) and "report" not in name}


def within(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def touches(one: str, other: str) -> bool:
    return within(one, other) or within(other, one)


def clone(folder: Path, params: dict, *names: str) -> Path:
    for name in names:
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(json.dumps(params))  # no aliases
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return Graph(clone(tmp_path_factory.mktemp("graph"), tiny(), "dvc.yaml"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory, environment, graph):
    """What each stage opened and imported when it ran on a tiny grid."""
    folder = clone(tmp_path_factory.mktemp("observed"), tiny(), "dvc.yaml", "README.md", "imix", "stages")
    order = graph.order()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/observe.py"), "seen.json"],
        input="\n".join(json.dumps(shlex.split(graph.commands[name])[2:]) for name in order),
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "IMIX_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(order, json.loads((folder / "seen.json").read_text()), strict=True))


def undeclared(graph: Graph, seen: dict) -> set[tuple[str, str]]:
    """Files that a stage opened, or folders that it listed, that are no deps of its."""
    return {
        (name, path)
        for name, notes in seen.items()
        for path in notes["read"]
        if not path.endswith((".py", ".pyc"))
        and Path(path).parts[:1] not in ((), ("imix",), ("stages",))  # Python's own search for modules
        and not within(path, ".resume")  # a state is named by all that it depends on
        and not any(within(path, place) for place in graph.deps[name] | graph.outs[name])
        and (name.split("@")[0], path) not in OPENED
    }


def unread(graph: Graph, seen: dict) -> set[tuple[str, str]]:
    """Deps that a stage did not open; of code, that it did not import."""
    found = set()
    for name in seen:
        for dep in graph.deps[name] | graph.code(name):
            is_code = dep.startswith(("imix/", "stages/")) and name != "settings"  # which reads what it fingerprints
            # one data set needs its own module of these folders; whether the kind of stage needs any is asked of all data sets
            like = [other for other in seen if other.split("@")[0] == name.split("@")[0]] if is_code and not dep.endswith(".py") else [name]
            if not any(within(path, dep) for other in like for path in seen[other]["modules" if is_code else "read"]):
                found.add((name, dep))
    return found


def foreign(graph: Graph, seen: dict) -> set[tuple[str, str]]:
    """Code of the project that a stage imported and that is not among its deps."""
    return {
        (name, path)
        for name, notes in seen.items()
        for path in notes["modules"]
        if not any(within(path, dep) for dep in graph.code(name)) and not any(within(path, place) for place in EXEMPT)
    }


def test_what_is_read_is_declared(graph, seen):
    assert undeclared(graph, seen) == set()


def test_what_is_declared_is_read(graph, seen):
    assert unread(graph, seen) == set()


def test_code_that_is_imported_is_declared(graph, seen):
    assert foreign(graph, seen) == set()


def test_every_exemption_is_needed(graph, seen):
    modules = {path for notes in seen.values() for path in notes["modules"]}
    assert all(any(within(path, place) for path in modules) for place in EXEMPT)
    assert all(any(path in seen[name]["read"] for name in seen if name.split("@")[0] == kind) for kind, path in OPENED)


def test_every_kind_of_stage_was_seen(graph, seen):
    kinds = {name.split("@")[0] for name in seen}
    assert kinds == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize(
    "stage,dep,guard",
    [
        ("evaluate@segment-moco-imix", "data/settings/segment/evaluate.json", undeclared),
        ("pretrain@spoken-moco-imix-0", "data/settings/spoken/moco/imix.json", undeclared),
        ("preprocess@one", "data/settings/one/source.json", undeclared),
        ("transfer@pair0-moco-imix", "data/encoders/one/moco/imix", undeclared),
        ("settings", "params.yaml", undeclared),
        ("report@tiny", "data/settings/transfer.json", undeclared),
        ("preprocess@spoken", "imix/views", foreign),
        ("project@segment", "imix/reporting", foreign),
        ("settings", "stages/settings.py", foreign),
        ("transfer@pair0-moco-imix", "data/settings/two/evaluate.json", undeclared),
        ("ablate@mixing-segment-0", "data/ablations/settings/mixing/segment.json", undeclared),
    ],
)
def test_the_guard_sees_a_dep_that_is_missing(graph, seen, stage, dep, guard):
    less = copy.copy(graph)
    less.deps = {name: deps - {dep} if name == stage else deps for name, deps in graph.deps.items()}
    assert less.deps != graph.deps and guard(less, seen)


@pytest.mark.parametrize(
    "stage,dep",
    [
        ("evaluate@segment-moco-imix", "data/settings/segment/rows.json"),
        ("evaluate@segment-moco-imix", "data/settings/segment/baseline.json"),
        ("fetch@one", "data/settings/one/rows.json"),
        ("settings", "imix/progress.py"),
        ("baseline@one", "stages/evaluate.py"),
        ("report@tiny", "data/settings/projection.json"),
    ],
)
def test_the_guard_sees_a_dep_too_many(graph, seen, stage, dep):
    more = copy.copy(graph)
    more.deps = {name: deps | {dep} if name == stage else deps for name, deps in graph.deps.items()}
    assert unread(more, seen)


@pytest.mark.parametrize(
    "kind,module,guard",
    [
        ("pretrain", "imix/objectives.py", foreign),
        ("supervised", "imix/methods.py", foreign),
        ("evaluate", "imix/features.py", foreign),
        ("transfer", "stages/evaluate.py", foreign),
        ("baseline", "imix/views", foreign),
        ("ablate", "imix/evaluation.py", foreign),
        ("evaluate", "stages/baseline.py", unread),
        ("baseline", "imix/methods.py", unread),
    ],
)
def test_the_guard_sees_a_module_that_is_not_fingerprinted_or_too_many(graph, seen, kind, module, guard):
    other = copy.copy(graph)
    other.modules = graph.modules | {kind: set(graph.modules[kind]) ^ {module}}
    assert guard(other, seen)


def test_what_is_fingerprinted_is_declared(graph):
    """A change of any of it runs `settings`, which tells the stages of the grid."""
    own = {"params.yaml", "stages/settings.py", "imix/settings"}
    assert graph.deps["settings"] == own.union(*settings.CODE.values())


# --- for every leaf of params.yaml, what becomes stale is what reads it

DATASETS, METHODS, MIXES = ["segment", "cifar10_small"], ["npair", "moco", "byol"], ["none", "imix"]
ASKED = ["model_size", "data_size", "contrast", "supervised", "augmentation"]
REAL = yaml.safe_load((ROOT / "params.yaml").read_text())


def study() -> dict:
    params = copy.deepcopy(REAL)
    params["grid"] = {"name": "study", "datasets": DATASETS, "methods": METHODS, "mixes": MIXES, "seeds": [0]}
    params["ablations"] = {"run": ASKED, "datasets": ["segment"], "seeds": [0]}
    return params


def leaves(block, path=()):
    if not isinstance(block, dict) or not block:
        return [path]
    return [leaf for key, value in block.items() for leaf in leaves(value, (*path, key))]


def at(params: dict, path: tuple) -> dict:
    for key in path[:-1]:
        params = params[key]
    return params


def others(value: object) -> list:
    """Other values that may stand in the place of one, the likeliest first."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value, value // 2, 34, 1]
    if isinstance(value, float):
        return [value / 2, value + 0.01, value * 2, 0.1, 1.0]
    if isinstance(value, str):
        words = "x0.25 x3 mlpbn mlpbn1 own batch first both neither input hidden float32 bfloat16 cosine step train all rows epochs "
        words += "alpha parameters none cifar10 cifar100 mnist segment"
        return [other for other in (*words.split(), value + "?", "md5:" + "0" * 32) if other != value]
    if isinstance(value, list):
        changes = [value[:-1], value[1:], *([[*value[:-1], other] for other in others(value[-1])] if value else [])]
        return [other for other in changes if other != value] + [["segment"], ["imix"], ["byol"], ["npair"], [300]]
    return [1000, "official"] if value is None else [{"weight_decay": 0.5}]


def checked(params: dict) -> dict[str, dict] | None:
    """The files of data/settings, or None if the grid's settings are refused; what the grid does not use is not looked at."""
    try:
        return {path.as_posix(): content for path, content in settings.resolved(settings.Params.model_validate(params)).items()}
    except (UserError, ValidationError):
        return None


def over(layer: object, keys: tuple) -> bool:
    """Whether a layer, or the change of an ablation, sets what stands at ``keys`` to something else."""
    for depth, key in enumerate(keys):
        if not isinstance(layer, dict) or key not in layer:
            return depth > 0 and not isinstance(layer, dict)
        layer = layer[key]
    return not isinstance(layer, dict) and not (isinstance(layer, str) and layer[0] == "x")


def trainings(params: dict, layer: int, dataset: str, method: str, mix: str, keys: tuple) -> set[str]:
    """The stages that train with what stands at ``keys`` of one of a cell's four layers."""
    found = set()
    for d in [dataset] if dataset else DATASETS:
        for m in [method] if method else [*METHODS, "supervised"]:
            for x in [mix] if mix else MIXES:
                layers = [params["pretrain"], params["method"][m], params["recipe"][d], params["cell"][d][m].get(x, {})]
                if any(keys[0] in later for later in layers[layer + 1 :]):
                    continue
                if d in DATASETS and m in METHODS and x in MIXES:
                    found.add(f"pretrain@{d}-{m}-{x}-0")
                if d in DATASETS and (m, x) == settings.SUPERVISED:
                    found.add(f"supervised@{d}-0")
                for name in ASKED if d == "segment" else []:
                    block = params["ablation"][name]
                    if m in block["methods"] and x in block["mixes"] and not all(over(v, keys) for v in block["values"].values()):
                        found.add(f"ablate@{name}-{d}-0")
    return found


def readers(params: dict, path: tuple) -> set[str]:
    """The stages that need what stands at ``path``: said once more, by what each block means."""
    block, *keys = path
    grid, ablates = set(DATASETS), {f"ablate@{name}-segment-0" for name in ASKED}
    judging = {f"evaluate@{keys[0]}-{m}-{x}" for m in METHODS for x in MIXES} | {f"baseline@{keys[0]}"}
    judging |= ablates if keys[0] == "segment" else set()
    if block == "sources":
        mine = [d for d in DATASETS if params["data"][d]["source"]["name"] == keys[0]]
        return {f"{stage}@{d}" for d in mine for stage in ("fetch", "preprocess")}
    if block == "data":
        stages = ("fetch", "preprocess") if keys[1] == "source" else ("preprocess",)
        return {f"{stage}@{keys[0]}" for stage in stages if keys[0] in grid}
    if block == "pretrain":
        return trainings(params, 0, "", "", "", tuple(keys))
    if block == "method":
        return trainings(params, 1, "", keys[0], "", tuple(keys[1:]))
    if block == "recipe" and keys[0] in grid:
        return trainings(params, 2, keys[0], "", "", tuple(keys[1:])) | (judging if keys[1] in ("encoder", "views") else set())
    if block == "cell" and keys[0] in grid and keys[2] in MIXES:
        return trainings(params, 3, keys[0], keys[1], keys[2], tuple(keys[3:]))
    if block == "probe" and keys[0] in grid:
        return judging
    if block == "ablation" and keys[-1] == "milestones":  # segment's cells have none to multiply
        return set()
    if block == "ablation":
        return {f"ablate@{keys[0]}-segment-0"} & ablates
    return {f"project@{d}" for d in DATASETS} if block in ("projection", "grid") else set()


def test_for_every_leaf_what_becomes_stale_is_what_reads_it(tmp_path):
    params = study()
    graph, before = Graph(clone(tmp_path, params, "dvc.yaml")), checked(params)
    assert before is not None
    wrong, fixed = [], set()
    for path in leaves(params):
        where, value = at(params, path), at(params, path)[path[-1]]
        for other in [other for other in others(value) if other != value]:
            where[path[-1]] = other
            if (after := checked(params)) is not None:
                break
        where[path[-1]] = value
        if after is None:
            fixed.add(path)
            continue
        stale = graph.readers({name for name in before.keys() & after.keys() if before[name] != after[name]})
        if stale != readers(params, path):
            wrong.append((path, value, other, stale ^ readers(params, path)))
    assert not wrong, (len(wrong), wrong[:5])
    # what cannot be another by itself: the kind of a block, or what must fit a neighbour
    names = {"kind", "name", "schedule", "milestones", "groups", "symmetric", "pairs", "methods"}
    assert len(fixed) <= 12 and {path[-1] for path in fixed} <= names, fixed
