"""The files of data/settings: resolved settings, one or more files per stage.

A file holds "settings" and, for stages that train, evaluate or make data, "code": the fingerprints
of the code that they run (`imix.identity`). dvc.yaml names the file as a dependency of its stage.
So the stage reruns when, and only when, a setting that it uses, its code or its data has changed.
"""

import shutil
import sys
from pathlib import Path

from imix import identity
from imix.files import write_json
from imix.own import OwnSource, content_sha256
from imix.paths import SETTINGS, Cell
from imix.settings.merging import Block, ablation_datasets, data, evaluation_settings, resolve, variants
from imix.settings.study import Params


def resolved(params: Params) -> dict[Path, Block]:
    """Return the content of every file, by its path below ``data/settings``."""
    grid, files = params.grid, {}
    for dataset in grid.datasets:
        files |= _dataset(params, dataset)
    for cell in (*grid.cells(), *grid.supervised_cells()):
        files[cell.path.with_suffix(".json")] = _cell(params, cell)
    for name in params.ablations.run:
        files[Path("ablations", name, "asked.json")] = {"settings": _asked(params, name)}
        for dataset in grid.datasets:
            files[Path("ablations", name, f"{dataset}.json")] = _ablation(params, name, dataset)
    for name in ("grid", "transfer", "projection"):
        files[Path(f"{name}.json")] = {"settings": getattr(params, name).model_dump()}
    return files


def _dataset(params: Params, dataset: str) -> dict[Path, Block]:
    """Return what fetch, preprocess, evaluate, baseline and project need of a data set."""
    module, source, rows, _ = data(params, dataset)
    if isinstance(source, OwnSource):
        source = source.model_copy(update={"sha256": content_sha256(module.files(source))})
    code = {"source": identity.source_code(source.name)}  # type: ignore[attr-defined]
    evaluation = evaluation_settings(params, dataset)
    # any mixing cell: `project` shows mixtures with its alpha
    mixing_cell = resolve(params, Cell(dataset, params.grid.augmentation[0], params.grid.methods[0], "imix"))
    evaluation_code = {"evaluation": identity.evaluation_code(module.KIND)}
    return {
        Path(dataset, "source.json"): {"settings": source.model_dump(), "code": code | _stage_code("fetch")},
        Path(dataset, "rows.json"): {"settings": rows.model_dump(), "code": code | _stage_code("preprocess")},
        Path(dataset, "evaluate.json"): {"settings": evaluation, "code": evaluation_code | _stage_code("evaluate")},
        Path(dataset, "baseline.json"): {
            "settings": evaluation,
            "seeds": params.grid.seeds,
            "code": evaluation_code | _stage_code("baseline"),
        },
        Path(dataset, "mixing.json"): {"settings": {"alpha": mixing_cell.alpha}},
    }


def _stage_code(stage: str) -> dict[str, str]:
    """Return the fingerprint of a stage's script and of `imix.jobs`, without what they import."""
    return {"stage": identity.fingerprint(f"stages.{stage}", "imix.jobs", follow=False)}


def _cell(params: Params, cell: Cell) -> Block:
    """Return what training a cell needs."""
    kind = data(params, cell.dataset).module.KIND
    return {
        "settings": resolve(params, cell).model_dump(),
        "seeds": params.grid.seeds,
        "domain": kind,
        "code": {"training": identity.training_code(cell.method, kind)} | _stage_code("pretrain"),
    }


def _asked(params: Params, name: str) -> Block:
    """Return what an ablation's report needs to know of it."""
    ablation = params.asked(name)
    own = ablation.model_dump(include={"question", "axis", "published", "augmentation", "methods", "mixes"})
    ran = {"datasets": ablation_datasets(params, name), "seeds": (params.ablations.seeds or params.grid.seeds)}
    return {"name": name, **own, "values": list(ablation.values), **ran}


def _ablation(params: Params, name: str, dataset: str) -> Block:
    """Return an ablation's variants on one data set; none where it does not run there."""
    runs = dataset in ablation_datasets(params, name)
    kind = data(params, dataset).module.KIND
    return {
        "seeds": (params.ablations.seeds or params.grid.seeds),
        "domain": kind,
        "evaluation": {"settings": evaluation_settings(params, dataset), "code": identity.evaluation_code(kind)},
        "variants": [
            {
                "value": value,
                "cell": list(cell),
                "settings": settings.model_dump(),
                "code": identity.training_code(cell.method, kind),
            }
            for cell, value, settings in (variants(params, name, dataset) if runs else ())
        ],
        "code": _stage_code("ablate"),  # each variant has the code of its training
    }


def write(params: Params, folder: Path = SETTINGS) -> None:
    """Write every file below ``folder``, and remove all others there."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in resolved(params).items():
        write_json(folder / path, content)
    for name in params.ablations.run:
        if not ablation_datasets(params, name):
            print(f"imix: ablation {name} is left out: none of its data sets is in grid.datasets", file=sys.stderr)
