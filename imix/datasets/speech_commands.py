"""Speech Commands v0.01: 64,721 clips of a second at 16 kHz as the twelve-class task.

Test and validation speakers are the archive's own. The archive is read twice, so that memory never
holds the clips twice: the first pass finds out which clips there are, the second puts each at its
place.
"""

import codecs
import io
import struct
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imix import archives
from imix.archives import Archive, Checksum, members
from imix.datasets.spoken import (
    CLASSES,
    COMMANDS,
    KIND,
    RATE,
    check_training,
    silent_clips,
    spectrogram_statistics,
)
from imix.errors import UserError
from imix.schema import BelowOne, Count, Seed, Strict
from imix.sources import SPLITS, Form, Splits, check_count, choose, chosen_counts

__all__ = ["ARCHIVE", "CLASSES", "KIND", "ORIGIN", "Rows", "Source", "fetch", "form", "read"]

ARCHIVE = Archive(
    "speech_commands_v0.01.tar.gz",
    "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
    "sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    1_489_096_277,
)
ORIGIN = f"archive {ARCHIVE.file}"
OFFICIAL = {"train": 51_088, "validation": 6_798, "test": 6_835}  # clips
BACKGROUND = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}  # all other clips are training clips


class Source(Strict):
    """The archive of recordings, from its official address or a mirror."""

    name: Literal["speech_commands"]
    checksum: Checksum = "official"


class Rows(Strict):
    """A seeded, stratified choice out of the archive's own three splits; null for all of one."""

    silence: BelowOne  # share of all-zero clips among training and validation rows; none in test
    train: Count | None  # clips, before silence is added
    validation: Count | None
    test: Count | None
    seed: Seed


class Contents(NamedTuple):
    """What the first pass finds: each clip's split by name, and seconds of noise (M, 16000)."""

    clips: dict[str, str]
    background: NDArray[np.int16]


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is fetched.

    Raises:
        ValueError: rows that cannot be had; the text starts with the key.
    """
    counts, exact = chosen_counts(rows, source.checksum, OFFICIAL)
    for split in LISTS:
        check_count(f"rows.{split}", counts[split])
    check_training(counts["train"], rows.silence, "rows.train")
    counts = {split: count + silent_clips(split, count, rows.silence) for split, count in counts.items()}
    return Form(**counts, classes=len(CLASSES), shape=(RATE,), dtype="int16", carved=False, exact=exact)


def fetch(source: Source, folder: Path) -> None:
    """Put the verified archive into ``folder``; errors are those of `imix.archives.fetch`."""
    archives.fetch(ARCHIVE, source.checksum, folder)


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read int16 clips (N, 16000), cut or zero-padded at their ends.

    Statistics are those of clean spectrograms. Silence, all-zero clips, is at the end of training
    and validation. Background recordings are cut into seconds.

    Raises:
        UserError: no lists, a line of them that names no clip, a clip in both, no background, a
            recording that is not 16 kHz mono 16-bit, or fewer rows than wanted.
    """
    path = folder / ARCHIVE.file
    contents = _contents(path)
    inputs, labels, place = {}, {}, {}
    for split in SPLITS:
        here = sorted(name for name, its in contents.clips.items() if its == split)  # whatever the archive's order
        words = np.array([_label(name) for name in here], np.int64)
        chosen = choose(words, getattr(rows, split), rows.seed, f"{path}: rows.{split}")
        if not len(chosen):
            raise UserError(f"{path}: no clips for {split}")
        silent = silent_clips(split, len(chosen), rows.silence)
        inputs[split] = np.zeros((len(chosen) + silent, RATE), np.int16)
        labels[split] = np.append(words[chosen], np.full(silent, CLASSES.index("silence")))
        place |= {here[i]: clip for i, clip in zip(chosen, inputs[split], strict=False)}  # views of the array's rows
    for name, content in members(path):
        if name in place:
            clip = samples(content, f"{path}: {name}")[:RATE]
            place[name][: len(clip)] = clip
    mean, std = spectrogram_statistics(inputs["train"], rows.seed)
    return Splits(inputs, labels, CLASSES, mean, std, carved=False, background=contents.background)


def _contents(path: Path) -> Contents:
    clips, lists, recordings = {}, {}, {}
    for name, content in members(path):
        word, file = _parts(name)
        if name in LISTS.values():
            lists[name] = content
        elif not file.lower().endswith(".wav"):
            continue
        elif word == BACKGROUND:
            recordings[name] = samples(content, f"{path}: {name}")
        elif not word:
            raise UserError(f"{path}: {name}: must be in a folder that is named by its word")
        else:
            clips[name] = "train"
    for split, name in LISTS.items():
        if name not in lists:
            raise UserError(f"{path}: no member {name}")
        _assign(split, lists[name], clips, path)
    noise = np.concatenate([recordings[name] for name in sorted(recordings)] or [np.empty(0, np.int16)])
    if len(noise) < RATE:
        raise UserError(f"{path}: {BACKGROUND}: must hold a second or more of recordings; has {len(noise)} samples")
    return Contents(clips, noise[: len(noise) // RATE * RATE].reshape(-1, RATE))


def _assign(split: str, content: bytes, clips: dict[str, str], path: Path) -> None:
    """Put the clips that a list names into its split."""
    name = LISTS[split]
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    for number, line in enumerate(content.decode(encoding, errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        clip = str(PurePosixPath(line.strip().replace("\\", "/")))  # without ./ and doubled slashes
        if clip not in clips:
            raise UserError(f"{path}: {name}, line {number}: {line.strip()!r} is no clip of the archive")
        if clips[clip] not in ("train", split):
            raise UserError(f"{path}: {name}, line {number}: {clip!r} is in {LISTS[clips[clip]]}, too; must be in one")
        clips[clip] = split


def _parts(name: str) -> tuple[str, str]:
    """Return a clip's word (its folder, in small letters) and file; "" at the top level."""
    folder, _, file = name.rpartition("/")
    return folder.split("/")[0].lower(), file


def _label(name: str) -> int:
    word, _ = _parts(name)
    return CLASSES.index(word if word in COMMANDS else "unknown")


def samples(content: bytes, where: str) -> NDArray[np.int16]:
    """Return the samples of a WAV file, (samples,).

    libsndfile reads what is there of a truncated file without complaint, so its length is checked
    against the header.

    Args:
        content: of the file. where: what an error names.

    Raises:
        UserError: not a WAV file, truncated, empty, or not 16 kHz, mono, 16-bit PCM.
    """
    import soundfile

    must = f"must be {RATE} Hz, 1 channel, PCM_16, not empty"
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            found = f"{file.samplerate} Hz, {file.channels} channel(s), {file.subtype}"
            if file.format not in ("WAV", "WAVEX"):  # WAVEX: WAVE_FORMAT_EXTENSIBLE
                raise UserError(f"{where}: not a WAV file but {file.format}")
            if (file.samplerate, file.channels, file.subtype) != (RATE, 1, "PCM_16"):
                raise UserError(f"{where}: {found}; {must}")
            clip = file.read(dtype="int16")
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = " ".join(getattr(error, "error_string", str(error)).split())
        raise UserError(f"{where}: not a WAV file ({reason or 'it cannot be read'})") from None
    if (declared := _declared(content)) != clip.nbytes:
        text = f"{clip.nbytes} bytes of samples, the header says {declared}"
        raise UserError(f"{where}: {text}; truncated, or ends in half a sample")
    if not len(clip):
        raise UserError(f"{where}: no samples; {must}")
    return clip


def _declared(content: bytes) -> int:
    """Return the bytes of samples that a WAV file's header declares."""
    order = ">" if content.startswith(b"RIFX") else "<"
    place, size = 12, 0  # after RIFF, its size and WAVE
    while place + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, place)
        if name == b"data":
            break
        place += 8 + size + size % 2  # chunks are padded to even lengths
    return size
