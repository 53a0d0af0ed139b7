"""Pictures and recordings of any size, length and rate as the rows that views take."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imix.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
RECORDINGS = (".wav", ".flac")
RATE = 16_000  # samples a second, and of a window


def picture(content: bytes, shape: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    """Return a picture as (C, H, W) uint8: scaled to cover the canvas, its centre cut out.

    Args:
        content: of the file. shape: (C, H, W), C = 1 for grey or 3. where: the file that errors
            name.

    Raises:
        UserError: no picture that can be read.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content)) as file:
            upright = ImageOps.exif_transpose(file)
            image = upright.convert("L" if channels == 1 else "RGB")
            fitted = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: no picture that can be read ({reason}); repair or remove the file") from None
    return np.asarray(fitted, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def window_count(samples: int, rate: int) -> int:
    """Return how many windows a recording gives: its seconds, rounded, at least one."""
    return max(1, round(samples / rate))


def windows_of_file(path: Path) -> int:
    """Return how many windows a recording gives, from its header.

    Raises:
        UserError: no recording that can be read.
    """
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(str(path), error) from None
    return window_count(info.frames, info.samplerate)


def windows(content: bytes, where: str) -> NDArray[np.int16]:
    """Return a recording as windows of a second at 16 kHz, (M, 16000) int16.

    Channels are averaged.

    The last window is filled with silence, or cut where less than half of it would be sound.

    Args:
        content: of the file. where: the file that errors name.

    Raises:
        UserError: no recording that can be read, or an empty one.
    """
    import soundfile
    from torchaudio.functional import resample

    try:
        sound, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(where, error) from None
    if not len(sound):
        raise UserError(f"{where}: the recording is empty; remove the file")
    mono = torch.from_numpy(sound.mean(1))
    clip = resample(mono, rate, RATE) if rate != RATE else mono
    result = np.zeros(window_count(len(sound), rate) * RATE, np.int16)
    clip = clip[: len(result)]
    result[: len(clip)] = (clip * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
    return result.reshape(-1, RATE)


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(getattr(error, "error_string", str(error)).split())
    return UserError(f"{where}: no recording that can be read ({reason}); repair or remove the file")
