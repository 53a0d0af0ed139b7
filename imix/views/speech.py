"""Speech views: six random transforms on waveform and STFT, then a mel spectrogram in dB (section 2).

Clips are int16 waveforms of one second at 16 kHz; a view is a 1 x 32 x 32 image, mel bands by frames. In order, each
with the settings' probability and its own parameters for every clip: amplitude; speed and pitch by resampling; time
stretch by a phase vocoder; time shift by frames; background noise, mixed in the STFT domain.
"""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from imix.errors import UserError
from imix.settings import SpeechViews
from imix.views import uniform

RATE = 16_000  # samples a second, and samples a clip
N_FFT = 2048
HOP = 512
FRAMES = 1 + RATE // HOP  # 32
BANDS = 32
FLOOR = 1e-10  # of the power, before decibels
RANGE_DB = 80.0
BLOCK = 8  # clips whose spectra stay in a processor's cache: many times as fast as a batch of 100


class Views:
    """Clips (N, 16000) int16 to mel spectrograms (N, 1, 32, 32) float32, standardised by the training rows'.

    Args:
        settings: ranges and probability.
        mean, std: (1,) of the training rows' clean spectrograms, in dB.
        background: (M, 16000) int16 seconds of noise.
    """

    def __init__(self, settings: SpeechViews, mean: Tensor, std: Tensor, background: Tensor) -> None:
        self.settings, self.mean, self.std = settings, mean, std
        self.background = background
        self.window = torch.hann_window(N_FFT, device=background.device)
        self.filters = mel_filters(device=background.device)

    @cached_property
    def noise(self) -> Tensor:
        """Spectra of the background, (M, 32, 1025) complex: 0.26 MB a second."""
        if not len(self.background):
            raise UserError("speech views with noise need background recordings; the data set has none")
        return torch.cat([self._stft(block.float() / 2**15) for block in self.background.split(self._block(self.background))])

    def clean(self, rows: Tensor) -> Tensor:
        """The spectrograms of the clips as they are, (N, 1, 32, 32)."""
        blocks = rows.split(self._block(rows))
        return torch.cat([self._spectrogram(power(self._stft(block.float() / 2**15))) for block in blocks])

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """A random view of every clip, (N, 1, 32, 32); both views are drawn alike."""
        s, size = self.settings, len(rows)

        def drawn(neutral: float, low: float, high: float) -> Tensor:
            """One parameter per clip: U(low, high) with the transforms' probability, else ``neutral``."""
            applied = torch.rand(size, generator=generator) < s.probability
            return torch.where(applied, uniform(size, low, high, generator), neutral)

        amplitude = drawn(1, *s.amplitude)
        speed = 1 / (1 + drawn(0, -s.speed, s.speed))
        rate = 1 + drawn(0, -s.stretch, s.stretch)
        shift = drawn(0, -s.shift, s.shift + 1).floor().long()
        share = drawn(0, 0, s.noise)
        which_noise = torch.randint(max(1, len(self.background)), (size,), generator=generator)
        parameters = (amplitude, speed, rate, shift, share, which_noise)
        kind = 2 * (share != 0) + (rate != 1)
        views = torch.empty(size, 1, BANDS, FRAMES, device=rows.device)
        for items in (part for k in range(4) for part in (kind == k).nonzero()[:, 0].split(self._block(rows)) if len(part)):
            here = items.to(rows.device)
            views.index_copy_(0, here, self._view(rows.index_select(0, here), *(z[items] for z in parameters)))
        return views

    @staticmethod
    def _block(rows: Tensor) -> int:
        return BLOCK if rows.device.type == "cpu" else len(rows)

    def _view(self, rows: Tensor, amplitude: Tensor, speed: Tensor, rate: Tensor, shift: Tensor, share: Tensor, noise: Tensor) -> Tensor:
        """The spectrograms of some clips.

        Right for any clips, quick for clips of one kind: only what one of them was drawn for is done, as the parameters on the
        host tell, so that no choice waits for the device. Phases are followed only for clips both stretched and mixed with
        noise; with neither, bands are shifted instead of bins.
        """
        device, mixed, stretched = rows.device, bool((share != 0).any()), bool((rate != 1).any())
        quick = (speed != 1).nonzero()[:, 0]
        rate, shift, turned = rate.to(device), shift.to(device), quick.to(device)
        clips = rows * (amplitude / 2**15).to(device)[:, None]
        if len(quick):
            clips.index_copy_(0, turned, resample(clips.index_select(0, turned), speed[quick].to(device)))
        spectra = self._stft(clips)
        vocoder = Vocoder(rate, shift, math.ceil(FRAMES / (1 - self.settings.stretch)))
        if not mixed and not stretched:
            return self._spectrogram(power(spectra), shift)
        if not mixed:
            return self._spectrogram(vocoder.magnitude(power(spectra).sqrt_()).square_())
        magnitude = vocoder.magnitude(power(spectra).sqrt_()) if stretched else None
        spectra = shift_frames(spectra, shift) if magnitude is None else vocoder.phase(spectra).mul_(magnitude)
        background = torch.view_as_real(self.noise.index_select(0, noise.to(device)))
        torch.view_as_real(spectra).lerp_(background, share.to(device)[:, None, None, None])
        return self._spectrogram(power(spectra))

    def _stft(self, clips: Tensor) -> Tensor:
        """(N, 16000) -> (N, 32, 1025) complex, frame by frame; frames are centred, the ends zero-padded."""
        frames = F.pad(clips, (N_FFT // 2, N_FFT // 2)).unfold(1, N_FFT, HOP)
        return torch.fft.rfft(frames * self.window)

    def _spectrogram(self, power: Tensor, shift: Tensor | None = None) -> Tensor:
        """Power (N, 32, 1025) -> (N, 1, 32 bands, 32 frames): mel power in dB under the clip's maximum, standardised."""
        mel = power @ self.filters.T
        level = decibels((mel if shift is None else shift_frames(mel, shift)).mT)
        return ((level - self.mean) / self.std)[:, None]


def power(spectra: Tensor) -> Tensor:
    """Squared magnitude of a complex tensor."""
    return spectra.real.square().addcmul_(spectra.imag, spectra.imag)


def decibels(power: Tensor) -> Tensor:
    """Decibels relative to each clip's maximum, not under -80; (N, bands, frames). Silence is 0 dB everywhere."""
    level = 10 * power.clamp_min(FLOOR).log10()
    return (level - level.amax((1, 2), keepdim=True)).clamp_min(-RANGE_DB)


def resample(clips: Tensor, speed: Tensor) -> Tensor:
    """Play each clip (N, S) at its own ``speed`` (N,) by linear interpolation; cut or zero-padded to S samples."""
    samples = clips.shape[1]
    place = torch.arange(samples, device=clips.device, dtype=torch.float64) * speed[:, None]
    place = torch.where(place > samples - 1, samples, place)  # past the last sample lies silence
    left = place.long()
    weight = (place - left).to(clips.dtype)
    padded = F.pad(clips, (0, 2))
    return padded.gather(1, left).lerp_(padded[:, 1:].gather(1, left), weight)


def shift_frames(source: Tensor, shift: Tensor) -> Tensor:
    """Move clips (N, 32, bins) by ``shift`` (N,) frames, to the left if positive; silence comes in."""
    frames = torch.arange(FRAMES, device=source.device) + shift[:, None]
    inside = (frames >= 0) & (frames < FRAMES)
    return _frames(source, frames.clamp_min(0)).mul_(inside[:, :, None])


class Vocoder:
    """Time stretch by a phase vocoder, then a shift by whole frames, each clip by its own; 32 frames in, 32 out.

    Stretched frame t has the magnitude interpolated at source frame t * rate; its phase is that of frame 0 plus the phase
    steps of all the source frames passed so far. Up to multiples of 2 pi that is a running product of unit phasors, so no
    angle is ever computed. Then frame t becomes stretched frame t + shift, and silence where there is none.

    Args:
        rate: (N,) positive; above 1 is faster. shift: (N,) int64 frames; positive moves sound to the left.
        longest: frames that the slowest rate can make of 32.
    """

    def __init__(self, rate: Tensor, shift: Tensor, longest: int) -> None:
        self.rate, self.shift, self.longest = rate, shift, longest

    def __getitem__(self, rows: Tensor) -> "Vocoder":
        """That of some of the clips."""
        return Vocoder(self.rate[rows], self.shift[rows], self.longest)

    def _stretched(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Whole and fractional source frame (N, T) of stretched frames (T,) or (N, T)."""
        place = frames * self.rate[:, None].double()
        left = place.long()
        return left, (place - left).float()

    def magnitude(self, source: Tensor) -> Tensor:
        """Magnitudes (N, 32, bins), warped."""
        frames = torch.arange(FRAMES, device=source.device) + self.shift[:, None]
        place = (frames * self.rate[:, None].double())[:, :, None]
        # interpolation as a product; past the last frame lies silence: fade towards it as towards any other frame
        weight = (1 - (place - torch.arange(FRAMES, device=source.device)).abs()).clamp_min(0) * (frames >= 0)[:, :, None]
        return weight.to(source.dtype) @ source

    def phase(self, source: Tensor) -> Tensor:
        """Unit phasors (N, 32, bins) of spectra (N, 32, bins), warped."""
        unit = source * power(source).clamp_min_(1e-38).rsqrt_()
        unit = torch.where(unit == 0, 1, unit)  # the angle of 0 is 0
        turn = F.pad(unit, (0, 0, 0, 1), value=1.0)[:, 1:] * unit.conj()
        left, _ = self._stretched(torch.arange(self.longest - 1, device=source.device))
        product = torch.cat([unit[:, :1], _frames(turn, left)], dim=1)
        for frame in range(1, self.longest):  # cumprod along the frames, five times as fast
            product[:, frame] *= product[:, frame - 1]
        frames = torch.arange(FRAMES, device=source.device) + self.shift[:, None]
        return _frames(product, frames.clamp(0, self.longest - 1))


def _frames(source: Tensor, index: Tensor) -> Tensor:
    """Frame ``index[n, t]`` of clip n, (N, frames, bins), (N, T) -> (N, T, bins); past the end, the last."""
    return source[torch.arange(len(source), device=source.device)[:, None], index.clamp(max=source.shape[1] - 1)]


def mel_filters(device: torch.device | None = None) -> Tensor:
    """Triangular mel filters (32, 1025) from 0 to 8 kHz, on Slaney's scale and of equal area (librosa's default)."""

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    mels = torch.linspace(0, to_mel(RATE / 2), BANDS + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    frequency = torch.linspace(0, RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp_min(0) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters.float().to(device)
