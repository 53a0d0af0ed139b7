"""Views against torchvision's, torchaudio's and float64 definitions, one item at a time."""

import math

import numpy as np
import pytest
import torch
import torchaudio.functional
from torchvision.transforms import RandomResizedCrop, functional

from imix import plugins
from imix.encoders.mlp import TabularMLP
from imix.encoders.resnet import ResNet
from imix.errors import UserError
from imix.schema import validated
from imix.views import image, speech, tabular
from imix.views.base import Statistics, chosen, uniform

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
PAPER = dict(scale=[0.2, 1.0], jitter=JITTER, jitter_probability=0.8, grey_probability=0.2, flip_probability=0.5)
SPEECH = dict(probability=0.5, amplitude=[0.7, 1.1], speed=0.2, stretch=0.2, shift=8, noise=0.45)
NEUTRAL = Statistics(torch.zeros(1), torch.ones(1))


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_crop_resize_is_torchvisions(size, generator):
    images = torch.rand(40, 3, *size, generator=generator)
    boxes = image.random_crops(40, *size, [0.05, 1.0], generator)
    flip = torch.rand(40, generator=generator) < 0.5
    ours = image.crop_resize(images, boxes, flip)
    for i, (top, left, h, w) in enumerate(boxes.tolist()):
        expected = functional.resized_crop(images[i], top, left, h, w, list(size), antialias=True)
        assert torch.allclose(ours[i], functional.hflip(expected) if flip[i] else expected, atol=1e-5)


@pytest.mark.parametrize("kind,name", list(enumerate(["brightness", "contrast", "saturation"])))
def test_recolouring_is_torchvisions(kind, name, generator):
    images = torch.rand(20, 3, 8, 8, generator=generator)
    factor = torch.rand(20, generator=generator) * 0.8 + 0.6
    ours = image.recolour(images, *image.recolouring(factor, torch.full((20,), kind), 3))
    for i in range(20):
        assert torch.allclose(ours[i], getattr(functional, f"adjust_{name}")(images[i], float(factor[i])), atol=1e-5)


def test_hue_is_torchvisions(generator):
    images = torch.rand(200, 3, 8, 8, generator=generator)
    images[0] = 0.5  # without hue
    images[1:100] = (images[1:100] * 3).floor() / 2  # ties between channels, and 0 and 1
    turn = torch.rand(200, generator=generator) - 0.5
    ours = image.hue(images, turn.view(-1, 1, 1, 1))
    for i in range(200):
        assert torch.allclose(ours[i], functional.adjust_hue(images[i], float(turn[i])), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_in_the_items_own_orders(channels, generator):
    images, rows, strength = (
        torch.rand(100, channels, 8, 6, generator=generator),
        torch.arange(0, 100, 2),
        [0.4, 0.4, 0.4, 0.1],
    )
    ours, draw = (
        image.jitter(images.clone(), strength, rows, torch.Generator().manual_seed(1)),
        torch.Generator().manual_seed(1),
    )
    factor = torch.tensor([1.0, 1, 1, 0]) + (torch.rand(50, 4, generator=draw) * 2 - 1) * torch.tensor(strength)
    order = torch.rand(50, 4 if channels == 3 else 2, generator=draw).argsort(1)
    assert len(order.unique(dim=0)) > channels
    for i, row in enumerate(rows.tolist()):
        expected = images[row]
        for k in order[i].tolist():
            expected = getattr(functional, f"adjust_{('brightness', 'contrast', 'saturation', 'hue')[k]}")(
                expected, float(factor[i, k])
            )
        assert torch.allclose(ours[row], expected, atol=1e-4)
    assert torch.equal(ours[1::2], images[1::2])
    assert torch.equal(image.jitter(images.clone(), strength, rows[:0], generator), images)


def test_crops_are_distributed_as_torchvisions(generator):
    ours = image.random_crops(4000, 32, 32, [0.2, 1.0], generator).float()
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(torch.zeros(1, 32, 32), [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    ).float()
    assert (ours.mean(0) - theirs.mean(0)).abs().max() < 0.6
    assert (ours.std(0) - theirs.std(0)).abs().max() < 0.5
    inside = image.random_crops(500, 20, 40, [0.9, 1.0], generator)  # rarely fits: the fallback
    assert (
        (inside[:, 0] + inside[:, 2] <= 20).all() and (inside[:, 1] + inside[:, 3] <= 40).all() and (inside >= 0).all()
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_image_views(channels, generator):
    rows = torch.randint(0, 256, (16, channels, 28, 28), dtype=torch.uint8, generator=generator)
    mean, std = torch.full((channels,), 0.4), torch.full((channels,), 0.2)
    views = image.Views(image.Settings(**PAPER), Statistics(mean, std))
    one, again = (views(rows, 0, torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.shape == (16, channels, 28, 28) and torch.equal(one, again) and one.isfinite().all()
    still = PAPER | dict(scale=[1.0, 1.0], jitter_probability=0.0, grey_probability=0.0, flip_probability=0.0)
    unchanged = image.Views(image.Settings(**still), Statistics(mean, std))
    clean = (rows / 255 - 0.4) / 0.2
    assert torch.allclose(unchanged.clean(rows), clean)
    square = unchanged(rows, 0, generator)
    assert (
        sum(torch.allclose(a, b, atol=1e-4) for a, b in zip(square, clean, strict=True)) == 16
    )  # no crop of another ratio fits


def test_padded_crops_are_windows(generator):
    rows = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=generator)
    views = image.Views(image.Settings(**PAPER), Statistics(torch.zeros(3), torch.ones(3)))
    crops = views.padded_crops(rows, True, generator)
    for row, crop in zip(rows, crops, strict=True):
        padded = torch.nn.functional.pad(row / 255, [4] * 4)
        windows = [padded[:, t : t + 8, l : l + 8] for t in range(9) for l in range(9)]
        assert any(torch.allclose(crop, w) or torch.allclose(crop, w.flip(2)) for w in windows)


def slow_mel_filters():
    """By the definition: triangles between 34 places that are even on Slaney's scale, each of area 1 over hertz."""

    def to_hertz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    highest = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [to_hertz(highest * k / 33) for k in range(34)]
    filters = torch.zeros(1025, 32, dtype=torch.float64)
    for band in range(32):
        low, centre, high = edges[band : band + 3]
        for k in range(1025):
            hertz = 8000 * k / 1024
            height = min((hertz - low) / (centre - low), (high - hertz) / (high - centre))
            filters[k, band] = max(0.0, height) * 2 / (high - low)
    return filters


MEL = slow_mel_filters()


def test_mel_filters_are_slaneys():
    assert torch.allclose(speech.mel_filters().double(), MEL, atol=1e-6)


def views_for(**changes):
    nothing = SPEECH | dict(probability=1.0, amplitude=[1.0, 1.0], speed=0.0, stretch=0.0, shift=0, noise=0.0)
    background = torch.randint(-3000, 3000, (2, 16000), dtype=torch.int16, generator=torch.Generator().manual_seed(5))
    return speech.Views(speech.Settings(**(nothing | changes)), NEUTRAL._replace(background=background))


def clips(n=6):
    generator = torch.Generator().manual_seed(4)
    tone = torch.sin(torch.arange(16000) * torch.linspace(0.05, 1, n)[:, None]) * torch.rand(
        n, 16000, generator=generator
    )
    return (tone * 2**14).to(torch.int16)


def slow_stft(clip):
    """By the definition, in float64: 32 centred frames of 2048 samples under a periodic Hann window."""
    n = torch.arange(2048, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * n / 2048)
    padded = torch.nn.functional.pad(clip.double(), (1024, 1024))
    frames = torch.stack([padded[512 * t : 512 * t + 2048] * window for t in range(32)])
    angle = -2 * math.pi * torch.outer(n, torch.arange(1025, dtype=torch.float64)) / 2048
    return torch.complex(frames @ angle.cos(), frames @ angle.sin())


def slow_spectrogram(spectrum):
    power = (spectrum.abs() ** 2 @ MEL).T.clamp_min(1e-10)
    return (10 * torch.log10(power / power.max())).clamp_min(-80)


def test_clean_spectrogram_is_the_definition():
    rows = clips()
    ours = views_for().clean(rows)
    for row, spectrogram in zip(rows, ours, strict=True):
        assert torch.allclose(spectrogram[0].double(), slow_spectrogram(slow_stft(row / 2**15)), atol=2e-3)
    assert (views_for().clean(torch.zeros(1, 16000, dtype=torch.int16)) == 0).all()


def slow_vocoder(spectrum, rate, frames):
    """Flanagan's phase vocoder with angles, frame by frame (32, bins) -> (frames, bins)."""
    padded = torch.nn.functional.pad(spectrum, (0, 0, 0, 2))
    phase, out = padded[0].angle(), []
    for t in range(frames):
        place = t * rate
        if place >= 32:
            out.append(torch.zeros_like(padded[0]))
            continue
        left = int(place)
        magnitude = (1 - place + left) * padded[left].abs() + (place - left) * padded[left + 1].abs()
        out.append(torch.polar(magnitude, phase))
        phase = phase + padded[left + 1].angle() - padded[left].angle()
    return torch.stack(out)


@pytest.mark.parametrize("rate", [0.8, 0.93, 1.0, 1.07, 1.2])
@pytest.mark.parametrize("shift", [0, 5, -5])
def test_stretch_and_shift(rate, shift):
    spectrum = slow_stft(clips()[2] / 2**15)
    stretched = slow_vocoder(spectrum, rate, 48)
    expected = torch.stack(
        [stretched[t + shift] if t + shift >= 0 else torch.zeros_like(stretched[0]) for t in range(32)]
    )
    vocoder = speech.Vocoder(torch.tensor([rate], dtype=torch.float64), torch.tensor([shift]), 40)
    source = spectrum[None]
    magnitude = vocoder.magnitude(source.abs())
    assert torch.allclose(magnitude[0].double(), expected.abs(), atol=1e-4)
    ours = vocoder.spectra(source)
    assert torch.allclose(ours[0], expected, atol=1e-4 * float(expected.abs().max()))
    if rate == 1.0:
        assert torch.allclose(
            speech.shift_frames(source, torch.tensor([shift]))[0], expected, atol=1e-4 * float(expected.abs().max())
        )


def test_vocoder_is_torchaudios(generator):
    spectrum = slow_stft(clips()[3] / 2**15)
    advance = torch.linspace(0, math.pi * 512, 1025, dtype=torch.float64)[:, None]
    theirs = torchaudio.functional.phase_vocoder(spectrum.T, 1.1, advance).T
    vocoder = speech.Vocoder(torch.tensor([1.1], dtype=torch.float64), torch.tensor([0]), 40)
    ours = vocoder.spectra(spectrum[None])
    assert torch.allclose(ours[0, : len(theirs)], theirs, atol=1e-4 * float(theirs.abs().max()))


def test_resample_is_linear_interpolation():
    x = torch.randn(3, 16000)
    speed = torch.tensor([0.85, 1.0, 1.2])
    ours = speech.resample(x, speed)
    for i in range(3):
        for t in (0, 1, 77, 9999, 13332, 13334, 15999):
            place = t * float(speed[i].double())
            left = int(place)
            expected = 0.0 if place > 15999 else float(x[i, left].lerp(x[i, min(left + 1, 15999)], place - left))
            assert abs(float(ours[i, t]) - expected) < 1e-4


def test_noise_is_mixed_in_the_stft_domain(generator):
    views, rows = views_for(noise=0.45), clips(2)
    which = torch.tensor([1, 0])
    share = torch.tensor([0.3, 0.45])
    ones = torch.ones(2)
    ours = views.view(rows, ones, ones, ones, torch.zeros(2, dtype=torch.int64), share, which)
    for i in range(2):
        noise = slow_stft(views.background[which[i]] / 2**15)
        expected = slow_spectrogram((1 - share[i]) * slow_stft(rows[i] / 2**15) + share[i] * noise)
        assert torch.allclose(ours[i, 0].double(), expected, atol=5e-3)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_view_is_its_definition(stretched, mixed):
    """Amplitude, speed, stretch, shift, noise and mel, one after the other in float64; silence among the clips."""
    views, rows = (
        views_for(noise=0.45, stretch=0.2, shift=8),
        torch.cat([clips(3), torch.zeros(1, 16000, dtype=torch.int16)]),
    )
    amplitude, speed = torch.tensor([0.7, 1.0, 1.1, 0.9]), torch.tensor([1.0, 1 / 1.1, 1 / 0.85, 1.2])
    rate = torch.tensor([0.85, 1.2, 1.0, 0.9]) if stretched else torch.ones(4)
    share = torch.tensor([0.3, 0.45, 0.1, 0.2]) if mixed else torch.zeros(4)
    shift, which = torch.tensor([3, -5, 0, 8]), torch.tensor([1, 0, 1, 0])
    ours = views.view(rows, amplitude, speed, rate, shift, share, which)
    for i in range(4):
        clip = speech.resample(rows[i : i + 1].double() / 2**15 * amplitude[i], speed[i : i + 1])[0]
        warped = slow_vocoder(slow_stft(clip), float(rate[i]), 41)
        spectrum = torch.stack(
            [warped[t + shift[i]] if t + shift[i] >= 0 else torch.zeros_like(warped[0]) for t in range(32)]
        )
        noise = slow_stft(views.background[which[i]] / 2**15)
        expected = slow_spectrogram((1 - share[i]) * spectrum + share[i] * noise)
        assert torch.allclose(ours[i, 0].double(), expected, atol=2e-2), float((ours[i, 0] - expected).abs().max())


@pytest.mark.parametrize("background", [None, torch.zeros(0, 16000, dtype=torch.int16), torch.zeros(0, 0)])
def test_noise_needs_recordings(background):
    without = NEUTRAL._replace(background=background)
    with pytest.raises(UserError, match=r"views.noise = 0.45: must be 0, .* no background recordings"):
        speech.Views(speech.Settings(**SPEECH), without)
    for silent in (dict(noise=0.0), dict(probability=0.0)):
        views = speech.Views(speech.Settings(**(SPEECH | silent)), without)
        assert views(clips(9), 0, torch.Generator().manual_seed(0)).isfinite().all()
        assert torch.equal(views.clean(clips(9)), views_for().clean(clips(9)))


def test_speech_views_do_not_depend_on_blocks(monkeypatch):
    statistics = Statistics(torch.tensor([-40.0]), torch.tensor([20.0]), background=views_for().background)
    views, rows = speech.Views(speech.Settings(**SPEECH), statistics), clips(30)
    rows[::10] = 0  # silence is a class of the commands
    whole = views(rows, 0, torch.Generator().manual_seed(2))
    monkeypatch.setattr(speech, "BLOCK", 7)
    assert torch.allclose(views(rows, 0, torch.Generator().manual_seed(2)), whole, atol=1e-4)
    assert whole.shape == (30, 1, 32, 32) and whole.isfinite().all()
    assert not torch.equal(views(rows, 0, torch.Generator().manual_seed(3)), whole)


def test_tabular_masks_numbers_only(generator):
    rows = torch.randn(500, 6, generator=generator) + 3
    mean, std = rows[:, :4].mean(0), rows[:, :4].std(0)
    views = tabular.Views(tabular.Settings(masking=[0.2, 0.0]), Statistics(mean, std, 4))
    clean = views.clean(rows)
    assert torch.allclose(clean[:, :4], (rows[:, :4] - mean) / std) and torch.equal(clean[:, 4:], rows[:, 4:])
    assert torch.equal(views(rows, 1, generator), clean)
    masked = views(rows, 0, generator)
    gone = masked != clean
    assert (masked[gone] == 0).all() and not gone[:, 4:].any()
    assert (gone.float().mean(0)[:4] - 0.2).abs().max() < 0.07


DOMAINS = {
    "image": (PAPER, torch.zeros(4, 3, 8, 6, dtype=torch.uint8), NEUTRAL, ResNet),
    "speech": (SPEECH, torch.zeros(4, 16000, dtype=torch.int16), NEUTRAL._replace(background=clips(2)), ResNet),
    "tabular": (dict(masking=[0.1, 0.1]), torch.zeros(4, 3), NEUTRAL._replace(numbers=1), TabularMLP),
}


@pytest.mark.parametrize("kind", DOMAINS)
def test_a_domain_is_found_and_fits_together(kind):
    settings, rows, statistics, encoder = DOMAINS[kind]
    domain = plugins.find("views", kind)
    assert plugins.names("views") == sorted(DOMAINS) and domain.Encoder is encoder
    views = domain.Views(validated(domain.Settings, settings, "params.yaml"), statistics)
    domain.check_rows(rows.numpy(), "train", "data.npz")
    shape = (4, *domain.seen(tuple(rows.shape[1:])))
    assert views.clean(rows).shape == shape and views(rows, 0, torch.Generator()).shape == shape


@pytest.mark.parametrize(
    "kind,rows,message",
    [
        ("image", np.zeros((10, 32, 32, 3)), "float64 (10, 32, 32, 3); must be uint8 (N, C, H, W) with C = 1 or 3"),
        ("image", np.zeros((10, 32, 32, 3), np.uint8), "uint8 (10, 32, 32, 3); must be uint8 (N, C, H, W)"),
        ("image", np.zeros((10, 3, 32, 32), np.int8), "int8 (10, 3, 32, 32); must be uint8"),
        ("image", np.zeros((10, 3, 0, 32), np.uint8), "uint8 (10, 3, 0, 32); must be"),
        ("image", np.zeros((10, 784), np.uint8), "uint8 (10, 784); must be"),
        ("speech", np.zeros((10, 16000), np.float32), "float32 (10, 16000); must be int16 (N, 16000)"),
        ("speech", np.zeros((10, 8000), np.int16), "int16 (10, 8000); must be int16 (N, 16000)"),
        ("speech", np.zeros((10, 1, 16000), np.int16), "int16 (10, 1, 16000); must be"),
        ("tabular", np.zeros((10, 3)), "float64 (10, 3); must be float32 (N, columns)"),
        ("tabular", np.zeros(10, np.float32), "float32 (10,); must be float32 (N, columns)"),
        ("tabular", np.zeros((10, 0), np.float32), "float32 (10, 0); must be float32 (N, columns)"),
        ("tabular", np.array([[0, 1], [2, np.nan]], np.float32), "nan in row 1, column 1; must be finite"),
        ("tabular", np.array([[0, -np.inf], [2, np.nan]], np.float32), "-inf in row 0, column 1; must be finite"),
        ("tabular", np.array([["a", "b"]], object), "object (1, 2); must be float32"),
    ],
)
def test_rows_of_another_form_are_refused(kind, rows, message):
    with pytest.raises(UserError) as error:
        plugins.find("views", kind).check_rows(rows, "train", "data.npz")
    assert str(error.value).startswith(f"data.npz: train is {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "module,settings,message",
    [
        (image, PAPER | dict(scale=[1.0, 0.2]), r"scale \[1.0, 0.2\] must not fall"),
        (image, PAPER | dict(jitter=JITTER | {"hue": 0.6}), "must be a number from 0 to 0.5"),
        (image, PAPER | dict(kind="image"), "kind"),
        (speech, SPEECH | dict(amplitude=[1.1, 0.7]), r"amplitude \[1.1, 0.7\] must not fall"),
        (speech, SPEECH | dict(stretch=1.0), "stretch = 1.0: must be a number from 0 to 0.99"),
        (speech, SPEECH | dict(shift=32), "shift = 32: must be a whole number from 0 to 31"),
        (tabular, dict(masking=[0.2]), "masking .* must have at least 2 entries"),
        (tabular, dict(masking=[0.2, 1.1]), "masking.1 = 1.1: must be a number from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(module, settings, message):
    with pytest.raises(UserError, match=message):
        validated(module.Settings, settings, "params.yaml")


def test_draws_have_their_ranges(generator):
    draws = uniform((1000, 2), -3.0, 5.0, generator)
    assert draws.shape == (1000, 2) and -3 <= draws.min() < -2.9 and 4.9 < draws.max() <= 5
    items = chosen(10_000, 0.3, generator)
    assert abs(len(items) - 3000) < 230 and len(items.unique()) == len(items)
    assert len(chosen(100, 0.0, generator)) == 0 and len(chosen(100, 1.0, generator)) == 100
