"""Archives of data sets: download, verify, read without unpacking.

Verified archives are kept in `STORE`, outside of DVC's outs, which DVC deletes before a stage runs.
A stored archive is not downloaded again. The environment variable IMIX_DATA_MIRROR, a directory or
a base URL, replaces the official addresses.
"""

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field

from imix.errors import UserError
from imix.files import replacing, write_json
from imix.schema import Says

STORE = Path("data/archives")
PAUSES = (1.0, 4.0)  # seconds before another try of a download
SECONDS = 30  # that a server may take to answer
READ = 250_000_000  # bytes of an archive at most whose checksum `look` reads: a second
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # of file systems without locks

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# official: the checksum that the source's module declares; null: none, with a warning
Checksum = (
    Annotated[
        str,
        Field(pattern=r"^(official|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$"),
        Says('official, "sha256:..." with 64 digits, "md5:..." with 32, or null for no check'),
    ]
    | None
)


class Archive(NamedTuple):
    """Name in the store and on mirrors, official address, official checksum, bytes of the official file."""

    file: str
    url: str
    checksum: str
    size: int = 0  # 0: not known


def fetch(archive: Archive, checksum: Checksum, folder: Path) -> None:
    """Put the verified archive into ``folder``, and ``source.json`` that says how it was checked.

    A stored archive with the right checksum is used as it is. Where ``checksum`` is None nothing
    says whether the stored archive is the one wanted, so it is compared with the mirror:

    - a mirror directory: by size and SHA-256; a different file replaces the stored one.
    - a mirror's URL: by the size that the server names; a different size replaces the stored one. A
      file of the same size is not downloaded only to be compared; set its ``checksum``, or delete
      the stored file, to have it replaced.
    - no mirror: the stored archive is used.

    Every use of an unchecked archive prints a line saying which file is used. On a file system
    without locks a warning is printed: two fetches of one archive must not run at once there.

    Args:
        archive: what to fetch.
        checksum: "official", "sha256:...", "md5:...", or None for no check.
        folder: where to put it, as a hard link to the store where links work.

    Raises:
        UserError: the archive cannot be downloaded or copied, or has another checksum; then it is
            set aside as ``<file>.refused``.
    """
    wanted = archive.checksum if checksum == "official" else checksum
    if wanted is None:
        _say(f"warning: {archive.file} is not checked: source.checksum is null in params.yaml")
    STORE.mkdir(parents=True, exist_ok=True)
    stored = STORE / archive.file
    with _locked(STORE / f".{archive.file}.lock"):  # two data sets may share one archive
        found = _stored(stored, wanted) or _obtain(archive, checksum, stored)
    _link(stored, folder / archive.file)
    record = {
        "file": archive.file,
        "checksum": found[0],
        "rule": checksum,
        "verified": wanted is not None,
        "official": archive.checksum in found,
    }
    write_json(folder / "source.json", record)  # the same bytes on every machine


def look(archive: Archive, checksum: Checksum) -> str:
    """Return in one line where `fetch` will take an archive from; use no network.

    A stored or mirrored file is compared by size with the official one, and by checksum up to `READ` bytes.

    Raises:
        UserError: the mirror's folder has no such archive, or another edition.
    """
    mirror, wanted = os.environ.get("IMIX_DATA_MIRROR", ""), archive.checksum if checksum == "official" else checksum
    if (stored := STORE / archive.file).is_file() and not _unlike(stored, archive, wanted):
        return f"{stored}, {_amount(stored)}"
    if not mirror or _is_url(mirror):
        size = f", {archive.size / 1e6:,.0f} MB" if archive.size and checksum == "official" else ""
        return f"will be downloaded from {_origin(mirror, archive.file) if mirror else archive.url}{size}"
    found = Path(_origin(mirror, archive.file))
    if not found.is_file():
        raise UserError(f"IMIX_DATA_MIRROR = {mirror!r}: has no {archive.file}")
    if unlike := _unlike(found, archive, wanted):
        raise UserError(f"IMIX_DATA_MIRROR: {found}: {unlike}")
    return f"will be copied from {found}, {_amount(found)}" + ("" if wanted else "; not checked")


def _unlike(path: Path, archive: Archive, wanted: str | None) -> str:
    """Return how a file differs from the archive that is wanted, as far as can be seen quickly; "" if it does not."""
    size = path.stat().st_size
    if wanted == archive.checksum and archive.size and size != archive.size:
        own = _checksums(path)[0] if size <= READ else "its checksum"
        hint = f"to use it, set source.checksum in params.yaml to {own}"
        return f"has {size:,} bytes, the official archive {archive.size:,}; {hint}"
    if wanted is None or size > READ or wanted in (found := _checksums(path)):
        return ""
    return f"its checksum is {found[wanted.startswith('md5')]}, must be {wanted}"


def _amount(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:,.1f} MB" + ("; too large to read its checksum now" if size > READ else "")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock; warn and go on where the file system has none."""
    from filelock import FileLock

    lock, problem = FileLock(path), ""
    # recent releases of filelock warn and take a weaker lock, older ones raise
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lock.acquire()
        except NotImplementedError:
            problem = os.strerror(errno.ENOSYS)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            problem = os.strerror(error.errno)
    if problem or caught:
        _say(f"warning: {path.parent}: no file locks ({problem or caught[0].message}); do not run two fetches at once")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.release()


def _stored(stored: Path, wanted: str | None) -> tuple[str, str] | None:
    """Return the checksums of the stored archive if it can be used, else None."""
    if not stored.exists():
        return None
    found = _checksums(stored)
    if wanted is None:
        return None if _differs(stored, found) else found
    if wanted in found:
        return found
    _say(f"{_refused(stored, stored, wanted, found)}; fetching it again")
    return None


def _differs(stored: Path, found: tuple[str, str]) -> bool:
    """Return whether the mirror has another file than the stored one, and print which is used."""
    mirror = os.environ.get("IMIX_DATA_MIRROR", "")
    origin = _origin(mirror, stored.name)
    differs, why = False, "there is no mirror to compare it with"
    if _is_url(mirror):
        size = _remote_size(origin)
        differs = size not in (None, stored.stat().st_size)
        why = f"{origin} has the same size" if size else f"{origin} names no size"
        why += "; delete the stored file to download it again"
    elif mirror:
        try:
            same_size = Path(origin).stat().st_size == stored.stat().st_size
            differs = not same_size or _checksums(Path(origin)) != found
            why = f"{origin} is the same"
        except OSError as error:
            why = f"{origin} cannot be read ({error.strerror})"
    _say(f"{origin} differs from {stored}; taking the mirror's file" if differs else f"using {stored}: {why}")
    return differs


def _is_url(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def _origin(mirror: str, file: str) -> str:
    """Return the URL or path of ``file`` on the mirror."""
    return f"{mirror.rstrip('/')}/{file}" if _is_url(mirror) else str(Path(mirror, file))


def _remote_size(url: str) -> int | None:
    """Return the size in bytes that the server names for ``url``, or None."""
    import requests

    try:
        # identity: the size of the file itself, not of a compressed transfer
        headers = {"Accept-Encoding": "identity"}
        answer = requests.head(url, allow_redirects=True, timeout=SECONDS, headers=headers)
        # some servers name a size of 0 where they know none
        return int(answer.headers["Content-Length"]) or None if answer.ok else None
    except (OSError, KeyError, ValueError):
        return None


def _obtain(archive: Archive, checksum: Checksum, stored: Path) -> tuple[str, str]:
    """Bring the archive into the store, check it, then name it; return its checksums."""
    wanted = archive.checksum if checksum == "official" else checksum
    mirror = os.environ.get("IMIX_DATA_MIRROR", "")
    origin = _origin(mirror, archive.file) if mirror else archive.url
    with _workplace(stored) as folder:
        temporary = folder / stored.name
        if mirror and not _is_url(mirror):
            _copy(origin, temporary, mirror)
        else:
            _download(origin, temporary)
        found = _checksums(temporary)
        if wanted and wanted not in found:
            message = f"{_refused(temporary, stored, wanted, found)}; it came from {origin}"
            if mirror and checksum == "official":
                message += f"; if you trust the mirror, set source.checksum in params.yaml to {found[0]}"
            raise UserError(message)
        temporary.replace(stored)
    return found


@contextmanager
def _workplace(stored: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``stored``, without what a killed fetch left there."""
    folder = stored.with_name(f".{stored.name}.tmp")
    folder.unlink() if folder.is_file() else shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(origin: str, target: Path, mirror: str) -> None:
    _say(f"copying {origin}")
    try:
        shutil.copyfile(origin, target)
    except OSError as error:
        if error.errno in FULL or str(error.filename) == str(target):
            raise  # the store's disk, not the mirror's
        text = f"{target.name} cannot be read there ({error.strerror})"
        raise UserError(f"IMIX_DATA_MIRROR = {mirror!r}: {text}") from None


def _download(url: str, target: Path) -> None:
    """Download, trying again after server and connection errors.

    pooch's own check is not used: it deletes a file with a wrong checksum, where the caller sets it
    aside and names the SHA-256 that was found.
    """
    import pooch

    _say(f"downloading {url}")
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**20, timeout=SECONDS)
    for pause in (*PAUSES, None):
        try:
            pooch.retrieve(url, None, fname=target.name, path=target.parent, downloader=downloader)
            return
        except OSError as error:  # those of requests are OSErrors
            if error.errno in FULL:
                raise
            reason: BaseException = error
        status = getattr(getattr(reason, "response", None), "status_code", 0)
        if pause is None or 400 <= status < 500:
            break
        time.sleep(pause)
    while reason.__context__:  # the innermost is the shortest: "Connection refused"
        reason = reason.__context__
    text = " ".join(str(reason).split())
    hint = f"IMIX_DATA_MIRROR can name a directory or base URL that holds {target.name}"
    raise UserError(f"{url}: download failed ({text}); {hint}")


def _refused(path: Path, stored: Path, wanted: str, found: tuple[str, str]) -> str:
    """Set a file aside, out of reach of the readers, and return why."""
    aside = stored.with_name(f"{stored.name}.refused")
    path.replace(aside)
    return f"{stored.name}: checksum is {found[wanted.startswith('md5')]}, must be {wanted}; set aside as {aside}"


def _checksums(path: Path) -> tuple[str, str]:
    """Return SHA-256 and MD5, as params.yaml writes them."""
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
    """Turn whatever breaks in decompression into a UserError that names the archive."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{path}: damaged ({error})") from None


class Member(tarfile.TarInfo):
    """A member whose damaged header is an error: tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "Member":
        """Return the next member.

        Raises:
            tarfile.EOFHeaderError: the end marker, which the caller expects.
            tarfile.ReadError: no header, or a damaged one.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset} of the unpacked archive") from None


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files in a tar.gz, in its order; nothing is written to disk.

    Names have forward slashes and no leading ``./``, whatever system the archive was made on.

    Raises:
        UserError: a damaged archive, a member outside of it, a link, or two members of one name: of
            these, tar programs keep the last, and a reader might keep either.
    """
    seen = set()
    with reading(path), gzip.open(path) as content, tarfile.open(fileobj=content, mode="r|", tarinfo=Member) as archive:
        for member in archive:
            name = PurePosixPath(member.name.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{path}: {member.name}: is outside of the archive; refused")
            if member.issym() or member.islnk():
                raise UserError(f"{path}: {member.name}: is a link to {member.linkname}; must be a file")
            if name in seen and not member.isdir():
                raise UserError(f"{path}: {name}: occurs twice; each member must have a name of its own")
            if file := archive.extractfile(member) if member.isfile() else None:
                seen.add(name)
                yield str(name), file.read()
        while content.read(2**20):  # gzip's own checksum is at the very end
            pass
