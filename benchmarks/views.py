"""Views: a batch at once, against the usual pipeline, one item after the other: PIL and torchvision, librosa, NumPy."""

import librosa
import numpy as np
import torch

from benchmarks import compare, start
from benchmarks.plain import PIL_VIEW, pictures
from imix.views import image, speech, tabular
from imix.views.base import Statistics
from imix.views.speech import BANDS, FRAMES, HOP, N_FFT, RATE

BATCHES = (50, 256)
IMAGES = image.Settings(
    scale=[0.2, 1.0],
    jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    jitter_probability=0.8,
    grey_probability=0.2,
    flip_probability=0.5,
)
SPEECH = speech.Settings(probability=0.5, amplitude=[0.7, 1.1], speed=0.2, stretch=0.2, shift=8, noise=0.45)


def image_pairs(device: torch.device, size: int) -> None:
    """CIFAR's views: two of every image of a batch."""
    images = torch.randint(256, (size, 3, 32, 32), dtype=torch.uint8, device=device)
    statistics = Statistics(torch.full((3,), 0.5, device=device), torch.full((3,), 0.25, device=device))
    views, generator = image.Views(IMAGES, statistics), torch.Generator()
    items = pictures(images)
    compare(
        "image views",
        size,
        lambda: [views(images, which, generator) for which in (0, 1)],
        lambda: [torch.stack([PIL_VIEW(item) for item in items]) for _ in (0, 1)],
    )


def one_clip(clip: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The six transforms of one clip, one after the other, as a data loader's worker does them with librosa."""

    def applied() -> bool:
        return bool(rng.random() < SPEECH.probability)

    def stft(samples: np.ndarray) -> np.ndarray:
        return librosa.stft(samples, n_fft=N_FFT, hop_length=HOP, pad_mode="constant")

    samples = clip.astype(np.float32) / 2**15
    if applied():
        samples = samples * np.float32(rng.uniform(*SPEECH.amplitude))
    if applied():
        speed = 1 / (1 + rng.uniform(-SPEECH.speed, SPEECH.speed))
        samples = np.interp(np.arange(0, RATE, speed), np.arange(RATE), samples).astype(np.float32)
        samples = librosa.util.fix_length(samples, size=RATE)
    spectrum = stft(samples)
    if applied():
        spectrum = librosa.phase_vocoder(
            spectrum, rate=1 + rng.uniform(-SPEECH.stretch, SPEECH.stretch), hop_length=HOP
        )
        spectrum = librosa.util.fix_length(spectrum, size=FRAMES)
    if applied():
        spectrum = np.roll(spectrum, rng.integers(-SPEECH.shift, SPEECH.shift + 1), 1)
    if applied():
        share, start = rng.uniform(0, SPEECH.noise), rng.integers(len(noise) - RATE)
        spectrum = (1 - share) * spectrum + share * stft(noise[start : start + RATE].astype(np.float32) / 2**15)
    mel = librosa.feature.melspectrogram(S=np.abs(spectrum) ** 2, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS)
    return librosa.power_to_db(mel, ref=np.max)


def speech_pairs(device: torch.device, size: int) -> None:
    """Two views of every clip of a batch."""
    rng = np.random.default_rng(0)
    clips = (rng.standard_normal((size, RATE)) * 3000).astype(np.int16)
    noise = (rng.standard_normal((6, 10 * RATE)) * 500).astype(np.int16)
    tensors, generator = torch.from_numpy(clips).to(device), torch.Generator()
    background = torch.from_numpy(noise.reshape(-1, RATE)).to(device)
    views = speech.Views(
        SPEECH, Statistics(torch.zeros(1, device=device), torch.ones(1, device=device), background=background)
    )
    compare(
        "speech views",
        len(clips),
        lambda: [views(tensors, which, generator) for which in (0, 1)],
        lambda: [np.stack([one_clip(clip, noise[0], rng) for clip in clips]) for _ in (0, 1)],
    )


def tabular_pairs(device: torch.device, size: int) -> None:
    """CovType's views: two of every row of 10 numbers and 44 flags."""
    rows, mean, std = (
        torch.randn(size, 54, device=device),
        torch.zeros(10, device=device),
        torch.ones(10, device=device),
    )
    views = tabular.Views(tabular.Settings(masking=[0.2, 0.2]), Statistics(mean, std, 10))
    generator = torch.Generator()
    array, rng = rows.cpu().numpy(), np.random.default_rng(0)

    def one_row(row: np.ndarray) -> np.ndarray:
        view = row.copy()
        view[:10] = np.where(rng.random(10) < 0.2, 0, (view[:10] - 0.0) / 1.0)
        return view

    times = 100  # one pair of batches takes a tenth of a millisecond
    compare(
        f"tabular views of {size} rows",
        times * size,
        lambda: [views(rows, which, generator) for _ in range(times) for which in (0, 1)],
        lambda: [np.stack([one_row(row) for row in array]) for _ in range(times) for _ in (0, 1)],
    )


def main() -> None:
    """Print the ratios; a quarter as many clips as images."""
    device = start()
    for size in BATCHES:
        image_pairs(device, size)
        speech_pairs(device, size // 4)
        tabular_pairs(device, size)


if __name__ == "__main__":
    main()
