"""Speech Commands v0.01: 64,721 clips of a second at 16 kHz as the twelve-class task; test and validation speakers are their own.

Two passes over the archive, so that memory never holds the clips twice: the first finds out which there are, the second
puts each at its place.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imix.datasets import SPLITS, Splits
from imix.datasets.archives import OFFICIAL, choose, fetch, members
from imix.datasets.spoken import CLASSES, COMMANDS, RATE, silent_clips, spectrogram_statistics
from imix.errors import UserError

if TYPE_CHECKING:
    from imix.settings import CommandRows, VerifiedSource

__all__ = ["fetch", "read"]

BACKGROUND = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}  # all other clips are training clips
STATISTICS = 5_000  # training clips that statistics are taken from at most: a minute less, for a tenth of a decibel


def read(source: VerifiedSource, rows: CommandRows, folder: Path) -> Splits:
    """To int16 clips (N, 16000), cut or zero-padded at their ends; statistics of clean spectrograms.

    Silence, all-zero clips, stands at the end of training and validation. Background recordings are cut into seconds.

    Raises:
        UserError: no lists, no background, or a recording that is not 16 kHz mono 16-bit.
    """
    path = folder / OFFICIAL[source.name].file
    names, lists, background = _contents(path)
    inputs, labels, place = {}, {}, {}
    for split in SPLITS:
        here = sorted(name for name in names if _split(name, lists) == split)  # whatever the archive's order
        words = np.array([_label(name) for name in here], np.int64)
        chosen = choose(words, getattr(rows, split), rows.seed, f"{path}: rows.{split}")
        if not len(chosen):
            raise UserError(f"{path}: no clips for {split}")
        silent = silent_clips(split, len(chosen), rows)
        inputs[split] = np.zeros((len(chosen) + silent, RATE), np.int16)
        labels[split] = np.append(words[chosen], np.full(silent, CLASSES.index("silence")))
        place |= {here[index]: clip for index, clip in zip(chosen, inputs[split], strict=False)}  # views of the array's rows
    for name, content in members(path):
        if name in place:
            samples = _samples(content, f"{path}: {name}")[:RATE]
            place[name][: len(samples)] = samples
    some = inputs["train"][:: -(-len(inputs["train"]) // STATISTICS)]  # evenly spaced over words, speakers and silence
    mean, std = spectrogram_statistics(some)
    return Splits(inputs, labels, CLASSES, mean, std, carved=False, background=background)


def _contents(path: Path) -> tuple[set[str], dict[str, set[str]], NDArray[np.int16]]:
    """Names of all clips, those on the lists, and the background recordings, one after the other, as seconds (M, 16000)."""
    names, lists, recordings = set(), {}, {}
    for name, content in members(path):
        directory, _, file = name.rpartition("/")
        if name in LISTS.values():
            lists[name] = set(content.decode(errors="replace").split())
        elif file.endswith(".wav") and directory == BACKGROUND:
            recordings[name] = _samples(content, f"{path}: {name}")
        elif file.endswith(".wav"):
            names.add(name)
    for name in LISTS.values():
        if name not in lists:
            raise UserError(f"{path}: no member {name}")
    samples = np.concatenate([recordings[name] for name in sorted(recordings)] or [np.empty(0, np.int16)])
    if len(samples) < RATE:
        raise UserError(f"{path}: {BACKGROUND}: must hold a second or more of recordings; has {len(samples)} samples")
    return names, lists, samples[: len(samples) // RATE * RATE].reshape(-1, RATE)


def _split(name: str, lists: dict[str, set[str]]) -> str:
    return next((split for split, file in LISTS.items() if name in lists[file]), "train")


def _label(name: str) -> int:
    word = name.split("/")[0]
    return CLASSES.index(word if word in COMMANDS else "unknown")


def _samples(content: bytes, where: str) -> NDArray[np.int16]:
    """The samples of a wav file; ``where``: named in errors."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") if kind == (RATE, 1, 16) else None
    except (wave.Error, EOFError) as error:
        raise UserError(f"{where}: not a wav file ({str(error) or 'it ends too early'})") from None
    if samples is None or not len(samples):
        is_what = "no samples" if samples is not None else f"{kind[0]} Hz, {kind[1]} channel(s), {kind[2]} bits"
        raise UserError(f"{where}: {is_what}; must be {RATE} Hz, 1 channel, 16 bits, not empty")
    return samples
