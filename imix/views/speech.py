"""Speech views: six random transforms on waveform and STFT, then a mel spectrogram in dB (section 2).

Clips are int16 waveforms of one second at 16 kHz; a view is a 1 x 32 x 32 image, mel bands by frames. In order, each
with the settings' probability and its own parameters for every clip: amplitude; speed and pitch by resampling; time
stretch by a phase vocoder; time shift by frames; background noise, mixed in the STFT domain.
"""

import itertools
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
        self.mel = Mel(background.device)

    @cached_property
    def noise(self) -> Tensor:
        """Spectra of the background, (M, 32, 1025) complex: 0.26 MB a second.

        Raises:
            UserError: there is no background.
        """
        if not len(self.background):
            raise UserError("speech views with noise need background recordings; the data set has none")
        return torch.cat([self._stft(block.float() / 2**15) for block in self.background.split(self._block(self.background))])

    def clean(self, rows: Tensor) -> Tensor:
        """The spectrograms of the clips as they are, (N, 1, 32, 32)."""
        blocks = rows.split(self._block(rows))
        return torch.cat([self._image(self.mel.of_spectra(self._stft(block.float() / 2**15))) for block in blocks])

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
            return self._image(shift_frames(self.mel.of_spectra(spectra), shift))
        if not mixed:
            return self._image(self.mel.of_power(vocoder.magnitude(power(spectra).sqrt_()).square_()))
        spectra = vocoder.spectra(spectra) if stretched else shift_frames(spectra, shift)
        background = torch.view_as_real(self.noise.index_select(0, noise.to(device)))
        torch.view_as_real(spectra).lerp_(background, share.to(device)[:, None, None, None])
        return self._image(self.mel.of_spectra(spectra))

    def _stft(self, clips: Tensor) -> Tensor:
        """(N, 16000) -> (N, 32, 1025) complex, frame by frame; frames are centred, the ends zero-padded."""
        frames = F.pad(clips, (N_FFT // 2, N_FFT // 2)).unfold(1, N_FFT, HOP)
        return torch.fft.rfft(frames * self.window)

    def _image(self, mel: Tensor) -> Tensor:
        """Mel power (N, 32 frames, 32 bands) -> (N, 1, 32 bands, 32 frames): dB under the clip's maximum, standardised."""
        return ((decibels(mel.mT) - self.mean) / self.std)[:, None]


class Mel:
    """Power in mel bands. The lower bands lie in few bins, so that each half of them has a matrix of its own, half as large."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.halves = []  # the first bin, the one after the last, and their weights
        for filters in mel_filters(device).chunk(2):
            bins = filters.any(0).nonzero()[:, 0].tolist()
            self.halves.append((bins[0], bins[-1] + 1, filters[:, bins[0] : bins[-1] + 1].T.contiguous()))
        self.doubled = [(2 * first, 2 * end, weights.repeat_interleave(2, 0)) for first, end, weights in self.halves]

    def of_power(self, power: Tensor) -> Tensor:
        """(N, frames, 1025) -> (N, frames, 32)."""
        return _bands(power, self.halves)

    def of_spectra(self, spectra: Tensor) -> Tensor:
        """(N, frames, 1025) complex -> (N, frames, 32): the squares of both parts are added up by the product itself."""
        return _bands(torch.view_as_real(spectra).flatten(2).square(), self.doubled)


def _bands(values: Tensor, halves: list[tuple[int, int, Tensor]]) -> Tensor:
    """The product of (N, frames, bins) with all of the bands, one half after the other."""
    rows = values.flatten(0, 1)
    return torch.cat([rows[:, first:end] @ weights for first, end, weights in halves], 1).unflatten(0, values.shape[:2])


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
    left = place.clamp_(max=samples).long()  # past the last sample lies silence
    weight = place.frac_().to(clips.dtype)
    padded = F.pad(clips, (0, 2))
    return padded.gather(1, left).lerp_(padded[:, 1:].gather(1, left), weight)


def shift_frames(source: Tensor, shift: Tensor) -> Tensor:
    """Move clips (N, 32, bins) by ``shift`` (N,) frames, to the left if positive; silence comes in."""
    frames = torch.arange(FRAMES, device=source.device) + shift[:, None]
    silence = source.shape[0] * FRAMES  # the row after all others
    rows = torch.where((frames >= 0) & (frames < FRAMES), frames + _first_rows(source), silence)
    return F.pad(source.flatten(0, 1), (0, 0, 0, 1)).index_select(0, rows.flatten()).view_as(source)


def _first_rows(source: Tensor) -> Tensor:
    """The row of every clip's first frame in (N, frames, bins) flattened to (N frames, bins), as (N, 1)."""
    return torch.arange(0, source.shape[0] * source.shape[1], source.shape[1], device=source.device)[:, None]


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
        self.rate, self.shift, self.longest = rate[:, None].double(), shift[:, None], longest

    def magnitude(self, source: Tensor) -> Tensor:
        """Magnitudes (N, 32, bins), warped; past the last frame lies silence, towards which they fade as towards any other frame."""
        frames = torch.arange(FRAMES, device=source.device) + self.shift
        place = frames * self.rate
        left = place.long()  # of the two source frames between which a frame lies
        weight = (place - left).to(source.dtype)
        weights = ((1 - weight) * ((frames >= 0) & (left < FRAMES)), weight * ((frames >= 0) & (left < FRAMES - 1)))
        rows, first = source.flatten(0, 1), _first_rows(source)
        near, far = (rows.index_select(0, (first + side.clamp(0, FRAMES - 1)).flatten()).view_as(source) for side in (left, left + 1))
        return near.mul_(weights[0][:, :, None]).addcmul_(far, weights[1][:, :, None])

    def spectra(self, source: Tensor) -> Tensor:
        """Spectra (N, 32, bins) complex, warped; ``source`` is not to be used afterwards."""
        source.real.add_(1e-15)  # the angle of 0 is 0; far less than one step of the samples makes
        strength = power(source)
        unit = source * strength.rsqrt()
        # the first frame's phase, then every frame's after the one before it, then a silent frame's
        steps = torch.cat([unit[:, :1], unit[:, 1:] * unit[:, :-1].conj(), unit[:, -1:].conj()], 1)
        passed = (torch.arange(-1, self.longest - 1, device=source.device) * self.rate).floor_().long().add_(1).clamp_(0, FRAMES)
        # frame after frame of all clips: what is multiplied lies side by side
        phase = steps.flatten(0, 1).index_select(0, (passed + _first_rows(steps)).T.flatten()).unflatten(0, (self.longest, -1))
        for before, frame in itertools.pairwise(phase.unbind()):  # cumprod along the frames, five times as fast
            frame *= before
        frames = (torch.arange(FRAMES, device=source.device) + self.shift).clamp(0, self.longest - 1)
        rows = frames * len(source) + torch.arange(len(source), device=source.device)[:, None]
        return phase.flatten(0, 1).index_select(0, rows.flatten()).view_as(source).mul_(self.magnitude(strength.sqrt_()))


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
