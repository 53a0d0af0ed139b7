"""Image views of a batch: crop and resize, colour jitter, grey, flip, normalise.

The transforms have torchvision's definitions, ranges and clamping, and every item has its own
parameters. Crop and resize is a pair of small matrix products per image, one along each axis, whose
rows are the weights of the antialiased triangle filter; a flip reverses the rows of one of them.
"""

import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from imix.encoders.resnet import ResNet
from imix.errors import UserError
from imix.schema import Fraction, Strict, Within
from imix.sending import send
from imix.views.base import Statistics, chosen, uniform

Encoder = ResNet
LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, rounded as in torchvision
ATTEMPTS = 10  # at a crop inside the image, before falling back to the largest central one


class Jitter(Strict):
    """Strength s of colour jitter: factors of 1 - s to 1 + s, hue by -s to s of a circle."""

    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    hue: Annotated[float, Within(0.0, 0.5)]


class Settings(Strict):
    """Crop and resize, colour jitter, grey, flip; the probe's augmentation has its own settings."""

    # smallest and largest share of the image's area in a crop
    scale: Annotated[list[Annotated[float, Within(0.001, 1.0)]], Field(min_length=2, max_length=2)]
    jitter: Jitter
    jitter_probability: Fraction
    grey_probability: Fraction
    flip_probability: Fraction

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {self.scale} must not fall: the smallest share of the area, then the largest")
        return self


NEUTRAL = Settings(  # of clean cells, which draw no views
    scale=[1.0, 1.0],
    jitter=Jitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
    jitter_probability=0.0,
    grey_probability=0.0,
    flip_probability=0.0,
)


def seen(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the encoder's input for an image of ``shape`` (C, H, W): the same."""
    return shape


def check_rows(inputs: NDArray[np.generic], name: str, where: str) -> None:
    """Raise UserError unless ``inputs`` are images: uint8 (N, C, H, W) with C = 1 or 3.

    Args:
        name: of the array, as in "train". where: the file or data set that holds it.
    """
    fits = inputs.ndim == 4 and inputs.shape[1] in (1, 3) and min(inputs.shape[2:]) > 0
    if inputs.dtype != np.uint8 or not fits:
        raise UserError(f"{where}: {name} is {inputs.dtype} {inputs.shape}; must be uint8 (N, C, H, W) with C = 1 or 3")


class Views:
    """Views of images (N, C, H, W) uint8, C = 1 or 3: float32 of the same shape.

    Args:
        settings: ranges and probabilities.
        statistics: mean and std (C,) of the training images, in units of 0..1.
    """

    def __init__(self, settings: Settings, statistics: Statistics) -> None:
        self.settings = settings
        self.mean, self.std = statistics.mean.view(-1, 1, 1), statistics.std.view(-1, 1, 1)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def clean(self, rows: Tensor) -> Tensor:
        """Normalise only, (N, C, H, W) float32."""
        return self._normalise(rows.float() / 255)

    def __call__(self, rows: Tensor, which: int, generator: torch.Generator) -> Tensor:
        """Return a random view of every image, (N, C, H, W) float32; ``which`` is ignored."""
        s, size = self.settings, len(rows)
        boxes = random_crops(size, rows.shape[-2], rows.shape[-1], s.scale, generator)
        flip = torch.rand(size, generator=generator) < s.flip_probability
        images = crop_resize(rows.float() / 255, send(boxes, rows.device), send(flip, rows.device))
        strength = list(s.jitter.model_dump().values())
        images = jitter(images, strength, chosen(size, s.jitter_probability, generator), generator)
        grey = chosen(size, s.grey_probability, generator)
        if images.shape[1] == 3:
            grey = send(grey, images.device)
            images[grey] = luma(images[grey]).expand(-1, 3, -1, -1)
        return self._normalise(images)

    def padded_crops(self, rows: Tensor, flip: bool, generator: torch.Generator, padding: int = 4) -> Tensor:
        """Return the probe's augmentation of images, (N, C, H, W) float32.

        Zero-pads every image, crops it at random, and flips half of them if ``flip``.
        """
        size, (height, width) = len(rows), rows.shape[-2:]
        top = torch.randint(2 * padding + 1, (size, 1, 1), generator=generator) + torch.arange(height)[:, None]
        left = torch.randint(2 * padding + 1, (size, 1, 1), generator=generator) + torch.arange(width)
        if flip:
            left = torch.where(torch.rand(size, 1, 1, generator=generator) < 0.5, left.flip(2), left)
        padded = F.pad(rows, [padding] * 4).permute(0, 2, 3, 1)
        item = torch.arange(size)[:, None, None]
        crops = padded[tuple(send(index, rows.device) for index in (item, top, left))]
        return self.clean(crops.permute(0, 3, 1, 2))


def random_crops(size: int, height: int, width: int, scale: list[float], generator: torch.Generator) -> Tensor:
    """Draw boxes (size, 4) int64 of top, left, height, width, distributed as RandomResizedCrop's.

    Area: a share U(scale) of the image's; log aspect ratio: uniform from 3/4 to 4/3; the first of
    ten attempts that fits; else the largest central crop of a permitted ratio.
    """
    area = height * width * uniform((size, ATTEMPTS), scale[0], scale[1], generator)
    ratio = uniform((size, ATTEMPTS), math.log(3 / 4), math.log(4 / 3), generator).exp()
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.long().argmax(1, keepdim=True)  # 0 where none fits
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    place = torch.rand(2, size, generator=generator)
    top, left = (place[0] * (height - h + 1)).long(), (place[1] * (width - w + 1)).long()
    boxes = torch.stack([top, left, h, w], dim=1)
    fallback_w = min(width, round(height * 4 / 3))
    fallback_h = min(height, round(width * 4 / 3))
    fallback = torch.tensor([(height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w])
    return torch.where(fits.any(1, keepdim=True), boxes, fallback)


def _resize_weights(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Return triangle-filter weights (N, outputs, inputs).

    They resize the span [start, start + length) of ``inputs`` samples to ``outputs`` samples.
    """
    scale = (length / outputs)[:, None, None]
    centre = (torch.arange(outputs, device=start.device) + 0.5)[:, None] * scale + start[:, None, None]
    place = torch.arange(inputs, device=start.device) + 0.5
    inside = (place >= start[:, None, None]) & (place < (start + length)[:, None, None])
    weights = (1 - (place - centre).abs() / scale.clamp_min(1)).clamp_min(0) * inside
    return weights / weights.sum(2, keepdim=True)


def crop_resize(images: Tensor, boxes: Tensor, flip: Tensor) -> Tensor:
    """Cut each image's box, resize it antialiased to the image's size, and flip it.

    Args:
        images: (N, C, H, W) float32. boxes: (N, 4) int64, top, left, height, width. flip: (N,)
            bool.
    """
    height, width = images.shape[-2:]
    top, left, h, w = boxes.unbind(1)
    rows = _resize_weights(top, h, height, height)
    columns = _resize_weights(left, w, width, width)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    # columns first: one product serves the rows of all of an image's channels
    return rows[:, None] @ (images.flatten(1, 2) @ columns.mT).view_as(images)


def luma(images: Tensor) -> Tensor:
    """Return the brightness, (N, 3, H, W) -> (N, 1, H, W); one channel is its own brightness."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def recolouring(factor: Tensor, other: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the matrix and the weights of the means with which `recolour` adjusts images.

    Args:
        factor: (...), share of the image itself; the rest is ``other``.
        other: (...), what the image is blended with. 0: black, which changes brightness; 1: its
            mean brightness, contrast; 2: its grey image, saturation.
        channels: C, 1 or 3.

    Returns:
        (..., C, C), a matrix over the channels; (..., C), what each channel's mean adds to all
        channels.
    """
    weights = send(torch.tensor(LUMA if channels == 3 else [1.0]), factor.device)
    means, grey = ((((1 - factor) * (other == kind))[..., None] * weights) for kind in (1, 2))
    return torch.diag_embed(factor[..., None].expand(*factor.shape, channels)) + grey[..., None, :], means


def recolour(images: Tensor, matrix: Tensor, means: Tensor) -> Tensor:
    """Adjust brightness, contrast or saturation of images (N, C, H, W) in 0..1, and clamp.

    All three are a matrix and a shift, so one product serves items of any kind.

    Args:
        matrix, means: (N, C, C) and (N, C), from `recolouring`.
    """
    pixels = images.flatten(2)
    shift = (pixels.mean(2) * means).sum(1)
    return torch.baddbmm(shift[:, None, None], matrix, pixels).clamp_(0, 1).view_as(images)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by ``turn`` (N, 1, 1, 1) of a circle, value and saturation (HSV) unchanged.

    Hue is counted in sixths of the circle: red at 0, green at 2, blue at 4. With channels scaled to
    0..1 by value and chroma, its distance from red is 1 - red + green + blue, towards green where
    green exceeds blue. Each channel is the least channel plus the chroma times a trapezoid round
    the channel's own hue: 2 minus the distance from it, clamped to 0..1.
    """
    red, green, blue = images.split(1, dim=1)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(least)
    distance = (green + blue).sub_(red).sub_(least).div_(chroma.clamp_min(1e-12)).add_(1)
    place = torch.copysign(distance, green - blue).add_(6 * turn)
    place.sub_((place / 6).floor_(), alpha=6)  # in 0..6; a third of the time of a remainder
    turned = torch.empty_like(images)
    low, high = least - chroma, least.add_(chroma, alpha=2)
    # red is written by its distance from cyan, its opposite, and so with the other sign
    for channel, centre, base, sign in ((0, 3, low, 1), (1, 2, high, -1), (2, 4, high, -1)):
        distance = (place - centre).abs_().clamp_(1, 2)
        torch.addcmul(base, distance, chroma, value=sign, out=turned[:, channel : channel + 1])
    return turned


def jitter(images: Tensor, strength: list[float], rows: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, in a random order for each item.

    An item's order has a slot for each change. All but hue are of one kind (`recolour`): the loops
    go slot by slot, first the slots before an item's hue, then hue of all items at once, then the
    slots after it. Items are sorted by the slot of their hue. So those whose hue is earlier or
    later than a slot are a slice, and no list of indices is needed.

    Args:
        images: (N, C, H, W) in 0..1; changed in place. One channel has no saturation and no hue.
        strength: s of brightness, contrast, saturation (factors from 1 - s to 1 + s) and hue (turns
            from -s to s).
        rows: (M,) int64, the chosen rows, on the host.
    """
    coloured = images.shape[1] == 3
    slots = 4 if coloured else 2
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0])
    factor = centre + uniform((len(rows), 4), -1, 1, generator) * torch.tensor(strength)
    order = torch.rand(len(rows), slots, generator=generator).argsort(1)
    # without colour: as if hue came after every slot
    hue_slot = (order == 3).long().argmax(1) if coloured else torch.full((len(rows),), slots)
    hue_slot, by_hue = hue_slot.sort(stable=True)
    order, rows = order[by_hue], rows[by_hue]
    factor = send(factor[by_hue].gather(1, order), images.device)  # (M, slots), as they are applied
    turn = factor.gather(1, send(hue_slot.clamp(max=slots - 1)[:, None], images.device)).view(-1, 1, 1, 1)
    # counts of the items whose hue is in an earlier slot
    ends = torch.searchsorted(hue_slot, torch.arange(slots + 1)).tolist()
    matrix, means = recolouring(factor.T, send(order.T, images.device), images.shape[1])
    rows = send(rows, images.device)
    work = images.index_select(0, rows)
    for slot in range(slots - coloured):
        late = slice(ends[slot + 1], None)  # items whose hue is in a later slot
        work[late] = recolour(work[late], matrix[slot, late], means[slot, late])
    if coloured:
        work = hue(work, turn)
    for slot in range(1, slots if coloured else 0):
        early = slice(ends[slot])  # items whose hue was in an earlier slot
        work[early] = recolour(work[early], matrix[slot, early], means[slot, early])
    return images.index_copy_(0, rows, work)
