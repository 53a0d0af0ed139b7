"""A user's own data: what tables, pictures and recordings give, or the one line that says what to do."""

import copy
import io

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from PIL import Image

from imix import checkpoints, domains, encoding, evaluation, media, own, plugins, pretraining, tables
from imix.dataset import load
from imix.errors import UserError
from imix.scaling import scaled_to
from imix.settings import loading, resolved
from imix.sources import SPLITS, save
from tests.conftest import ROOT
from tests.test_datasets import of_form
from tests.test_pretraining import settings as training_settings
from tests.test_settings import STUDY

CPU = torch.device("cpu")
PROBE = evaluation.Probe(
    rates=[1.0], epochs=2, batch_size=20, momentum=0.9, milestones=[], copies=0, flip=False, neighbours=5, seed=0
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/mine").mkdir(parents=True)
    return tmp_path / "own/mine"


def settings(name, rows=None, **source):
    module = plugins.find("datasets", name)
    asked = module.Source.model_validate({"name": name, "folder": "mine"} | source)
    return module, asked, module.Rows.model_validate(rows or {})


def read(name, rows=None, **source):
    """Do what settings, fetch and preprocess do; return what preprocess read."""
    module, asked, chosen = settings(name, rows, **source)
    form = module.form(asked, chosen)
    asked = asked.model_copy(update={"sha256": own.content_sha256(module.files(asked))})
    raw = own.OWN.parent / "raw"
    module.fetch(asked, raw)
    splits = module.read(asked, chosen, raw)
    save(splits, own.OWN.parent / "tensors", module.KIND, module.ORIGIN, {"source": {}, "chosen": {}})
    unlabelled = 0 if splits.unlabelled is None else len(splits.unlabelled)
    assert form == of_form(splits)._replace(unlabelled=unlabelled)
    return splits


def table(count=60, **columns):
    """Rows of a number, a category and a label; other columns replace these."""
    numbers = np.random.default_rng(0).standard_normal(count).round(3)
    own_columns = {
        "size": numbers,
        "colour": ["red" if n % 3 else "blue" for n in range(count)],
        "kind": [f"k{n % 2}" for n in range(count)],
    }
    return pd.DataFrame(own_columns | columns)


def gaps(values, *places):
    values = list(values)
    for place in places:
        values[place] = None
    return values


def text_columns(values):
    rng = np.random.default_rng(0)
    return {f"t{n}": [f"w{v}" for v in rng.integers(values, size=300)] for n in range(200)}


DAYS = [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(300)]
SPLIT = ["train"] * 40 + ["test"] * 20
PLAIN = table()
WORKS = {  # the table, how it is written, settings of source and rows, facts of the result
    "plain": (PLAIN, {}, {}, {}, {"groups": (1, 2), "classes": ["k0", "k1"]}),
    "semicolons and decimal commas": (PLAIN, {"sep": ";", "decimal": ","}, {"decimal": ","}, {}, {"groups": (1, 2)}),
    "semicolons": (PLAIN, {"sep": ";"}, {}, {}, {"groups": (1, 2)}),
    "UTF-16": (table(colour=["größe"] * 30 + ["ß"] * 30), {"encoding": "utf-16"}, {}, {}, {"groups": (1, 2)}),
    "UTF-8 with a mark": (PLAIN, {"encoding": "utf-8-sig"}, {}, {}, {"groups": (1, 2)}),
    "one class": (table(kind="a"), {}, {}, {}, {"classes": ["a"]}),
    "no label": (PLAIN, {}, {"label": None, "drop": ["kind"]}, {}, {"classes": ["all"], "groups": (1, 2)}),
    "labels in numbers": (table(kind=[n % 11 for n in range(60)]), {}, {}, {}, {"classes": list(map(str, range(11)))}),
    "rows without a label": (table(kind=gaps(PLAIN.kind, *range(10))), {}, {}, {}, {"unlabelled": 10, "rows": 50}),
    "a class missing in test": (table(kind=["c"] * 20 + ["a", "b"] * 20, part=SPLIT), {}, {}, {"split": "part"}, {}),
    "a column of splits": (table(part=SPLIT), {}, {}, {"split": "part"}, {"test": list(range(40, 60))}),
    "groups": (table(who=[n // 6 for n in range(60)]), {}, {}, {"group": "who"}, {"groups": (1, 2)}),
    "gaps as means": (table(size=gaps(PLAIN["size"], 3), colour=gaps(PLAIN.colour, 4)), {}, {"missing": "mean"}, {},
        {"groups": (1, 2)}),
    "gaps with flags": (table(size=gaps(PLAIN["size"], 3), colour=gaps(PLAIN.colour, 4)), {}, {"missing": "indicator"},
        {}, {"groups": (1, 3, 1)}),
    "a listed category": (table(zip=[7 + n % 4 for n in range(60)]), {}, {"categories": ["zip"]}, {},
        {"groups": (1, 2, 4)}),
    "a constant and a listed column": (table(one=1, id=range(60)), {}, {"drop": ["id"]}, {}, {"groups": (1, 2)}),
    "six rows": (table(6), {}, {}, {}, {"rows": 6}),
    "truth values": (table(sold=[n % 2 == 0 for n in range(60)]), {}, {}, {}, {"groups": (1, 2, 2)}),
    "no numbers": (PLAIN.drop(columns="size"), {}, {}, {}, {"groups": (2,)}),
    "200 columns of categories": (table(300, **text_columns(3)), {}, {}, {}, {"groups": (1, 2, *[3] * 200)}),
    "text in one block": (table(mixed=[*range(30), *["x"] * 30]), {}, {}, {}, {"groups": (1, 2, 31)}),
    "spaces after commas": (b"size, kind\n" + b"1.5, a\n2.5, b\n" * 20, {}, {}, {},
        {"groups": (1,), "classes": ["a", "b"]}),
}  # fmt: skip
REFUSED = {
    "five rows": (table(5), {}, {}, {}, "class 'k1' has 2 rows; must have 3 or more, one for each split"),
    "five rows of one class": (table(5, kind="a"), {}, {}, {}, "5 rows with a label; must be 6 or more"),
    "a class only in test": (table(kind=["a"] * 40 + ["b"] * 20, part=SPLIT), {}, {}, {"split": "part"},
        "class 'b' has no row in train"),
    "200 columns of text": (table(300, **text_columns(200)), {}, {}, {},
        "columns 't0', 't1', 't2', 't3', 't4' and 195 more: more than 100 different texts, as in 'w"),
    "dates": (table(300, day=DAYS), {}, {}, {}, "column 'day': dates, as in '2024-01-01'; list in drop"),
    "decimal commas": (table(300), {"sep": ";", "decimal": ","}, {}, {},
        "'size': numbers with decimal commas? set decimal"),
    "repeated names": (b"a,b,a\n1,2,3\n", {}, {}, {}, "column 'a' is there 2 times"),
    "a column without a name": (b"a,,kind\n1,2,3\n", {}, {}, {}, "column 2 has no name"),
    "no header": (b"1,2,3\n4,5,6\n", {}, {}, {}, "the first line holds numbers, 1, 2, 3; it must name the columns"),
    "an empty file": (b"", {}, {}, {}, "is empty, or starts with an empty line"),
    "a header alone": (b"size,kind\n", {}, {}, {}, "has no rows"),
    "another encoding": (table(colour="größe"), {"encoding": "latin-1"}, {}, {}, "save the file as UTF-8"),
    "UTF-16 without a mark": (PLAIN, {"encoding": "utf-16-le"}, {}, {}, "holds zero bytes; save the file as UTF-8"),
    "a longer row": (b"size,kind\n1,a\n2,b,c\n", {}, {}, {}, "not a table that can be read"),
    "a gap": (table(size=gaps(PLAIN["size"], 3)), {}, {}, {}, "column 'size', row 4: is empty; fill it"),
    "an infinite number": (table(size=[*PLAIN["size"][:59], np.inf]), {}, {}, {},
        "column 'size', row 60: 'inf' is no finite"),
    "no such label": (PLAIN, {}, {"label": "kinds"}, {}, "no entry 'kinds' (did you mean 'kind'?)"),
    "no such column to drop": (PLAIN, {}, {"drop": ["id"]}, {}, "no entry 'id'"),
    "an unknown split": (table(part=[*SPLIT[1:], "tset"]), {}, {}, {"split": "part"},
        "split 'tset'; must be train, test"),
    "no test rows": (table(part="train"), {}, {}, {"split": "part"}, "put 0 into test"),
    "one group": (table(who="me"), {}, {}, {"group": "who"}, "1 group; must be 3 or more"),
    "a label of numbers": (table(2000, kind=np.arange(2000) / 7), {}, {}, {}, "has 2000 different values"),
    "no labels in the column": (table(kind=[None] * 60), {}, {}, {}, "no row has a label; leave out source.label"),
    "nothing but constants": (table(size=1, colour="red"), {}, {}, {}, "no column is left"),
    "a class of one row": (table(kind=["a"] * 59 + ["b"]), {}, {}, {}, "class 'b' has 1 row; must have 3"),
}  # fmt: skip


def write(path, content, **how):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.to_csv(path, index=False, **how)


def read_case(case, folder):
    content, how, source, rows, _ = case
    write(folder / "t.csv", content, **how)
    return read("table", rows, **({"file": "t.csv", "label": "kind"} | source))


@pytest.mark.parametrize("case", WORKS.values(), ids=WORKS)
def test_tables_that_work(case, folder, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 25 if len(case[0]) < 100 else 200)
    splits, facts = read_case(case, folder), case[-1]
    assert splits.column_groups == facts.get("groups", splits.column_groups)
    assert splits.classes == facts.get("classes", splits.classes)
    assert sum(map(len, splits.labels.values())) == facts.get("rows", sum(map(len, splits.inputs.values())))
    assert (0 if splits.unlabelled is None else len(splits.unlabelled)) == facts.get("unlabelled", 0)
    if "test" in facts:
        wanted = PLAIN["size"].to_numpy(np.float32)[facts["test"]]
        assert (splits.inputs["test"][:, 0] == wanted).all()


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_tables_that_are_refused_in_one_line(case, folder):
    with pytest.raises(UserError) as error:
        read_case(case, folder)
    assert case[-1] in str(error.value) and "\n" not in str(error.value) and "own/mine" in str(error.value)


def test_one_group_is_in_one_split(folder):
    who = np.arange(120) // 6
    splits = read_case((table(120, place=np.arange(120), who=who), {}, {}, {"group": "who"}, {}), folder)
    found = [set(who[rows[:, 1].astype(int)]) for rows in splits.inputs.values()]
    assert all(found) and not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]


def test_gaps_become_means_of_training_rows_alone(folder):
    size = gaps(PLAIN["size"], 45, 46, 2)
    splits = read_case((table(size=size, part=SPLIT), {}, {"missing": "indicator"}, {"split": "part"}, {}), folder)
    train = pd.Series(size[:40]).mean()
    columns = tables.Columns.model_validate(splits.columns)
    assert columns.fill == pytest.approx([train]) and columns.gaps == ["size"]
    assert splits.inputs["test"][[5, 6], 0] == pytest.approx([train] * 2) and splits.inputs["test"][:, -1].sum() == 2
    assert splits.mean == pytest.approx(train, abs=1e-6)


def test_files_of_splits_and_parquet(folder):
    pytest.importorskip("pyarrow")
    table(40).to_parquet(folder / "a.parquet")
    table(20).to_csv(folder / "b.csv", index=False)
    splits = read("table", files={"train": "a.parquet", "test": "b.csv"}, label="kind")
    assert {split: len(rows) for split, rows in splits.inputs.items()} == {"train": 32, "validation": 8, "test": 20}
    assert (splits.inputs["test"][:, 0] == table(20)["size"].to_numpy(np.float32)).all()


# --- pictures and recordings


def picture(path, size=(40, 30), colour=(200, 100, 50), mode="RGB", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **how)


def test_pictures_of_any_size_and_kind(folder):
    for number in range(6):
        picture(folder / f"red/{number}.png", (30 + 9 * number, 20), (200, 0, 0))
        picture(folder / f"blue/{number}.jpg", (20, 60), (0, 0, 200))
    picture(folder / "red/grey.png", mode="L")
    picture(folder / "red/palette.webp", mode="P")
    picture(folder / "blue/alpha.png", mode="RGBA")
    picture(folder / "nobody.tiff")
    splits = read("images", {"canvas": [12, 16], "validation": 0.3, "test": 0.3})
    assert splits.classes == ["blue", "red"] and splits.inputs["train"].shape[1:] == (3, 12, 16)
    assert len(splits.unlabelled) == 1 and splits.mean.shape == (3,)
    grey = read("images", {"canvas": [8, 8], "channels": 1, "validation": 0.3, "test": 0.3})
    assert grey.inputs["train"].shape[1:] == (1, 8, 8)


def test_a_picture_covers_the_canvas_and_stands_upright():
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (20, 0, 40, 20))  # the right half is white
    turned, content = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6  # to be turned to the right
    image.save(content, "png", exif=turned)
    upright = media.picture(content.getvalue(), (1, 40, 20), "here")
    assert upright.shape == (1, 40, 20) and upright[0, :15].max() == 0 and upright[0, 25:].min() == 255
    assert media.picture(content.getvalue(), (3, 8, 8), "here").shape == (3, 8, 8)


def tone(path, rate, seconds, channels=1, hertz=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    soundfile.write(path, np.stack([sound] * channels, 1), rate)


def test_recordings_of_any_rate_and_length(folder):
    for number, (rate, seconds) in enumerate([(8000, 0.4), (16000, 1.0), (44100, 2.2), (44100, 1.6), (22050, 3.0)] * 2):
        tone(folder / f"low/{number}.wav", rate, seconds)
        tone(folder / f"high/{number}.flac", rate, seconds, 2, 880.0)
    splits = read("audio", {"validation": 0.3, "test": 0.3})
    assert sum(map(len, splits.labels.values())) == 2 * 2 * (1 + 1 + 2 + 2 + 3) and splits.classes == ["high", "low"]
    peaks = {name: np.abs(np.fft.rfft(rows / 2**15)).argmax(1) for name, rows in splits.inputs.items()}
    for split in SPLITS:  # a second's spectrum has a line a hertz
        wanted = np.where(splits.labels[split] == 0, 880, 440)
        assert (np.abs(peaks[split] - wanted) <= 2).all()


def test_windows_of_one_recording_are_in_one_split(folder):
    for number in range(20):
        tone(folder / f"{'ab'[number % 2]}/{number}.wav", 16000, 3, hertz=200.0 + 20 * number)
    splits = read("audio")
    pitch = [set(np.abs(np.fft.rfft(rows)).argmax(1).tolist()) for rows in splits.inputs.values()]
    assert not pitch[0] & pitch[1] and not pitch[0] & pitch[2] and len(pitch[0] | pitch[1] | pitch[2]) == 20


def broken(name, content):
    return lambda folder: (folder / "a").mkdir() or (folder / "a" / name).write_bytes(content)


def linked(folder):
    picture(folder.parent / "elsewhere/1.png")
    (folder / "a").symlink_to(folder.parent / "elsewhere")


FILES = {
    "nothing": ("images", {}, lambda folder: None, "own/mine: has no file of .png"),
    "no picture": ("images", {}, broken("x.png", b"no"), "own/mine/a/x.png: no picture that can be read"),
    "a link": ("images", {}, linked, "own/mine/a: is a link to a folder, whose edits DVC does not see"),
    "a class alone": ("images", {}, lambda folder: picture(folder / "a/1.png"), "class 'a' has 1 row"),
    "no folder of a split": ("images", {"split": "folders"}, lambda folder: picture(folder / "a/1.png"),
        "a/1.png: must be in a folder train, validation or test"),
    "no group": ("images", {"group": "^[^_]+_"}, lambda folder: picture(folder / "a/1.png"),
        "a/1.png: the file's name does not match rows.group"),
    "no recording": ("audio", {}, broken("x.wav", b"no"), "own/mine/a/x.wav: no recording that can be read"),
}  # fmt: skip


@pytest.mark.parametrize("name,rows,make,words", FILES.values(), ids=FILES)
def test_files_that_are_refused_in_one_line(name, rows, make, words, folder):
    make(folder)
    if words.endswith("no picture that can be read"):
        for number in range(8):
            picture(folder / f"a/{number}.png")
    with pytest.raises(UserError) as error:
        read(name, rows)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_splits_by_folders_and_groups_by_names(folder):
    for number in range(24):
        picture(folder / f"{'train' if number < 16 else 'test'}/{'ab'[number % 2]}/{number}.png", colour=(number,) * 3)
    splits = read("images", {"split": "folders"})
    assert sorted(splits.inputs["test"][:, 0, 0, 0]) == list(range(16, 24))
    for path in sorted(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}{int(path.stem) // 4}_{path.stem}.png")
    for name in "ab":
        (folder / name).mkdir()
        for path in folder.glob(f"{name}*.png"):
            path.rename(folder / name / path.name[1:])
    (folder / "train/a").rmdir()
    splits = read("images", {"group": "^[^_]+"})
    found = [set(rows[:, 0, 0, 0] // 4) for rows in splits.inputs.values()]
    assert not found[0] & found[1] and not found[0] & found[2]


# --- settings


def study(**sources):
    params = copy.deepcopy(STUDY)
    params["grid"] |= {"datasets": list(sources), "methods": ["npair"], "supervised": []}
    params["ablations"] = {"run": [], "datasets": [], "seeds": None}
    params["data"] = {name: {"source": source} for name, source in sources.items()}
    base = yaml.safe_load((ROOT / "params.yaml").read_text())["recipe"]
    params["recipe"] = {name: base[name] for name in ("own", "table", "image", "audio")}
    params["recipe"] |= {name: {"like": "table"} for name in sources}
    params["ablation"] = {}
    return params


def test_an_edited_file_changes_the_settings_of_its_data_set_alone(folder):
    (folder.parent / "other").mkdir()
    for name in ("mine", "other"):
        write(folder.parent / name / "t.csv", table())
    source = {"name": "table", "file": "t.csv", "label": "kind"}
    params = study(mine=source, other=source)
    before = resolved.resolved(loading.check(params))
    (folder / "notes.txt").write_text("no file of the data set")
    assert resolved.resolved(loading.check(params)) == before
    shuffled = table()
    shuffled["kind"] = shuffled["kind"].sample(frac=1, random_state=1).to_numpy()
    write(folder / "t.csv", shuffled)
    after = resolved.resolved(loading.check(params))
    assert {str(path) for path in before if before[path] != after[path]} == {"mine/source.json"}


def test_files_need_not_be_there_while_no_cell_uses_them(folder):
    write(folder / "t.csv", table())
    source = {"name": "table", "file": "t.csv", "label": "kind"}
    params = study(mine=source, other=source)
    with pytest.raises(UserError, match="own/other: is not there; put the data set's files into this folder"):
        loading.check(params)
    params["grid"]["datasets"] = ["mine"]
    loading.check(params)


def test_nothing_is_trained_with_labels_that_are_not_there(folder):
    write(folder / "t.csv", table())
    params = study(mine={"name": "table", "file": "t.csv", "drop": ["kind"]})
    loading.check(params)
    params["grid"]["supervised"] = ["none"]
    with pytest.raises(UserError, match=r"grid.supervised = \['none'\]: mine has no two classes.*must be \[\]"):
        loading.check(params)


def test_without_labels_all_is_evaluated_that_needs_none(folder):
    read_case(WORKS["no label"], folder)
    data = load(own.OWN.parent / "tensors", CPU)
    cell = training_settings("npair", batch_size=20, epochs=1)
    training = pretraining.Training(data, "npair", cell, 0)
    pretraining.run(training, "test")
    assert np.isnan(training.history[-1]["knn_validation"]) and training.history[-1]["feature_std"] > 0
    found = evaluation.evaluate(training.method.encoder, data, cell.views, PROBE, 0)
    assert all(found[name] is None for name in evaluation.OF_LABELS) and found["effective_rank"] > 1


def test_rows_without_a_label_are_pretrained_on_and_not_probed(folder):
    read_case(WORKS["rows without a label"], folder)
    data = load(own.OWN.parent / "tensors", CPU)
    own_training = pretraining.Training(data, "npair", training_settings("npair", batch_size=10, epochs=1), 0)
    assert len(own_training.rows) == len(data.train) + 10 and len(data.train) + len(data.test) == 50
    assert set(data.pretraining_rows()[1].tolist()) == {-1, 0, 1}
    supervised = training_settings("supervised", batch_size=10, epochs=1)
    assert len(pretraining.Training(data, "supervised", supervised, 0).rows) == len(data.fit)
    part = training_settings("npair", batch_size=10, epochs=1, fraction=0.5)
    assert len(pretraining.Training(data, "npair", part, 0).rows) == len(data.train) // 2 + 5


@pytest.mark.parametrize("rows", [2, 3, 5, 20, 40, 100, 1000, 10_000, 1_000_000])
def test_settings_scale_with_the_rows(rows):
    auto = dict.fromkeys(("batch_size", "queue", "warmup_epochs", "knn_every"), "auto") | {"epochs": "1000 steps"}
    found = scaled_to(rows, auto)
    assert 2 <= found["batch_size"] <= max(2, min(256, rows // 2)) and found["queue"] % found["batch_size"] == 0
    assert found["batch_size"] <= found["queue"] <= 4096 and 0 <= found["warmup_epochs"] < found["epochs"]
    assert 5 <= found["epochs"] <= 500 and 1 <= found["knn_every"] <= found["epochs"]
    if 500 < rows < 40_000:
        assert 0.9 < found["epochs"] * (rows // found["batch_size"]) / 1000 < 1.1 or found["epochs"] == 5
    assert scaled_to(rows, auto | {"batch_size": 2, "epochs": 7})["warmup_epochs"] == 0


# --- features out


def trained(kind, encoder, views):
    """An encoder's file as a training writes it, untrained, and the data set it was made for."""
    data = load(own.OWN.parent / "tensors", CPU)
    domain = domains.domain_class(kind).model_validate({"kind": kind, "encoder": encoder, "views": views})
    network = domains.make_encoder(kind, domain.encoder, data).eval()
    content, _ = checkpoints.dump(network, data, domain.encoder, domain.views)
    path = own.OWN.parent / "copied.safetensors"
    path.write_bytes(content)
    clean = domains.make_views(kind, domain.views.model_copy(update={"noise": 0.0}), data).clean
    with torch.no_grad():
        return path, {split: network(clean(getattr(data, split))) for split in ("train", "test")}


RESNET = {"depth": 10, "width": 2, "stem_stride": 2}
IMAGE = yaml.safe_load((ROOT / "params.yaml").read_text())["recipe"]["image"]["views"]
SPEECH = yaml.safe_load((ROOT / "params.yaml").read_text())["recipe"]["spoken"]["views"]


def written(target, path, source, identity=None):
    count, width = encoding.encode(path, source, own.OWN.parent / target, identity)
    if target.endswith(".npy"):
        names = (own.OWN.parent / target).with_suffix(".ids.txt").read_text().splitlines()
        found = pd.DataFrame(np.load(own.OWN.parent / target)).assign(id=[name.strip('"') for name in names])
    else:
        read_back = pd.read_csv if target.endswith("csv") else pd.read_parquet
        found = read_back(own.OWN.parent / target, dtype_backend="numpy_nullable")
    assert found.shape == (count, width + 1)
    return found.assign(id=found["id"].astype(str)).set_index("id")


def same(found, wanted):
    return np.allclose(found.to_numpy(np.float32), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_features_of_a_table(folder, monkeypatch):
    raw = table(size=gaps(PLAIN["size"], 3, 50), part=SPLIT, name=[f"n{n}" for n in range(60)])
    monkeypatch.setattr(tables, "BLOCK", 25)
    monkeypatch.setattr(encoding, "BATCH", 7)
    read_case((raw, {}, {"missing": "mean", "drop": ["name"]}, {"split": "part"}, {}), folder)
    path, wanted = trained("tabular", {"width": 0.01}, {"masking": [0.2, 0.2]})
    for target in ("f.npy", "f.csv", *(["f.parquet"] if has_pyarrow() else [])):
        found = written(target, path, folder / "t.csv", "name")
        assert list(found.index) == list(raw.name) and same(found[40:], wanted["test"])
    encoder = encoding.load_encoder(path)
    assert same(pd.DataFrame(encoder(encoder.prepare(raw[40:])).detach()), wanted["test"])
    assert isinstance(copy.deepcopy(encoder), encoding.Encoder)
    assert not encoder.training and encoder.features == wanted["test"].shape[1]
    write(folder / "new.csv", raw.assign(colour="green").drop(columns=["kind", "part"]))
    assert list(written("g.csv", path, folder / "new.csv").index) == [str(n) for n in range(1, 61)]


def has_pyarrow():
    return bool(__import__("importlib.util").util.find_spec("pyarrow"))


def test_features_of_pictures(folder):
    for number in range(20):
        place = folder / f"{'train' if number < 14 else 'test'}/{'ab'[number % 2]}"
        picture(place / f"{number:02}.png", colour=(9 * number,) * 3)
    read("images", {"split": "folders", "canvas": [16, 12]})
    path, wanted = trained("image", RESNET, IMAGE)
    found = written("f.csv", path, folder / "test")
    assert list(found.index) == [f"{'ab'[n % 2]}/{n}.png" for n in (14, 16, 18, 15, 17, 19)]
    assert same(found, wanted["test"])
    assert same(written("f.csv", path, folder / "test/a/14.png"), wanted["test"][:1])


def test_features_of_recordings(folder):
    for number in range(20):
        place = folder / f"{'train' if number < 14 else 'test'}/{'ab'[number % 2]}"
        tone(place / f"{number}.wav", 8000, 1 + number % 2, hertz=300.0)
    read("audio", {"split": "folders"})
    path, wanted = trained("speech", RESNET, SPEECH | {"noise": 0.0})
    found = written("f.csv", path, folder / "test")
    assert list(found.index[-2:]) == ["b/19.wav:0", "b/19.wav:1"] and same(found, wanted["test"])


def test_what_cannot_be_encoded(folder):
    read_case(WORKS["plain"], folder)
    path, _ = trained("tabular", {"width": 0.01}, {"masking": [0.2, 0.2]})
    write(folder / "less.csv", PLAIN.drop(columns="size"))
    (folder / "no.safetensors").write_bytes(b"no")
    for arguments, words in (
        ((path, folder / "less.csv", folder / "f.csv"), "less.csv: has no column 'size'; must have size, colour"),
        ((path, folder / "gone.csv", folder / "f.csv"), "gone.csv: is not there"),
        ((path, folder / "t.csv", folder / "f.txt"), "must be a file of .parquet, .csv, .npy"),
        ((path, folder / "t.csv", folder / "f.csv", "nmae"), "--id: column: no entry 'nmae'"),
        ((folder / "no.safetensors", folder / "t.csv", folder / "f.csv"), "not an encoder of this project"),
    ):
        with pytest.raises(UserError) as error:
            encoding.encode(*arguments)
        assert words in str(error.value) and "\n" not in str(error.value)
    assert not list(folder.glob("f.*"))
