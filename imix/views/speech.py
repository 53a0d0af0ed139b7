"""Speech views: random transforms on waveform and STFT, then a mel spectrogram.

Clips are int16 waveforms of one second at 16 kHz; a view is a 1 x 32 x 32 image, mel bands by
frames. In this order, each with the settings' probability and its own parameters for every clip:
amplitude; speed and pitch by resampling; time stretch by a phase vocoder; time shift by frames;
background noise, mixed in the STFT domain.
"""

import itertools
import math
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from imix.encoders.resnet import ResNet
from imix.errors import UserError
from imix.schema import BelowOne, Fraction, Positive, Strict, Within
from imix.sending import send
from imix.views.base import Statistics, uniform

Encoder = ResNet
RATE = 16_000  # samples a second, and samples a clip
N_FFT = 2048
HOP = 512
FRAMES = 1 + RATE // HOP  # 32
BANDS = 32
FLOOR = 1e-10  # of the power, before decibels
RANGE_DB = 80.0
# Clips at a time on a CPU: their spectra fit its cache, many times as fast as 100 clips at once.
BLOCK = 8


class Settings(Strict):
    """The six transforms on waveform and STFT, each applied with ``probability``."""

    probability: Fraction
    # smallest and largest factor
    amplitude: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    speed: BelowOne
    stretch: BelowOne
    shift: Annotated[int, Within(0, 31)]  # frames
    noise: Fraction  # the largest share of background

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if self.amplitude[0] > self.amplitude[1]:
            raise ValueError(f"amplitude {self.amplitude} must not fall: the smallest factor, then the largest")
        return self


NEUTRAL = Settings(  # of clean cells, which draw no views
    probability=0.0, amplitude=[1.0, 1.0], speed=0.0, stretch=0.0, shift=0, noise=0.0
)


def seen(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the encoder's input for a clip of ``shape`` (16000,): (1, 32, 32)."""
    return (1, BANDS, FRAMES)


def check_rows(inputs: NDArray[np.generic], name: str, where: str) -> None:
    """Raise UserError unless ``inputs`` are rows of this domain: int16 (N, 16000).

    Args:
        name: of the array, as in "train". where: the file or data set that holds it.
    """
    if inputs.dtype != np.int16 or inputs.ndim != 2 or inputs.shape[1] != RATE:
        raise UserError(f"{where}: {name} is {inputs.dtype} {inputs.shape}; must be int16 (N, {RATE}), 1 s at 16 kHz")


class Views:
    """Views of clips (N, 16000) int16: standardised mel spectrograms (N, 1, 32, 32) float32.

    Args:
        settings: ranges and probability.
        statistics: mean and std (1,) of the training rows' clean spectrograms, in dB; background
            (M, 16000) int16.

    Raises:
        UserError: noise is to be mixed in, but there is no background.
    """

    def __init__(self, settings: Settings, statistics: Statistics) -> None:
        self.settings, self.mean, self.std = settings, statistics.mean, statistics.std
        device = statistics.mean.device
        none = torch.zeros(0, RATE, dtype=torch.int16, device=device)
        self.background = none if statistics.background is None else statistics.background
        if settings.noise and settings.probability and not len(self.background):
            raise UserError(
                f"views.noise = {settings.noise}: must be 0, since the data set has no background recordings"
            )
        self.window = torch.hann_window(N_FFT, device=device)
        self.filters = mel_filters(device)

    @cached_property
    def noise(self) -> Tensor:
        """Spectra of the background, (M, 32, 1025) complex: 0.26 MB a second."""
        return torch.cat([self._stft(block / 2**15) for block in self.background.split(self._block(self.background))])

    def clean(self, rows: Tensor) -> Tensor:
        """Return the spectrograms of the clips as they are, (N, 1, 32, 32)."""
        blocks = rows.split(self._block(rows))
        return torch.cat([self._image(self._mel(power(self._stft(block / 2**15)))) for block in blocks])

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """Return a random view of every clip, (N, 1, 32, 32); ``which`` is ignored."""
        s, size = self.settings, len(rows)

        def drawn(neutral: float, low: float, high: float) -> Tensor:
            """Draw U(low, high) per clip with the transforms' probability, else ``neutral``."""
            applied = torch.rand(size, generator=generator) < s.probability
            return torch.where(applied, uniform(size, low, high, generator), neutral)

        amplitude = drawn(1, *s.amplitude)
        speed = 1 / (1 + drawn(0, -s.speed, s.speed))
        rate = 1 + drawn(0, -s.stretch, s.stretch)
        shift = drawn(0, -s.shift, s.shift + 1).floor().long()
        share = drawn(0, 0, s.noise)
        which_noise = torch.randint(max(1, len(self.background)), (size,), generator=generator)
        parameters = (amplitude, speed, rate, shift, share, which_noise)
        # clips of one kind go through `view` together: with noise or without, stretched or not
        kind = 2 * (share != 0) + (rate != 1)
        alike = [part for k in range(4) for part in (kind == k).nonzero()[:, 0].split(self._block(rows)) if len(part)]
        views = torch.empty(size, 1, BANDS, FRAMES, device=rows.device)
        for items in alike:
            here = send(items, rows.device)
            views.index_copy_(0, here, self.view(rows.index_select(0, here), *(z[items] for z in parameters)))
        return views

    @staticmethod
    def _block(rows: Tensor) -> int:
        return BLOCK if rows.device.type == "cpu" else max(1, len(rows))

    def view(
        self, rows: Tensor, amplitude: Tensor, speed: Tensor, rate: Tensor, shift: Tensor, share: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the views of clips whose parameters, (N,) each on the host, are given.

        A step that no clip needs is skipped, so clips of one kind (stretched or not, with noise or
        not) are fastest. Phases are computed only for clips both stretched and mixed with noise.
        Without either, mel bands are shifted instead of the many more bins.
        """
        device, mixed, stretched = rows.device, bool((share != 0).any()), bool((rate != 1).any())
        resampled = (speed != 1).nonzero()[:, 0]
        clips = rows * send(amplitude / 2**15, device)[:, None]
        if len(resampled):
            here = send(resampled, device)
            clips.index_copy_(0, here, resample(clips.index_select(0, here), send(speed[resampled], device)))
        spectra, shift = self._stft(clips), send(shift, device)
        if not mixed and not stretched:
            return self._image(shift_frames(self._mel(power(spectra)), shift))
        vocoder = Vocoder(send(rate, device), shift, math.ceil(FRAMES / (1 - self.settings.stretch)))
        if not mixed:
            return self._image(self._mel(vocoder.magnitude(power(spectra).sqrt_()).square_()))
        spectra = vocoder.spectra(spectra) if stretched else shift_frames(spectra, shift)
        background = torch.view_as_real(self.noise.index_select(0, send(noise, device)))
        torch.view_as_real(spectra).lerp_(background, send(share, device)[:, None, None, None])
        return self._image(self._mel(power(spectra)))

    def _stft(self, clips: Tensor) -> Tensor:
        """Return spectra, (N, 16000) -> (N, 32, 1025) complex; centred frames, zero-padded ends."""
        spectra = torch.stft(clips, N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)
        return spectra.mT  # contiguous: torch.stft lays out frame by frame

    def _mel(self, power: Tensor) -> Tensor:
        """Return power in mel bands, (N, 32, 1025) -> (N, 32, 32)."""
        return power @ self.filters

    def _image(self, mel: Tensor) -> Tensor:
        """Return standardised dB, (N, 32 frames, 32 bands) -> (N, 1, 32 bands, 32 frames)."""
        return ((decibels(mel.mT) - self.mean) / self.std)[:, None]


def power(spectra: Tensor) -> Tensor:
    """Return the squared magnitude of a complex tensor."""
    return spectra.real.square().addcmul_(spectra.imag, spectra.imag)


def decibels(power: Tensor) -> Tensor:
    """Return decibels under each clip's maximum, at least -80, (N, bands, frames).

    Silence is 0 dB everywhere.
    """
    level = 10 * power.clamp_min(FLOOR).log10()
    return (level - level.amax((1, 2), keepdim=True)).clamp_min(-RANGE_DB)


def resample(clips: Tensor, speed: Tensor) -> Tensor:
    """Play each clip (N, S) at its own ``speed`` (N,) by linear interpolation.

    The result is cut or zero-padded to S samples.
    """
    samples = clips.shape[1]
    place = torch.arange(samples, device=clips.device, dtype=torch.float64) * speed[:, None]
    left = place.clamp_(max=samples).long()  # silence follows the last sample
    weight = place.frac_().to(clips.dtype)
    padded = F.pad(clips, (0, 2))
    return padded.gather(1, left).lerp_(padded[:, 1:].gather(1, left), weight)


def shift_frames(source: Tensor, shift: Tensor) -> Tensor:
    """Move clips (N, 32, bins) by ``shift`` (N,) frames, left if positive; fill with silence."""
    frames = torch.arange(FRAMES, device=source.device) + shift[:, None]
    silence = source.shape[0] * FRAMES  # the row after all others
    rows = torch.where((frames >= 0) & (frames < FRAMES), frames + _first_rows(source), silence)
    return F.pad(source.flatten(0, 1), (0, 0, 0, 1)).index_select(0, rows.flatten()).view_as(source)


def _first_rows(source: Tensor) -> Tensor:
    """Return each clip's first row, (N, 1), in (N, frames, bins) flattened to (N frames, bins)."""
    return torch.arange(0, source.shape[0] * source.shape[1], source.shape[1], device=source.device)[:, None]


class Vocoder:
    """Time stretch by a phase vocoder, then a shift by whole frames; 32 frames in, 32 out.

    Stretched frame t has the magnitude interpolated at source frame t * rate. Its phase is that of
    frame 0 plus the phase steps of all source frames passed so far. Up to multiples of 2 pi this
    sum is a running product of unit phasors, so no angle is ever computed. Output frame t is
    stretched frame t + shift, or silence if there is none.

    Args:
        rate: (N,) positive; above 1 is faster. shift: (N,) int64 frames; positive moves sound to
            the left.
        longest: how many frames the slowest rate makes of 32.
    """

    def __init__(self, rate: Tensor, shift: Tensor, longest: int) -> None:
        self.rate, self.shift, self.longest = rate[:, None].double(), shift[:, None], longest

    def magnitude(self, source: Tensor) -> Tensor:
        """Return warped magnitudes, (N, 32, bins) -> (N, 32, bins); silence follows the source."""
        frames = torch.arange(FRAMES, device=source.device) + self.shift
        place = frames * self.rate
        left = place.long()  # the output frame is between source frames left and left + 1
        weight = (place - left).to(source.dtype)
        near_weight = (1 - weight) * ((frames >= 0) & (left < FRAMES))
        far_weight = weight * ((frames >= 0) & (left < FRAMES - 1))
        rows, first = source.flatten(0, 1), _first_rows(source)
        near, far = (
            rows.index_select(0, (first + side.clamp(0, FRAMES - 1)).flatten()).view_as(source)
            for side in (left, left + 1)
        )
        return near.mul_(near_weight[:, :, None]).addcmul_(far, far_weight[:, :, None])

    def spectra(self, source: Tensor) -> Tensor:
        """Return warped spectra, (N, 32, bins) complex -> (N, 32, bins); overwrites ``source``."""
        # gives zeros the angle 0; far smaller than the effect of one quantisation step
        source.real.add_(1e-15)
        strength = power(source)
        unit = source * strength.rsqrt()
        # the first frame's phase, the step to every later frame, the step to silence after them
        steps = torch.cat([unit[:, :1], unit[:, 1:] * unit[:, :-1].conj(), unit[:, -1:].conj()], 1)
        earlier = torch.arange(-1, self.longest - 1, device=source.device) * self.rate
        passed = earlier.floor_().long().add_(1).clamp_(0, FRAMES)
        # (frames, N, bins): the factors of one product are contiguous
        rows = (passed + _first_rows(steps)).T.flatten()
        phase = steps.flatten(0, 1).index_select(0, rows).unflatten(0, (self.longest, -1))
        # a cumprod along the frames, five times as fast
        for before, frame in itertools.pairwise(phase.unbind()):
            frame *= before
        frames = (torch.arange(FRAMES, device=source.device) + self.shift).clamp(0, self.longest - 1)
        rows = frames * len(source) + torch.arange(len(source), device=source.device)[:, None]
        warped = phase.flatten(0, 1).index_select(0, rows.flatten()).view_as(source)
        return warped.mul_(self.magnitude(strength.sqrt_()))


def mel_filters(device: torch.device | None = None) -> Tensor:
    """Return mel filters (1025, 32) from 0 to 8 kHz: Slaney's scale, equal areas, as librosa's."""
    bins = N_FFT // 2 + 1
    return melscale_fbanks(bins, 0.0, RATE / 2, BANDS, RATE, norm="slaney", mel_scale="slaney").to(device)
