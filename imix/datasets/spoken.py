"""The twelve-class commands task, spoken by eSpeak NG: clips of one second at 16 kHz.

A voice is a variant (the speaker's timbre) with an accent. Variants are dealt out to the splits, so
that nothing of a test voice is ever trained on. Rate and pitch vary by voice and word. Ten commands
and ``unknown`` (other words) are synthesised; ``silence`` are all-zero clips. The same settings
give the same bytes: one fresh process, one fixed order.
"""

import csv
import ctypes
import io
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from imix.dataset import random_rows
from imix.errors import UserError
from imix.files import write_bytes
from imix.schema import BelowOne, Seed, Strict, Within
from imix.sources import SPLITS, Form, Package, Splits, check_count
from imix.views import speech
from imix.views.base import Statistics

KIND = "speech"
ORIGIN = "synthesised by eSpeak NG"
ARCHIVE = None
PACKAGE = Package("espeakng-loader", "embedded")
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = "bed bird cat dog eight five four happy house nine one seven six three tree two wow zero"
UNKNOWN = tuple(OTHERS.split())
CLASSES = ["unknown", "silence", *COMMANDS]
ACCENTS = ("en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us", "en-us-nyc")
RATE = 16_000
NOISES, NOISE_SECONDS = 6, 10
STATISTICS = 5_000  # training clips at most for statistics: saves a minute, costs a tenth of a decibel


class Source(Strict):
    """Words synthesised by eSpeak NG."""

    name: Literal["spoken"]
    seed: Seed  # of the choice of voices, rates and pitches
    voices: Annotated[
        dict[Literal["train", "validation", "test"], Annotated[int, Within(1, 10_000)]], Field(min_length=3)
    ]  # speakers per split, disjoint
    words: Annotated[int, Within(10, 1_000)]  # per voice; the ten commands first, then unknown words


class Rows(Strict):
    """The splits are the voices'."""

    silence: BelowOne  # share of all-zero clips among training and validation rows; none in test


class Utterance(NamedTuple):
    """One word to be spoken."""

    split: str
    voice: str
    word: str
    rate: int  # words per minute
    pitch: int  # 0..100


def script(source: Source, variants: list[str]) -> list[Utterance]:
    """Return who says what, and how: the whole data set before it is spoken.

    Args:
        source: voices per split, words per voice, seed.
        variants: all variants of the installed eSpeak NG.

    Raises:
        UserError: fewer voices than asked for.
    """
    generator = np.random.default_rng(source.seed)
    total = sum(source.voices.values())
    dealt = generator.permutation(sorted(variants))
    ends = np.cumsum([round(len(dealt) * source.voices[split] / total) for split in SPLITS[:2]])
    utterances = []
    for split, mine in zip(SPLITS, np.split(dealt, ends), strict=True):
        pairs = [f"{accent}+{variant}" for variant in mine for accent in ACCENTS]
        if source.voices[split] > len(pairs):
            text = f"must be at most the {len(pairs)} voices that eSpeak NG has for this split"
            raise UserError(f"params.yaml: source.voices.{split} = {source.voices[split]}: {text}")
        for voice in generator.choice(pairs, source.voices[split], replace=False):
            base_rate, base_pitch = generator.integers(130, 211), generator.integers(25, 76)
            for word in (*COMMANDS, *generator.choice(UNKNOWN, source.words - len(COMMANDS))):
                rate, pitch = base_rate + generator.integers(-20, 21), base_pitch + generator.integers(-15, 16)
                utterances.append(Utterance(split, str(voice), str(word), int(rate), int(pitch)))
    return utterances


def form(source: Source, rows: Rows) -> Form:
    """Return what the settings give, before anything is synthesised.

    Raises:
        ValueError: a class without training rows; the text starts with the key.
    """
    if source.words <= len(COMMANDS):
        reason = "the ten commands come first, and class unknown needs a word of its own"
        raise ValueError(f"source.words = {source.words}: must be at least {len(COMMANDS) + 1}: {reason}")
    counts = {split: source.voices[split] * source.words for split in SPLITS}
    for split in SPLITS[1:]:
        check_count(f"source.voices.{split} * source.words", counts[split])
    check_training(counts["train"], rows.silence, "source.voices.train * source.words")
    counts = {split: count + silent_clips(split, count, rows.silence) for split, count in counts.items()}
    return Form(**counts, classes=len(CLASSES), shape=(RATE,), dtype="int16", carved=False)


def check_training(count: int, silence: float, key: str) -> None:
    """Check that every class can have a training row.

    Args:
        count: training clips of words. silence: share of silent ones. key: where the count comes
            from.

    Raises:
        ValueError: too few clips, or none of silence; the text starts with the key.
    """
    if count < len(CLASSES) - 1:
        raise ValueError(f"{key} = {count}: must be at least one row of each of the {len(CLASSES) - 1} spoken classes")
    if not silent_clips("train", count, silence):
        raise ValueError(f"rows.silence = {silence}: gives no silent clip beside {count} training clips; must give one")


class Synthesiser:
    """The eSpeak NG library of the espeakng-loader package, called through ctypes.

    Raises:
        UserError: the package is not installed, or its library cannot start.
    """

    RATE_PARAMETER, PITCH_PARAMETER = 1, 3  # espeak_PARAMETER
    RETRIEVAL, CHARACTERS, UTF8 = 2, 1, 1  # AUDIO_OUTPUT_SYNCHRONOUS; POS_CHARACTER; espeakCHARS_UTF8

    def __init__(self) -> None:
        try:
            import espeakng_loader

            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
            self.data = Path(espeakng_loader.get_data_path())
        except (ImportError, OSError, RuntimeError) as error:
            raise UserError(f"espeakng-loader: cannot be used ({error}): pip install 'imix[embedded]'") from None
        self.rate: int = self.library.espeak_Initialize(self.RETRIEVAL, 0, str(self.data).encode(), 0)
        if self.rate <= 0:
            raise UserError(f"espeakng-loader: eSpeak NG does not start with the voices in {self.data}")
        self._pieces: list[NDArray[np.int16]] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

        def keep(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self._callback = callback(keep)  # held here: the library keeps only a pointer
        self.library.espeak_SetSynthCallback(self._callback)

    def variants(self) -> list[str]:
        """Return the names of all voice variants."""
        return sorted(path.name for path in (self.data / "voices" / "!v").iterdir())

    def say(self, utterance: Utterance) -> NDArray[np.int16]:
        """Speak one word, (samples,) at ``self.rate`` a second.

        Raises:
            UserError: an unknown voice, or nothing was spoken.
        """
        self._pieces.clear()
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of breath; seeded by the clock otherwise
        text = utterance.word.encode() + b"\0"
        failed = self.library.espeak_SetVoiceByName(utterance.voice.encode())
        self.library.espeak_SetParameter(self.RATE_PARAMETER, utterance.rate, 0)
        self.library.espeak_SetParameter(self.PITCH_PARAMETER, utterance.pitch, 0)
        failed = failed or self.library.espeak_Synth(text, len(text), 0, self.CHARACTERS, 0, self.UTF8, None, None)
        if failed or not self._pieces:
            raise UserError(f"espeakng-loader: voice {utterance.voice!r} does not say {utterance.word!r}")
        return np.concatenate(self._pieces)


def fetch(source: Source, folder: Path) -> None:
    """Speak the whole script.

    Writes ``clips.safetensors`` (the samples of all clips in a row, and lengths) and ``clips.csv``
    (who, what, how).

    Raises:
        UserError: eSpeak NG is not installed, has too few voices, or does not speak.
    """
    from safetensors.numpy import save

    synthesiser = Synthesiser()
    utterances = script(source, synthesiser.variants())
    clips = [synthesiser.say(utterance) for utterance in utterances]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([Utterance._fields, *utterances])
    write_bytes(folder / "clips.csv", table.getvalue().encode())
    lengths = np.array([len(clip) for clip in clips])
    samples = {"samples": np.concatenate(clips), "lengths": lengths, "rate": np.array(synthesiser.rate)}
    write_bytes(folder / "clips.safetensors", save(samples))


def read(source: Source, rows: Rows, folder: Path) -> Splits:
    """Read int16 clips (N, 16000), each word at a random place of its second.

    Statistics are those of clean spectrograms.

    Raises:
        UserError: files of ``folder`` that do not belong together, or are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        raw = load((folder / "clips.safetensors").read_bytes())
        utterances = list(csv.DictReader(io.StringIO((folder / "clips.csv").read_text())))
        lengths = raw["lengths"]
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be read ({error})") from None
    if len(lengths) != len(utterances) or lengths.min() < 1 or lengths.sum() != len(raw["samples"]):
        found = f"{len(utterances)} utterances, {len(lengths)} clips, shortest of {lengths.min()} samples"
        raise UserError(f"{folder}: {found}: do not match")
    generator = np.random.default_rng(source.seed)
    clips = _placed(np.split(raw["samples"], np.cumsum(lengths)[:-1]), int(raw["rate"]), generator)
    words = np.array([CLASSES.index(u["word"]) if u["word"] in COMMANDS else 0 for u in utterances])
    split = np.array([u["split"] for u in utterances])
    inputs, labels = {}, {}
    for name in SPLITS:
        here = split == name
        silent = silent_clips(name, int(here.sum()), rows.silence)
        inputs[name] = np.concatenate([clips[here], np.zeros((silent, RATE), np.int16)])
        labels[name] = np.concatenate([words[here], np.full(silent, CLASSES.index("silence"))])
    mean, std = spectrogram_statistics(inputs["train"], source.seed)
    return Splits(inputs, labels, CLASSES, mean, std, carved=False, background=_noises(generator))


def _placed(spoken: list[NDArray[np.int16]], rate: int, generator: np.random.Generator) -> NDArray[np.int16]:
    """Return clips (N, 16000): words resampled from ``rate``, at random places."""
    from scipy.signal import resample_poly

    divisor = np.gcd(RATE, rate)
    clips = np.zeros((len(spoken), RATE), np.int16)
    for clip, samples in zip(clips, spoken, strict=True):
        at_rate = resample_poly(samples.astype(np.float64), RATE // divisor, rate // divisor)[:RATE]
        start = generator.integers(RATE - len(at_rate) + 1)
        clip[start : start + len(at_rate)] = at_rate.round().clip(-(2**15), 2**15 - 1)
    return clips


def _noises(generator: np.random.Generator) -> NDArray[np.int16]:
    """Return seconds (60, 16000) of six kinds of noise.

    Power falls as 1 / f^c, with c from 0 (white) to 2 (brown).
    """
    samples = RATE * NOISE_SECONDS
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    frequency[0] = frequency[1]
    noises = []
    for colour in np.linspace(0, 2, NOISES):
        noise = np.fft.irfft(np.fft.rfft(generator.standard_normal(samples)) * frequency ** (-colour / 2), samples)
        noises.append(noise / np.abs(noise).max() * 0.1 * 2**15)
    return np.concatenate(noises).reshape(-1, RATE).astype(np.int16)


def silent_clips(split: str, spoken: int, silence: float) -> int:
    """Return how many all-zero clips make up ``silence`` of a split; none in test."""
    return 0 if split == "test" else round(spoken * silence / (1 - silence))


def spectrogram_statistics(clips: NDArray[np.int16], seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation, (1,) each, of the clean spectrograms in dB.

    Args:
        clips: (N, 16000) of training; of more than `STATISTICS`, that many are chosen at random.
        seed: of the choice.
    """
    some = torch.from_numpy(clips[random_rows(len(clips), STATISTICS, seed).numpy()])
    settings = speech.Settings(probability=0.0, amplitude=[1.0, 1.0], speed=0.0, stretch=0.0, shift=0, noise=0.0)
    neutral = Statistics(torch.zeros(1), torch.ones(1), 0, torch.zeros(1, RATE, dtype=torch.int16))
    views = speech.Views(settings, neutral)
    decibels = torch.cat([views.clean(batch) for batch in some.split(256)])
    return decibels.mean().numpy().reshape(1), decibels.std().numpy().reshape(1)
