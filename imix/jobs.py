"""The work of one seed: train or evaluate, write the outs; or take the result from the store.

Stages list these functions as tasks (`imix.running.Task`). Each runs in a process of its own.

Every function takes ``slot``, its place among the processes that run side by side, and ``report``,
a function that takes progress. ``settings`` and ``code`` come from the stage's file in
data/settings: ``code`` is the fingerprint of the code that does the work. Both are part of the
store's key.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from imix import checkpoints, dataset, domains, evaluation, identity, paths, pretraining, runtime, store
from imix.errors import Stopped, noted_signals
from imix.files import write_bytes, write_json
from imix.paths import Cell
from imix.progress import Report


class Trained(NamedTuple):
    """The results of a training in the store."""

    encoder: Path
    history: Path


def train(slot: int, report: Report, cell: Cell, settings: dict[str, Any], code: str, seed: int) -> None:
    """Train one seed of a cell, and write its encoder and its history."""
    device = runtime.configure(slot)
    data = dataset.load(paths.tensors(cell.dataset), device)
    history = paths.histories(cell) / f"{seed}.csv"
    with trained(cell, settings, code, seed, data, report, history) as done:
        write_bytes(paths.encoders(cell) / f"{seed}.safetensors", done.encoder.read_bytes())
        write_bytes(history, done.history.read_bytes())


def evaluate(
    slot: int, report: Report, encoder: Path, name: str, settings: dict[str, Any], code: str, seed: int, target: Path
) -> None:
    """Evaluate one encoder on the data set ``name``, and write its metrics."""
    data = dataset.load(paths.tensors(name), runtime.configure(slot))
    network, weights = checkpoints.load(encoder, data)
    write_json(target, evaluated(network, weights, data, settings, code, seed, report))


def baseline(
    slot: int, report: Report, kind: str, name: str, settings: dict[str, Any], code: str, seed: int, target: Path
) -> None:
    """Evaluate a baseline of a data set, and write its metrics.

    Args:
        kind: "raw" for raw inputs, or "untrained" for an untrained encoder.
    """
    data = dataset.load(paths.tensors(name), runtime.configure(slot))
    domain = _domain(settings, data)
    torch.manual_seed(seed)
    network = nn.Flatten() if kind == "raw" else domains.make_encoder(data.kind, domain.encoder, data)
    write_json(target, evaluated(network, kind, data, settings, code, seed, report))


def _domain(settings: dict[str, Any], data: dataset.Dataset) -> domains.Domain:
    """Return the domain in the settings of an evaluation."""
    model = domains.domain_class(data.kind)
    return model.model_validate({key: settings[key] for key in model.model_fields})


def variant(
    slot: int, report: Report, cell: Cell, value: str, trains: dict[str, Any], evaluates: dict[str, Any], seed: int,
    folder: Path,
) -> None:  # fmt: skip
    """Train and evaluate one variant of an ablation, and write the result and the history.

    Args:
        trains, evaluates: blocks with "settings" and "code", of the training and of the evaluation.
    """
    data = dataset.load(paths.tensors(cell.dataset), runtime.configure(slot))
    with trained(cell, trains["settings"], trains["code"], seed, data, report) as done:
        network, weights = checkpoints.load(done.encoder, data)
        history = done.history.read_bytes()
    metrics = evaluated(network, weights, data, evaluates["settings"], evaluates["code"], seed, report)
    settings = trains["settings"]
    used = data.fit_labels if cell.method == "supervised" else data.pretraining_rows()[1]
    count = len(used) if settings["fraction"] == 1 else len(dataset.nested_rows(used, settings["fraction"], seed))
    size = {"parameters": sum(p.numel() for p in network.parameters()), "rows": count}
    result = {"size": size, "settings": settings} | {key: metrics.pop(key) for key in ("encoder", "torch")}
    target = folder / paths.variant(cell, value, seed)
    write_json(target, result | {"metrics": metrics})
    write_bytes(target.with_suffix(".csv"), history)


@contextmanager
def trained(
    cell: Cell, raw: dict[str, Any], code: str, seed: int, data: dataset.Dataset, report: Report,
    history: Path | None = None,
) -> Iterator[Trained]:  # fmt: skip
    """Yield a training's results: from the store if it is finished there, else after training.

    Training continues from the state that was saved last. Until the ``with`` block ends, no other
    process removes the results from the store.

    Args:
        raw: the settings as JSON has them; the store's key is a hash of these.
        history: a file that gets the history after each epoch, so that `imix curves` can show a
            training that runs.
    """
    settings = domains.training_class(cell.method, data.kind).model_validate(raw)
    work = store.entry("trainings", training_key(cell.method, raw, code, seed, data.sha256, data.device))
    label = f"{cell} seed {seed}"
    with store.claimed(work, label):
        if work.finished():
            report(1, 1, "from the store")
        else:
            _train(work, label, cell, settings, seed, data, report, history)
        files = store.results(work)
        yield Trained(files["encoder.safetensors"], files["history.csv"])


def training_key(method: str, raw: dict[str, Any], code: str, seed: int, sha256: str, device: torch.device) -> str:
    """Return the store's key of a training: a hash of everything that decides its bytes.

    Args:
        raw, code: settings and fingerprint of the code. sha256: of the data set's tensors. device:
            how it rounds is part of the key (`imix.runtime.rounding`).
    """
    return identity.digest([method, raw, code, seed, sha256, runtime.rounding(device)])[:24]


def _train(
    work: store.Entry, label: str, cell: Cell, settings: Any, seed: int, data: dataset.Dataset, report: Report,
    history: Path | None,
) -> None:  # fmt: skip
    store.prepare(work)
    training = pretraining.Training(data, cell.method, settings, seed)
    began = {"git": store.git_revision(), "started": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    if saved := store.load_state(work):
        training.load_state(*saved)
        began = saved[1]["began"]

    def save(tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        store.save_state(work, tensors, facts | {"began": began, "label": label})

    def progress(done: int, total: int, text: str) -> None:
        if history and training.history and training.step == 0:  # an epoch has just ended
            with suppress(OSError):  # a full disk costs this write, not the training
                write_bytes(history, pretraining.history_csv(training.history).encode())
        report(done, total, text)

    # Signals are only noted until the results are in the store: one that comes after the last step
    # must not cost the training.
    with noted_signals() as signals:
        try:
            pretraining.run(training, label, save, store.save_seconds(), progress, signals)
        except Stopped as stopped:
            raise Stopped(stopped.signal, f"{stopped}; run it again to continue") from None
        _keep(work, label, training, began)
    if signals:
        raise Stopped(signals[0], f"{label}: stopped after the last epoch; run it again to continue")


def _keep(work: store.Entry, label: str, training: pretraining.Training, began: dict[str, str]) -> None:
    """Put a finished training's results and record into the store."""
    settings, data = training.settings, training.dataset
    content, weights = checkpoints.dump(training.method.encoder, data, settings.encoder, settings.views)
    history = pretraining.history_csv(training.history).encode()
    spent = {"label": label, "seconds": round(training.seconds, 2), **began, **runtime.rounding(training.device)}
    spent |= {"processor": runtime.processor(), "threads": torch.get_num_threads()}
    store.record(weights, spent)
    store.finish(work, {"encoder.safetensors": content, "history.csv": history}, spent)


def evaluated(
    network: nn.Module,
    weights: str,
    data: dataset.Dataset,
    raw: dict[str, Any],
    code: str,
    seed: int,
    report: Report,
) -> dict[str, Any]:
    """Return an encoder's metrics: from the store, or computed now.

    Args:
        weights: the SHA-256 of the encoder's weights; for a baseline, its kind (raw or untrained).
        raw: the settings of the evaluation as JSON has them; the store's key is a hash of these.
    """
    rounding = runtime.rounding(data.device)
    key = identity.digest([weights, raw, code, seed, data.sha256, rounding])[:24]
    work, label = store.entry("evaluations", key), f"evaluation of {weights[:12]} seed {seed}"
    with store.claimed(work, label):
        if work.finished():
            report(1, 1, "from the store")
        else:
            store.prepare(work)
            report(0, 0, "evaluating")
            settings = evaluation.Probe.model_validate(raw["probe"])
            domain = _domain(raw, data)
            metrics = evaluation.evaluate(network, data, domain.views, settings, seed)
            metrics |= {"encoder": weights, "torch": torch.__version__}
            content = json.dumps(metrics, indent=2, allow_nan=False).encode()
            store.finish(work, {"metrics.json": content}, {"label": label})
        return json.loads(store.results(work)["metrics.json"].read_bytes())
