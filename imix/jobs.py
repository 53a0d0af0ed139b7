"""The work of one seed of one cell, in a process of its own: train, evaluate, write; or take it from the store."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from imix import checkpoints, dataset, domains, evaluation, identity, paths, pretraining, runtime, store
from imix.errors import Stopped
from imix.files import write_bytes, write_json
from imix.paths import Cell
from imix.progress import Report
from imix.running import parent_is_gone


class Trained(NamedTuple):
    """The results of a training in the store."""

    encoder: Path
    history: Path


def train(slot: int, report: Report, cell: Cell, settings: dict[str, Any], code: str, seed: int) -> None:
    """Train one seed of a cell, and write its encoder and its history."""
    device = runtime.configure(slot)
    rows = dataset.load(paths.tensors(cell.dataset), device)
    done = trained(cell, settings, code, seed, rows, report)
    write_bytes(paths.encoders(cell) / f"{seed}.safetensors", done.encoder.read_bytes())
    write_bytes(paths.histories(cell) / f"{seed}.csv", done.history.read_bytes())


def evaluate(
    slot: int, report: Report, encoder: Path, name: str, settings: dict[str, Any], code: str, seed: int, target: Path
) -> None:
    """Evaluate one encoder on the data set ``name``, and write its metrics."""
    rows = dataset.load(paths.tensors(name), runtime.configure(slot))
    network, fingerprint = checkpoints.load(encoder, rows)
    write_json(target, evaluated(network, fingerprint, rows, settings, code, seed))


def baseline(
    slot: int, report: Report, kind: str, name: str, settings: dict[str, Any], code: str, seed: int, target: Path
) -> None:
    """Evaluate raw inputs or an untrained encoder (``kind``) of a data set, and write the metrics."""
    rows = dataset.load(paths.tensors(name), runtime.configure(slot))
    domain = domains.domain_class(rows.kind).model_validate({key: settings[key] for key in domains.Domain.model_fields})
    torch.manual_seed(seed)
    network = nn.Flatten() if kind == "raw" else domains.make_encoder(rows.kind, domain.encoder, rows)
    write_json(target, evaluated(network, kind, rows, settings, code, seed))


def variant(
    slot: int, report: Report, cell: Cell, value: str, trains: dict[str, Any], evaluates: dict[str, Any], seed: int,
    folder: Path,
) -> None:  # fmt: skip
    """Train and evaluate one variant of an ablation, and write the result and the history.

    Args:
        trains, evaluates: "settings" and "code" of the training and of the evaluation.
    """
    rows = dataset.load(paths.tensors(cell.dataset), runtime.configure(slot))
    done = trained(cell, trains["settings"], trains["code"], seed, rows, report)
    network, fingerprint = checkpoints.load(done.encoder, rows)
    metrics = evaluated(network, fingerprint, rows, evaluates["settings"], evaluates["code"], seed)
    settings = trains["settings"]
    used = rows.fit_labels if cell.method == "supervised" else rows.train_labels
    count = len(used) if settings["fraction"] == 1 else len(dataset.nested_rows(used, settings["fraction"], seed))
    size = {"parameters": sum(p.numel() for p in network.parameters()), "rows": count}
    result = {"size": size, "settings": settings} | {key: metrics.pop(key) for key in ("encoder", "torch")}
    target = folder / paths.variant(cell, value, seed)
    write_json(target, result | {"metrics": metrics})
    write_bytes(target.with_suffix(".csv"), done.history.read_bytes())


def trained(
    cell: Cell, raw: dict[str, Any], code: str, seed: int, rows: dataset.Dataset, report: Report
) -> Trained:
    """Return a training's results: from the store, or trained now, from where it was saved last."""
    settings = domains.training_class(cell.method, rows.kind).model_validate(raw)
    work = store.entry("trainings", training_key(cell.method, raw, code, seed, rows.sha256, rows.train.device))
    label = f"{cell} seed {seed}"
    with store.claimed(work, label):
        if not work.finished():
            _train(work, label, cell, settings, seed, rows, report)
    report(1, 1, "done")
    files = store.results(work)
    return Trained(files["encoder.safetensors"], files["history.csv"])


def training_key(
    method: str, raw: dict[str, Any], code: str, seed: int, data: str, device: torch.device
) -> str:
    """Return the store's key of a training: its identity, and what else decides its bytes."""
    return identity.digest([method, raw, code, seed, data, runtime.rounding(device)])[:24]


def _train(
    work: store.Entry, label: str, cell: Cell, settings: Any, seed: int, rows: dataset.Dataset, report: Report
) -> None:
    training = pretraining.Training(rows, cell.method, settings, seed)
    began = {"git": store.git_revision(), "started": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    if saved := store.load_state(work):
        training.load_state(*saved)
        began = saved[1]["began"]
    try:
        pretraining.run(
            training,
            label,
            lambda tensors, facts: store.save_state(work, tensors, facts | {"began": began, "label": label}),
            store.save_seconds(),
            report,
            parent_is_gone,
        )
    except Stopped as stopped:
        raise Stopped(stopped.signal, f"{stopped}; run it again to continue") from None
    content, fingerprint = checkpoints.dump(training.method.encoder, rows.kind, settings.encoder, settings.views)
    history = pretraining.history_csv(training.history).encode()
    spent = {"label": label, "seconds": round(training.seconds, 2), **began, **runtime.rounding(rows.train.device)}
    spent |= {"processor": runtime.processor(), "threads": torch.get_num_threads()}
    store.record(fingerprint, spent)
    store.finish(work, {"encoder.safetensors": content, "history.csv": history}, spent)


def evaluated(
    network: nn.Module, fingerprint: str, rows: dataset.Dataset, raw: dict[str, Any], code: str, seed: int
) -> dict[str, Any]:
    """Return an encoder's metrics: from the store, or computed now."""
    rounding = runtime.rounding(rows.train.device)
    key = identity.digest([fingerprint, raw, code, seed, rows.sha256, rounding])[:24]
    work = store.entry("evaluations", key)
    if not work.finished():
        settings = evaluation.Probe.model_validate(raw["probe"])
        views = domains.domain_class(rows.kind).model_validate({k: raw[k] for k in domains.Domain.model_fields}).views
        metrics = evaluation.evaluate(network, rows, views, settings, seed)
        metrics |= {"encoder": fingerprint, "torch": torch.__version__}
        content = json.dumps(metrics, indent=2, allow_nan=False).encode()
        store.finish(work, {"metrics.json": content}, {"label": f"evaluation of {fingerprint[:12]} seed {seed}"})
    return json.loads(store.results(work)["metrics.json"].read_bytes())
