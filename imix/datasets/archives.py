"""The four archives of the paper: obtain, verify, read without unpacking.

Verified archives live in `STORE`, outside of DVC's outs, which DVC deletes before a stage runs: what is there is never
downloaded again. The environment variable IMIX_DATA_MIRROR, a directory or a base URL, stands in for the official addresses.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imix.datasets import stratified
from imix.errors import UserError
from imix.files import replacing, write_json

if TYPE_CHECKING:
    from imix.settings import SplitRows, VerifiedSource

STORE = Path("data/archives")
PAUSES = (1.0, 4.0)  # seconds before another try of a download


class Archive(NamedTuple):
    """Name in the store and on mirrors, official address, official checksum."""

    file: str
    url: str
    checksum: str


OFFICIAL = {
    "cifar10": Archive(
        "cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"
    ),
    "cifar100": Archive(
        "cifar-100-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"
    ),
    "speech_commands": Archive(
        "speech_commands_v0.01.tar.gz",
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    ),
    "covtype": Archive(
        "covtype.data.gz",
        "https://ndownloader.figshare.com/files/5976039",
        "sha256:614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771",
    ),
}


def fetch(source: VerifiedSource, folder: Path) -> None:
    """Leave the verified archive in ``folder``, and ``source.json``: file, checksum found, and what it was held against.

    Raises:
        UserError: the archive cannot be had, or is not the one wanted; then it is set aside as ``<file>.refused``.
    """
    from filelock import FileLock

    file, official = OFFICIAL[source.name].file, OFFICIAL[source.name].checksum
    wanted = official if source.checksum == "official" else source.checksum
    if wanted is None:
        _say(f"warning: {file} is not checked: sources.{source.name}.checksum in params.yaml is null")
    STORE.mkdir(parents=True, exist_ok=True)
    stored = STORE / file
    with FileLock(STORE / f".{file}.lock"):  # two data sets of one archive may be fetched at once
        if stored.exists():
            found = _checksums(stored)
            if wanted and wanted not in found:
                _say(f"{_refused(stored, stored, wanted, found)}; obtaining it anew")
        if not stored.exists():
            found = _obtain(source, stored, wanted)
    _link(stored, folder / file)
    record = {"file": file, "checksum": found[0], "rule": source.checksum, "verified": wanted is not None, "official": official in found}
    write_json(folder / "source.json", record)  # the same bytes on every machine


def _obtain(source: VerifiedSource, stored: Path, wanted: str | None) -> tuple[str, str]:
    """Bring the archive into the store; it gets its name only after the check. Returns its checksums."""
    mirror = os.environ.get("IMIX_DATA_MIRROR", "")
    temporary = stored.with_name(f".{stored.name}.tmp")  # what an interrupted try left is overwritten
    try:
        if mirror.startswith(("http://", "https://")):
            origin = f"{mirror.rstrip('/')}/{stored.name}"
            _download(origin, temporary)
        elif mirror:
            origin = str(Path(mirror, stored.name))
            _say(f"copying {origin}")
            try:
                shutil.copyfile(origin, temporary)
            except OSError as error:
                raise UserError(f"IMIX_DATA_MIRROR = {mirror!r}: {stored.name} cannot be read there ({error.strerror})") from None
        else:
            origin = OFFICIAL[source.name].url
            _download(origin, temporary)
        found = _checksums(temporary)
        if wanted and wanted not in found:
            message = _refused(temporary, stored, wanted, found)
            hint = f"; if you trust the mirror, let sources.{source.name}.checksum in params.yaml be {found[0]}"
            raise UserError(f"{message}; it came from {origin}{hint if mirror and source.checksum == 'official' else ''}")
        temporary.replace(stored)
    finally:
        temporary.unlink(missing_ok=True)
    return found


def _download(url: str, target: Path) -> None:
    from pooch import HTTPDownloader

    _say(f"downloading {url}")
    download = HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**20)
    for pause in (*PAUSES, None):
        try:
            return download(url, str(target), None)
        except OSError as error:  # those of requests among them
            reason: BaseException = error
        status = getattr(getattr(reason, "response", None), "status_code", 0)
        if pause is None or 400 <= status < 500:
            break
        time.sleep(pause)
    while reason.__context__:  # the innermost is the shortest: "Connection refused", not the pool that it happened in
        reason = reason.__context__
    file = target.name[1:-4]
    raise UserError(
        f"{url}: download failed ({' '.join(str(reason).split())}); IMIX_DATA_MIRROR can name a directory or base URL that holds {file}"
    )


def _refused(path: Path, stored: Path, wanted: str, found: tuple[str, str]) -> str:
    """Set a file aside, out of reach of the readers, and say why."""
    aside = stored.with_name(f"{stored.name}.refused")
    path.replace(aside)
    return f"{stored.name}: checksum is {found[wanted.startswith('md5')]}, must be {wanted}; set aside as {aside}"


def _checksums(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5, as params.yaml writes them."""
    digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            for digest in digests:
                digest.update(block)
    sha256, md5 = (f"{digest.name}:{digest.hexdigest()}" for digest in digests)
    return sha256, md5


def _link(stored: Path, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            os.link(stored, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(stored, temporary)


def _say(text: str) -> None:
    print(f"imix: {text}", file=sys.stderr)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever breaks in decompression becomes a UserError that names the archive."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names, without a leading ./, and contents of the files in a tar.gz, in its order; nothing is written to disk.

    Raises:
        UserError: a damaged archive, or a member that lies outside of it.
    """
    with reading(path), gzip.open(path) as content, tarfile.open(fileobj=content, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{path}: {member.name}: lies outside of the archive; refused")
            if file := archive.extractfile(member) if member.isfile() else None:
                yield str(name), file.read()
        while content.read(2**20):  # gzip's own checksum stands at the very end
            pass


def choose(labels: NDArray[np.int64], size: int | None, seed: int, where: str) -> NDArray[np.int64]:
    """Indices of ``size`` rows, classes in proportion, in random order; of all, as they are, if None. ``where``: named in errors."""
    return np.arange(len(labels)) if size is None else stratified(labels, {"": size}, seed, where)[""]


def choose_splits(train: NDArray[np.int64], test: NDArray[np.int64], rows: SplitRows, path: Path) -> dict[str, NDArray[np.int64]]:
    """Rows by the labels of the two official parts: train and validation index the one, test the other."""
    size = len(train) if rows.train is None else rows.train
    validation = round(size * rows.validation)
    sizes = {"train": size - validation, "validation": validation}
    return stratified(train, sizes, rows.seed, f"{path}: rows.train") | {"test": choose(test, rows.test, rows.seed, f"{path}: rows.test")}
