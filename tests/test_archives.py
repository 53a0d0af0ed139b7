"""The four archives: fetched, verified and read; nothing here leaves the machine."""

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import socket
import struct
import tarfile
import threading
import wave
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imix import archives
from imix.archives import Archive, fetch, members
from imix.datasets import cifar10, cifar100, covtype, speech_commands, spoken
from imix.errors import UserError

FILE = cifar10.ARCHIVE.file
ALL = cifar10.Rows(train=None, validation=0.5, test=None, seed=0)
COMMANDS = speech_commands.Rows(silence=0.25, train=None, validation=None, test=None, seed=0)
TABLE = covtype.Rows(train=None, validation=0.2, test=None, standardise="train", seed=0)
NOWHERE = Archive(FILE, f"http://127.0.0.1:9/{FILE}", cifar10.ARCHIVE.checksum)  # nothing answers there


def read(module, rows, folder):
    return module.read(module.Source(name=module.__name__.split(".")[-1], checksum=None), rows, folder)


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def wav(samples, rate=16_000, channels=1):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return content.getvalue()


# --- fetch


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty store, and no pauses."""
    monkeypatch.setattr(archives, "STORE", tmp_path / "store")
    monkeypatch.setattr(archives, "PAUSES", (0.01, 0.01))
    monkeypatch.delenv("IMIX_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "store"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.status:
            return self.send_error(self.server.status.pop())
        if not self.server.broken:
            return super().do_GET()
        self.server.broken -= 1
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/mirror, which holds one archive; the first ``broken`` answers end halfway."""
    (tmp_path / "mirror").mkdir()
    tar(tmp_path / "mirror" / FILE, {"a": os.urandom(300_000)})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "mirror")) as server:
        server.requests, server.broken, server.status = [], 0, []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        server.content = (tmp_path / "mirror" / FILE).read_bytes()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def at(server, checksum):
    return Archive(FILE, f"{server.url}/{FILE}", checksum)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    return lambda: monkeypatch.setattr(socket.socket, "connect", refuse)


def test_where_an_archive_comes_from_is_said_without_the_network(tmp_path, store, no_network, monkeypatch):
    no_network()
    content = b"archive"
    archive = Archive(FILE, f"http://127.0.0.1:9/{FILE}", sha256(content), 7)
    assert archives.look(archive, "official") == f"will be downloaded from {archive.url}, 0 MB"
    assert archives.look(archive, sha256(b"other")) == f"will be downloaded from {archive.url}"
    monkeypatch.setenv("IMIX_DATA_MIRROR", "http://mirror/data/")
    assert archives.look(archive, None) == f"will be downloaded from http://mirror/data/{FILE}"
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match=f"IMIX_DATA_MIRROR = .*: has no {FILE}"):
        archives.look(archive, "official")
    (tmp_path / FILE).write_bytes(content)
    assert archives.look(archive, "official") == f"will be copied from {tmp_path / FILE}, 0.0 MB"
    for other, words in ((b"Archive", "its checksum is .*, must be"), (b"less", "has 4 bytes, the official")):
        (tmp_path / FILE).write_bytes(other)
        with pytest.raises(UserError, match=f"{FILE}: {words}"):
            archives.look(archive, "official")
        assert "will be copied" in archives.look(archive, sha256(other))
    store.mkdir()
    (store / FILE).write_bytes(content)
    monkeypatch.setattr(archives, "READ", 1)
    assert archives.look(archive, "official") == f"{store / FILE}, 0.0 MB; too large to read its checksum now"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_fresh_download_then_nothing_to_do(server, store, tmp_path, no_network, algorithm):
    checksum = f"{algorithm}:{hashlib.new(algorithm, server.content).hexdigest()}"
    archive = at(server, checksum)
    fetch(archive, "official", tmp_path / "raw")
    assert names(tmp_path / "raw") == [FILE, "source.json"] and names(store) == [FILE]
    assert (tmp_path / "raw" / FILE).read_bytes() == server.content
    assert (tmp_path / "raw" / FILE).samefile(store / FILE)
    record = (tmp_path / "raw" / "source.json").read_bytes()
    expected = {
        "file": FILE,
        "checksum": sha256(server.content),
        "rule": "official",
        "verified": True,
        "official": True,
    }
    assert json.loads(record) == expected
    no_network()
    fetch(archive, "official", tmp_path / "raw")  # again, over what is there
    fetch(archive, "official", tmp_path / "other")
    assert len(server.requests) == 1 and (tmp_path / "other" / "source.json").read_bytes() == record


def test_copied_where_links_fail(server, store, tmp_path, monkeypatch):
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    fetch(NOWHERE, sha256(server.content), tmp_path / "raw")
    assert (tmp_path / "raw" / FILE).read_bytes() == server.content and not (tmp_path / "raw" / FILE).samefile(
        store / FILE
    )


def test_interrupted_download(server, store, tmp_path, capsys):
    archive = at(server, sha256(server.content))
    server.broken = 3
    with pytest.raises(
        UserError, match=rf"{server.url}/{FILE}: download failed \(.*IncompleteRead.*IMIX_DATA_MIRROR"
    ) as error:
        fetch(archive, None, tmp_path / "raw")  # without a checksum, too
    assert "\n" not in str(error.value) and len(server.requests) == 3
    assert names(store) == [] and not (tmp_path / "raw").exists()
    (store / f".{FILE}.tmp").mkdir()
    (store / f".{FILE}.tmp" / FILE).write_bytes(b"left by a killed process")
    server.broken = 2
    fetch(archive, "official", tmp_path / "raw")
    assert names(store) == [FILE] and (store / FILE).read_bytes() == server.content
    assert f"imix: downloading {server.url}/{FILE}" in capsys.readouterr().err


def test_server_errors_are_tried_again_others_not(server, store, tmp_path):
    for status, requests in ((503, 3), (404, 1)):
        server.status, server.requests = [status] * 3, []
        with pytest.raises(
            UserError, match=rf"{server.url}/{FILE}: download failed \({status} .*IMIX_DATA_MIRROR can name"
        ):
            fetch(at(server, sha256(server.content)), "official", tmp_path / "raw")
        assert len(server.requests) == requests and names(store) == []
    server.status = [500, 502]
    fetch(at(server, sha256(server.content)), "official", tmp_path / "raw")
    assert (tmp_path / "raw" / FILE).read_bytes() == server.content


def test_wrong_checksum(server, store, tmp_path):
    wanted = "md5:" + "0" * 32
    with pytest.raises(UserError) as error:
        fetch(at(server, wanted), "official", tmp_path / "raw")
    for word in (
        FILE,
        f"md5:{hashlib.md5(server.content).hexdigest()}",
        wanted,
        f"{server.url}/{FILE}",
        f"{FILE}.refused",
    ):
        assert word in str(error.value)
    assert (
        "params.yaml" not in str(error.value)
        and names(store) == [f"{FILE}.refused"]
        and not (tmp_path / "raw").exists()
    )


@pytest.mark.parametrize("http", [False, True])
def test_mirror(server, store, tmp_path, monkeypatch, http):
    """One that has other bytes than the official ones: refused, until its own checksum is named."""
    monkeypatch.setenv("IMIX_DATA_MIRROR", f"{server.url}/" if http else str(tmp_path / "mirror"))
    own = sha256(server.content)
    with pytest.raises(
        UserError, match=rf"must be md5:c32a.*it came from .*{FILE}.*source\.checksum in params\.yaml to {own}"
    ):
        fetch(NOWHERE, "official", tmp_path / "raw")
    assert names(store) == [f"{FILE}.refused"]
    fetch(NOWHERE, own, tmp_path / "raw")
    assert names(store) == [FILE, f"{FILE}.refused"] and len(server.requests) == 2 * http
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert record == {"file": FILE, "checksum": own, "rule": own, "verified": True, "official": False}
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize("url", [False, True])
def test_mirror_without_the_file(server, tmp_path, monkeypatch, url):
    mirror = server.url if url else str(tmp_path / "nowhere")
    monkeypatch.setenv("IMIX_DATA_MIRROR", mirror)
    words = (
        rf"{mirror}/covtype.data.gz: .*404"
        if url
        else rf"IMIX_DATA_MIRROR = '{mirror}': covtype.data.gz .*No such file"
    )
    with pytest.raises(UserError, match=words):
        fetch(covtype.ARCHIVE, "official", tmp_path / "raw")
    assert len(server.requests) == url  # what is not there is not asked for again


def test_unchecked(server, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path / "mirror"))
    fetch(NOWHERE, None, tmp_path / "raw")
    assert f"warning: {FILE} is not checked: source.checksum is null in params.yaml" in capsys.readouterr().err
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert record == {
        "file": FILE,
        "checksum": sha256(server.content),
        "rule": None,
        "verified": False,
        "official": False,
    }


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("content", [b"mended, and longer than half a record", None])
def test_a_mended_file_of_the_mirror_is_taken(server, store, tmp_path, monkeypatch, capsys, http, content):
    """Without a checksum the mirror decides; a server is asked for no more than the size."""
    monkeypatch.setenv("IMIX_DATA_MIRROR", server.url if http else str(tmp_path / "mirror"))
    fetch(NOWHERE, None, tmp_path / "raw")
    mended = content or server.content[:-1] + b"?"  # of the same size
    (tmp_path / "mirror" / FILE).write_bytes(mended)
    capsys.readouterr()
    fetch(NOWHERE, None, tmp_path / "raw")
    said = capsys.readouterr().err
    if http and content is None:
        assert (tmp_path / "raw" / FILE).read_bytes() == server.content
        assert f"using {store / FILE}: {server.url}/{FILE} has the same size; delete the stored file" in said
        (store / FILE).unlink()
        fetch(NOWHERE, None, tmp_path / "raw")
    else:
        assert f"{FILE} differs from {store / FILE}; taking the mirror's file" in said
    assert (tmp_path / "raw" / FILE).read_bytes() == mended == (store / FILE).read_bytes()
    assert json.loads((tmp_path / "raw" / "source.json").read_text())["checksum"] == sha256(mended)
    fetch(NOWHERE, None, tmp_path / "raw")
    assert "differs" not in capsys.readouterr().err.splitlines()[-1] and names(store) == [FILE]


def test_an_unchecked_file_is_kept_where_the_mirror_is_gone(server, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path / "mirror"))
    fetch(NOWHERE, None, tmp_path / "raw")
    for mirror, words in (
        (str(tmp_path / "gone"), "cannot be read (No such file"),
        ("http://127.0.0.1:9", "names no size"),
        ("", "there is no mirror to compare it with"),
    ):
        capsys.readouterr()
        monkeypatch.setenv("IMIX_DATA_MIRROR", mirror)
        fetch(NOWHERE, None, tmp_path / "raw")
        assert f"using {store / FILE}: " in (said := capsys.readouterr().err) and words in said
        assert (tmp_path / "raw" / FILE).read_bytes() == server.content


def test_a_checked_file_is_not_compared(server, store, tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("IMIX_DATA_MIRROR", server.url)
    own = sha256(server.content)
    fetch(NOWHERE, own, tmp_path / "raw")
    (tmp_path / "mirror" / FILE).write_bytes(b"other")
    no_network()
    fetch(NOWHERE, own, tmp_path / "raw")
    assert (tmp_path / "raw" / FILE).read_bytes() == server.content


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks(server, store, tmp_path, monkeypatch, capsys, code):
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
    fetch(NOWHERE, sha256(server.content), tmp_path / "raw")
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and f"{store}: no file locks" in said and "two fetches" in said
    assert (tmp_path / "raw" / FILE).read_bytes() == server.content


def test_other_errors_of_locks_are_raised(store, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        fetch(NOWHERE, None, tmp_path / "raw")


def test_offline_with_nothing(store, tmp_path):
    with pytest.raises(
        UserError, match=rf"http://127.0.0.1:9/{FILE}: download failed \(.*refused.*IMIX_DATA_MIRROR"
    ) as error:
        fetch(NOWHERE, "official", tmp_path / "raw")
    assert "\n" not in str(error.value) and len(str(error.value)) < 250 and names(store) == []


def test_altered_in_the_store(server, store, tmp_path, capsys):
    store.mkdir()
    (store / FILE).write_bytes(b"altered")
    fetch(at(server, sha256(server.content)), "official", tmp_path / "raw")
    assert (store / FILE).read_bytes() == server.content and (store / f"{FILE}.refused").read_bytes() == b"altered"
    assert "fetching it again" in capsys.readouterr().err


# --- members


def test_damaged(tmp_path):
    path = tmp_path / "a.tar.gz"
    tar(path, {"one": os.urandom(50_000), "two": os.urandom(50_000)})
    whole = path.read_bytes()
    assert [name for name, _ in members(path)] == ["one", "two"]
    for content in (whole[:60_000], whole[:-4], whole[:-8] + b"12345678", b"no gzip", gzip.compress(b"no tar" * 500)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.tar\.gz: damaged \("):
            list(members(path))


@pytest.mark.parametrize("cut", [1024, 1024 + 300, 1024 + 512, 1024 + 600, None])
def test_a_tar_that_was_cut_before_it_was_compressed(tmp_path, cut):
    """Between two members, too; gzip's checksum is right."""
    path = tmp_path / "a.tar.gz"
    tar(path, {"one": b"1" * 100, "two": b"2" * 100})
    content = bytearray(gzip.decompress(path.read_bytes()))
    if cut is None:
        content[1024 + 120] ^= 1  # the second header
    path.write_bytes(gzip.compress(content[:cut]))
    with pytest.raises(UserError, match=r"a\.tar\.gz: damaged \(") as error:
        list(members(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "..\\outside"])
def test_outside_of_the_archive(tmp_path, name):
    tar(tmp_path / "a.tar.gz", {"./in/side": b"1", name: b"2"})
    reader = members(tmp_path / "a.tar.gz")
    assert next(reader) == ("in/side", b"1")
    with pytest.raises(UserError, match=f"a.tar.gz: {re.escape(name)}: is outside"):
        next(reader)
    assert names(tmp_path) == ["a.tar.gz"]


def test_a_member_that_occurs_twice_is_refused(tmp_path):
    """A tar program would keep the last; a reader that writes into place would keep the end of the first."""
    tar(tmp_path / "a.tar.gz", {"in/side": b"1", "./in/side": b"2"})
    with pytest.raises(UserError, match=r"a\.tar\.gz: in/side: occurs twice"):
        list(members(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_are_refused(tmp_path, kind):
    """Skipping them would drop rows without a word."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("one"))
        link = tarfile.TarInfo("two")
        link.type, link.linkname = kind, "one"
        archive.addfile(link)
    with pytest.raises(UserError, match=r"a\.tar\.gz: two: is a link to one"):
        list(members(tmp_path / "a.tar.gz"))


def test_names_of_other_systems(tmp_path):
    tar(tmp_path / "a.tar.gz", {".\\yes\\a.wav": b"1"})
    assert list(members(tmp_path / "a.tar.gz")) == [("yes/a.wav", b"1")]


# --- CIFAR


def records(labels, values, label_bytes=1):
    """Records of one colour each: red = value, green = value + 1, blue = value + 2, the first red pixel 255."""
    content = b""
    for label, value in zip(labels, values, strict=True):
        planes = np.repeat(np.array([value, value + 1, value + 2], np.uint8), 1024)
        planes[0] = 255
        content += bytes([19] * (label_bytes - 1) + [label]) + planes.tobytes()
    return content


def cifar10_archive(folder, **changes):
    contents = {f"data_batch_{i + 1}.bin": records(range(10), range(10 * i, 10 * i + 10)) for i in range(5)}
    contents |= {"test_batch.bin": records([3, 9], [100, 101])} | changes
    tar(
        folder / FILE,
        {f"cifar-10-batches-bin/{name}": content for name, content in contents.items() if content is not None},
    )


def test_cifar10(tmp_path):
    cifar10_archive(tmp_path)
    splits = read(cifar10, ALL, tmp_path)
    assert {s: (x.shape, x.dtype) for s, x in splits.inputs.items()} == {
        "train": ((25, 3, 32, 32), np.uint8),
        "validation": ((25, 3, 32, 32), np.uint8),
        "test": ((2, 3, 32, 32), np.uint8),
    }
    assert splits.labels["test"].tolist() == [3, 9] and splits.classes[3] == "cat" and splits.carved
    assert (
        splits.inputs["test"][1, :, 5, 7].tolist() == [101, 102, 103]
        and splits.inputs["test"][1, 0, 0].tolist() == [255] + [101] * 31
    )
    for split in ("train", "validation"):
        assert (splits.inputs[split][:, 0, 1, 1] % 10 == splits.labels[split]).all()
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]])
    assert sorted(training[:, 0, 1, 1].tolist()) == list(range(50))
    assert np.allclose(splits.mean, (training / 255).mean((0, 2, 3))) and np.allclose(
        splits.std, (training / 255).std((0, 2, 3))
    )
    chosen = read(cifar10, cifar10.Rows(train=20, validation=0.5, test=1, seed=1), tmp_path)
    assert {s: len(x) for s, x in chosen.labels.items()} == {"train": 10, "validation": 10, "test": 1}
    assert np.bincount(chosen.labels["train"]).tolist() == [1] * 10
    with pytest.raises(UserError, match=rf"{FILE}: rows.test: 3 rows wanted, the source has 2"):
        read(cifar10, cifar10.Rows(train=20, validation=0.5, test=3, seed=1), tmp_path)


def test_cifar100_has_fine_labels(tmp_path):
    contents = {"train.bin": records(range(100), range(100), 2), "test.bin": records([0, 99], [7, 8], 2)}
    tar(tmp_path / cifar100.ARCHIVE.file, {f"cifar-100-binary/{name}": content for name, content in contents.items()})
    splits = read(cifar100, ALL, tmp_path)
    assert (
        splits.labels["test"].tolist() == [0, 99]
        and (splits.inputs["train"][:, 0, 1, 1] == splits.labels["train"]).all()
    )
    assert len(splits.classes) == 100 and sorted(splits.classes) == splits.classes and splits.classes[99] == "worm"


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"data_batch_3.bin": None}, "no member cifar-10-batches-bin/data_batch_3.bin"),
        ({"test_batch.bin": records([1], [1])[:-1]}, "test_batch.bin: 3072 bytes are not records of 3073"),
        ({"test_batch.bin": b""}, "test_batch.bin: 0 bytes"),
        (
            {"data_batch_6.bin": records([1], [1])},
            "unknown member cifar-10-batches-bin/data_batch_6.bin; must be cifar-10",
        ),
        (
            {"test_batch.bin": None, "TEST_BATCH.BIN": records([1], [1])},
            "unknown member cifar-10-batches-bin/TEST_BATCH.BIN",
        ),
        ({"data_batch_1.bin": records([10], [1])}, r"data_batch_1.bin: label 10; must be 0\.\.9"),
    ],
)
def test_cifar_refuses(tmp_path, changes, words):
    cifar10_archive(tmp_path, **changes)
    with pytest.raises(UserError, match=f"{FILE}: .*{words}"):
        read(cifar10, ALL, tmp_path)


# --- CovType


def forest(rows=15_130):
    """A row's first number is its place; number 2 is constant; flags 5 and 20; classes in turn."""
    table = np.zeros((rows, 55), np.int64)
    table[:, 0], table[:, 1], table[:, 10 + 5], table[:, 10 + 20] = np.arange(rows), 7, 1, 1
    table[:, -1] = np.arange(rows) % 7 + 1
    return table


def covtype_archive(folder, table):
    with gzip.open(folder / covtype.ARCHIVE.file, "wt", compresslevel=1) as file:
        np.savetxt(file, table, "%d", ",")


def test_covtype(tmp_path):
    covtype_archive(tmp_path, forest())
    splits = read(covtype, TABLE, tmp_path)
    assert {s: (x.shape, x.dtype) for s, x in splits.inputs.items()} == {
        "train": ((12_096, 54), np.float32),
        "validation": ((3_024, 54), np.float32),
        "test": ((10, 54), np.float32),
    }
    assert splits.inputs["test"][:, 0].tolist() == list(range(15_120, 15_130))
    for split, inputs in splits.inputs.items():
        assert (inputs[:, 0] % 7 == splits.labels[split]).all()
    training = np.concatenate([splits.inputs["train"], splits.inputs["validation"]])
    assert sorted(training[:, 0].tolist()) == list(range(15_120))
    assert splits.mean.shape == splits.std.shape == (10,) and (splits.mean[0], splits.mean[1], splits.std[1]) == (
        7559.5,
        7,
        1,
    )
    assert splits.std[0] == pytest.approx(np.arange(15_120).std())
    assert (splits.column_groups, splits.numbers, splits.carved, splits.classes[6]) == (
        (10, 4, 40),
        10,
        True,
        "Krummholz",
    )


@pytest.mark.parametrize("ending", ["\n\n\n", "\r\n\r\n", ""])
def test_covtype_with_other_line_ends(tmp_path, ending):
    """Blank lines at the end, a byte-order mark or Windows' line ends change nothing."""
    covtype_archive(tmp_path, forest())
    wanted = read(covtype, TABLE, tmp_path)
    path = tmp_path / covtype.ARCHIVE.file
    text = gzip.decompress(path.read_bytes()).rstrip()
    text = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") if "\r" in ending else text
    path.write_bytes(gzip.compress(text + ending.encode(), 1))
    found = read(covtype, TABLE, tmp_path)
    assert all((found.inputs[s] == wanted.inputs[s]).all() for s in wanted.inputs)


def test_covtype_statistics_of_the_chosen_rows_or_as_published(tmp_path):
    covtype_archive(tmp_path, forest())
    some = read(covtype, TABLE.model_copy(update={"train": 70, "test": 7}), tmp_path)
    training = np.concatenate([some.inputs["train"], some.inputs["validation"]])
    assert len(training) == 70 and len(some.labels["test"]) == 7 and some.inputs["test"][:, 0].min() >= 15_120
    assert np.allclose(some.mean, training[:, :10].mean(0)) and some.std[0] == pytest.approx(training[:, 0].std())
    leaking = read(covtype, TABLE.model_copy(update={"train": 70, "standardise": "all"}), tmp_path)
    assert leaking.mean[0] == pytest.approx(np.arange(15_130).mean()) and leaking.std[0] == pytest.approx(
        np.arange(15_130).std()
    )


def test_covtype_refuses(tmp_path):
    path = tmp_path / covtype.ARCHIVE.file

    def refused(words):
        with pytest.raises(UserError, match=f"{path.name}: {words}"):
            read(covtype, TABLE, tmp_path)

    table = forest()
    table[3, 12] = 2
    covtype_archive(tmp_path, table)
    refused("row 4, column 13 is 2; must be 0 or 1")
    table[3, 12] = 0
    for wrong in (0, 8):
        table[15_125, -1] = wrong
        covtype_archive(tmp_path, table)
        refused(rf"class {wrong}; must be 1\.\.7")
    covtype_archive(tmp_path, forest(15_120))
    refused("15120 rows")
    covtype_archive(tmp_path, forest()[:, 1:])
    refused("54 columns")
    row = ",".join("1" * 55)
    for last in ("1,", "1.5", "3000000000", "nan", "", "-"):
        path.write_bytes(gzip.compress(f"{row[:-1]}{last}\n".encode() * 3))
        refused("not a table of integers")
    for lines in (
        [row, row + ",1"],
        [row, row[:-2]],
        [row, row[:-1] + "x"],
        [row, row[:-1] + "1.5"],
        [row, row[:-1] + "9" * 12],
        [],
    ):
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        refused("not a table of integers")
    covtype_archive(tmp_path, forest())
    path.write_bytes(path.read_bytes()[:-1000])
    refused("damaged")


# --- Speech Commands

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "zero")


def speech(folder, seed=0, **changes):
    """Speakers a, b train, c validates, d is tested; each says every word, as samples of its own value; d briefly."""
    said = {
        f"./{word}/{speaker}_nohash_0.wav": (i, j) for j, speaker in enumerate("abcd") for i, word in enumerate(WORDS)
    }
    contents = {name: wav(np.full(20_000 if j < 3 else 10_000, 100 * j + i + 1)) for name, (i, j) in said.items()}
    contents |= {f"./_background_noise_/{k}.wav": wav(np.full(17_000 + k, k)) for k in range(2)}
    contents |= {"./_background_noise_/README.md": b"noise", "./LICENSE": b"CC BY"}
    for file, speaker in (("validation_list.txt", "c"), ("testing_list.txt", "d")):
        contents[f"./{file}"] = "\n".join(name[2:] for name in said if f"/{speaker}_" in name).encode()
    contents |= {f"./{name}": content for name, content in changes.items()}
    order = np.random.default_rng(seed).permutation(sorted(name for name in contents if contents[name] is not None))
    tar(folder / speech_commands.ARCHIVE.file, {name: contents[name] for name in order})


def test_speech_commands(tmp_path):
    speech(tmp_path)
    splits = read(speech_commands, COMMANDS, tmp_path)
    assert {s: (x.shape, x.dtype) for s, x in splits.inputs.items()} == {
        "train": ((32, 16_000), np.int16),
        "validation": ((16, 16_000), np.int16),
        "test": ((12, 16_000), np.int16),
    }
    assert splits.classes == ["unknown", "silence", *WORDS[:10]] and not splits.carved
    assert np.bincount(splits.labels["train"]).tolist() == [4, 8] + [2] * 10
    assert np.bincount(splits.labels["test"]).tolist() == [2, 0] + [1] * 10
    for split, speakers in (("train", {0, 1}), ("validation", {2}), ("test", {3})):
        for clip, label in zip(splits.inputs[split], splits.labels[split], strict=True):
            if label == 1:
                assert not clip.any()
                continue
            speaker, word = divmod(int(clip[0]) - 1, 100)
            assert speaker in speakers and label == (word + 2 if word < 10 else 0)
            assert (clip[: 10_000 if speaker == 3 else None] == clip[0]).all() and (
                speaker < 3 or not clip[10_000:].any()
            )
    assert splits.background.shape == (2, 16_000) and splits.background[:, -1].tolist() == [0, 1]
    assert splits.mean.shape == splits.std.shape == (1,) and -80 <= splits.mean[0] < 0 < splits.std[0]


def test_speech_commands_choice_is_independent_of_the_archives_order(tmp_path):
    rows = speech_commands.Rows(silence=0.0, train=12, validation=None, test=11, seed=3)
    chosen = []
    for seed in (1, 2):
        speech(tmp_path, seed)
        chosen.append(read(speech_commands, rows, tmp_path))
    assert {s: len(x) for s, x in chosen[0].labels.items()} == {"train": 12, "validation": 12, "test": 11}
    assert np.bincount(chosen[0].labels["train"]).tolist() == [2, 0] + [1] * 10
    assert all((chosen[0].inputs[s] == chosen[1].inputs[s]).all() for s in chosen[0].inputs)


def chunk(name, content, size=None, pad=True):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (pad and len(content) % 2)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def header(code=1, bits=16, extension=b""):
    return chunk(b"fmt ", struct.pack("<HHIIHH", code, 1, 16_000, 16_000 * bits // 8, bits // 8, bits) + extension)


RAMP = np.arange(-500, 500).astype("<i2")
DATA = chunk(b"data", RAMP.tobytes())
GUID = bytes.fromhex("0100000000001000800000aa00389b71")  # of PCM
EXTENSIBLE = header(0xFFFE, extension=struct.pack("<HHI", 22, 16, 4) + GUID)
CLIP = "yes/a_nohash_0.wav"


@pytest.mark.parametrize(
    "content",
    [
        riff(header(), DATA),
        riff(EXTENSIBLE, DATA),
        riff(header(), chunk(b"LIST", b"INFOabc"), DATA),  # of odd length, padded
        riff(header(), DATA, chunk(b"LIST", b"INFOabc", pad=False)),
        riff(header(), DATA) + b"what other programs add",
    ],
)
def test_wav_files_that_are_read(content):
    samples = speech_commands.samples(content, "here")
    assert samples.dtype == np.int16 and (samples == RAMP).all() and len(samples) == len(RAMP)


@pytest.mark.parametrize(
    "content,words",
    [
        (riff(header(), DATA)[:-4], "1996 bytes of samples, the header says 2000; truncated"),
        (riff(header(), DATA)[:-3], "1996 bytes of samples, the header says 2000; truncated"),
        (riff(header(), DATA)[:-1], "1998 bytes of samples, the header says 2000; truncated"),
        (riff(header(), DATA)[:30], "not a WAV file"),
        (riff(header(), DATA)[:44], "0 bytes of samples, the header says 2000|no samples"),
        (
            riff(header(), chunk(b"data", RAMP.tobytes()[:-1])),
            "1998 bytes of samples, the header says 1999; .* half a sample",
        ),
        (riff(header(), chunk(b"data", RAMP.tobytes()[:-1], pad=False)), "1998 bytes of samples, the header says 1999"),
        (
            riff(header(), chunk(b"data", RAMP.tobytes(), size=2**32 - 1)),
            "2000 bytes of samples, the header says 4294967295",
        ),
        (riff(header(), chunk(b"LIST", b"INFOabc", pad=False), DATA), "not a WAV file"),
        (riff(chunk(b"junk", b"abc", pad=False), header(), DATA), "not a WAV file"),
        (riff(header(bits=24), chunk(b"data", bytes(300))), "16000 Hz, 1 channel.*PCM_24; must be .*PCM_16"),
        (riff(header(bits=8), chunk(b"data", bytes(300))), ".* PCM_U8; must be"),
        (riff(header(3, 32), chunk(b"data", bytes(400))), ".* FLOAT; must be .*PCM_16"),
        (riff(header(6, 8), chunk(b"data", bytes(400))), ".* ALAW; must be"),
        (riff(DATA), "not a WAV file"),
        (riff(header()), "not a WAV file"),
        (riff(header(), DATA, DATA), "not a WAV file"),
        (b"", "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (b"fLaC" + bytes(100), "not a WAV file"),
    ],
)
def test_wav_files_that_are_refused(tmp_path, content, words):
    speech(tmp_path, **{CLIP: content})
    with pytest.raises(UserError, match=f"{speech_commands.ARCHIVE.file}: {CLIP}: ({words})") as error:
        read(speech_commands, COMMANDS, tmp_path)
    assert "\n" not in str(error.value)


def test_capitals_are_clips_and_words_too(tmp_path):
    speech(tmp_path, **{CLIP: None, "yes/a_nohash_0.WAV": wav(np.full(16_000, 9999))})
    splits = read(speech_commands, COMMANDS, tmp_path)
    place = (splits.inputs["train"][:, 0] == 9999).nonzero()[0].tolist()
    assert len(place) == 1 and splits.classes[splits.labels["train"][place[0]]] == "yes"
    speech(tmp_path, **{CLIP: None, "YES/a_nohash_0.wav": wav(np.full(16_000, 9999))})
    splits = read(speech_commands, COMMANDS, tmp_path)
    assert splits.classes[splits.labels["train"][splits.inputs["train"][:, 0] == 9999][0]] == "yes"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.decode().encode("utf-16"),
        lambda text: text.replace(b"/", b"\\"),
        lambda text: b"./" + text.replace(b"\n", b"\n./"),
        lambda text: text.replace(b"\n", b"  \t\n") + b" \n\n  \n",
        lambda text: text.replace(b"\n", b"\r\n") + b"\r\n",
        lambda text: text.replace(b"/", b"//"),
        lambda text: text + b"\n" + text,
    ],
)
def test_lists_are_read_however_they_are_written(tmp_path, change):
    speech(tmp_path)
    wanted = read(speech_commands, COMMANDS, tmp_path)
    lists = {
        name: content for name, content in members(tmp_path / speech_commands.ARCHIVE.file) if name.endswith(".txt")
    }
    speech(tmp_path, **{name: change(content) for name, content in lists.items()})
    found = read(speech_commands, COMMANDS, tmp_path)
    assert all((found.inputs[s] == wanted.inputs[s]).all() for s in wanted.inputs)
    assert {s: len(x) for s, x in found.labels.items()} == {"train": 32, "validation": 16, "test": 12}


def test_a_short_clip_after_a_long_one_of_the_same_name_is_refused(tmp_path):
    path = tmp_path / speech_commands.ARCHIVE.file
    speech(tmp_path)
    contents = [*members(path), (CLIP, wav(np.ones(10)))]
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match=f"{path.name}: {CLIP}: occurs twice"):
        read(speech_commands, COMMANDS, tmp_path)


def test_statistics_are_of_random_clips(monkeypatch):
    """Every 12th clip is the same word; of a stride through these the mean would be that of one word."""
    monkeypatch.setattr(spoken, "STATISTICS", 200)
    noise = np.random.default_rng(0).integers(-2000, 2000, 16_000).astype(np.int16)
    clips = np.zeros((2400, 16_000), np.int16)
    clips[::12] = noise  # silence is 0 dB everywhere, noise lies far under its maximum
    means = [spoken.spectrogram_statistics(clips, seed)[0] for seed in (0, 0, 1)]
    alone = spoken.spectrogram_statistics(noise[None], 0)[0]
    assert means[0] == means[1] != means[2] and all(abs(mean / alone - 1 / 12) < 0.06 for mean in means)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"yes/a_nohash_0.wav": wav(np.ones(8000), rate=8000)}, "yes/a_nohash_0.wav: 8000 Hz, 1 channel"),
        ({"yes/a_nohash_0.wav": wav(np.ones(8000), channels=2)}, "yes/a_nohash_0.wav: 16000 Hz, 2 channel"),
        ({"yes/a_nohash_0.wav": wav([])}, "yes/a_nohash_0.wav: no samples"),
        ({"yes/a_nohash_0.wav": b"RIFF"}, "yes/a_nohash_0.wav: not a WAV"),
        ({"a_nohash_0.wav": wav(np.ones(9))}, "a_nohash_0.wav: must be in a folder"),
        (
            {"validation_list.txt": b"yes/c_nohash_0.wav\n\nyes/e_nohash_0.wav\n"},
            "validation_list.txt, line 3: 'yes/e_nohash_0.wav' is no clip",
        ),
        (
            {"testing_list.txt": b"_background_noise_/0.wav"},
            "testing_list.txt, line 1: '_background_noise_/0.wav' is no clip",
        ),
        (
            {"testing_list.txt": b"yes/d_nohash_0.wav\n./yes/c_nohash_0.wav"},
            "testing_list.txt, line 2: 'yes/c_nohash_0.wav' is in validation_list",
        ),
        ({"testing_list.txt": b"\xff\xff/d"}, "testing_list.txt, line 1: .* is no clip"),
        ({"testing_list.txt": b"\n"}, "no clips for test"),
        ({"validation_list.txt": None}, "no member validation_list.txt"),
        ({"testing_list.txt": None}, "no member testing_list.txt"),
        ({"_background_noise_/0.wav": None, "_background_noise_/1.wav": None}, "_background_noise_: must hold"),
        (
            {"_background_noise_/0.wav": wav(np.ones(100)), "_background_noise_/1.wav": None},
            "_background_noise_: must hold a second",
        ),
    ],
)
def test_speech_commands_refuses(tmp_path, changes, words):
    speech(tmp_path, **changes)
    with pytest.raises(UserError, match=f"{speech_commands.ARCHIVE.file}: {words}"):
        read(speech_commands, COMMANDS, tmp_path)


# --- the real data

MIRROR = Path(os.environ.get("IMIX_TEST_MIRROR", "nowhere"))
real = pytest.mark.skipif(not MIRROR.is_dir(), reason="no real data: IMIX_TEST_MIRROR names no folder of archives")


@real
@pytest.mark.parametrize(
    "module,rows,sizes",
    [
        (cifar10, ALL, (5000, 5000, 2000)),
        (cifar100, ALL, (5000, 5000, 2000)),
        (cifar10, cifar10.Rows(train=4000, validation=0.2, test=1999, seed=0), (3200, 800, 1999)),
        (cifar100, cifar100.Rows(train=9999, validation=0.2, test=100, seed=0), (7999, 2000, 100)),
        (covtype, TABLE, (12_096, 3_024, 12_000)),
        (speech_commands, COMMANDS.model_copy(update={"silence": 0.0}), (3003, 376, 1103)),
        (
            speech_commands,
            speech_commands.Rows(silence=0.1, train=3000, validation=370, test=1100, seed=0),
            (3333, 411, 1100),
        ),
    ],
)
def test_real_data(tmp_path, monkeypatch, module, rows, sizes):
    monkeypatch.setenv("IMIX_DATA_MIRROR", str(MIRROR))
    lines = (MIRROR / "SHA256SUMS").read_text().splitlines()
    checksums = {file: digest for digest, file in (line.split() for line in lines)}
    rule = f"sha256:{checksums[module.ARCHIVE.file]}"
    source = module.Source(name=module.__name__.split(".")[-1], checksum=rule)
    module.fetch(source, tmp_path)
    assert json.loads((tmp_path / "source.json").read_text())["checksum"] == rule
    splits = module.read(source, rows, tmp_path)
    assert tuple(map(len, splits.labels.values())) == tuple(map(len, splits.inputs.values())) == sizes
    if rows.train and rows.test:
        form = module.form(source, rows)
        assert form.exact and (form.fit, form.validation, form.test) == sizes
    silence = {1} if module is speech_commands else set()
    assert all(set(labels.tolist()) | silence == set(range(len(splits.classes))) for labels in splits.labels.values())
    assert np.isfinite(splits.mean).all() and (splits.std > 0).all()


@real
def test_real_class_names():
    contents = dict(members(MIRROR / cifar100.ARCHIVE.file))
    assert contents["cifar-100-binary/fine_label_names.txt"].decode().split() == cifar100.CLASSES
