"""From an image file to RGB: whole, upright and 8-bit, or one clear refusal."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from hyperadapt.data.source import AbstractImageSource
from hyperadapt.errors import InputError

DECODING_THREADS = 4
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Decodes a whole image file to an RGB image that needs the file no more.

    The EXIF orientation is applied. Transparent parts become white. Images of 16 or 32 bits a channel are scaled to 8
    bits rather than clipped; floating-point images are taken as 0..1, 0..255 or 0..65535, the first that holds them.
    Of an animation the first frame counts.

    Args:
        file: Path of the file, or a binary stream.

    Raises:
        InputError: The file is absent, unreadable, cut off, corrupt, or has more pixels than Pillow considers safe.

    Example:
        >>> import io
        >>> stream = io.BytesIO()
        >>> Image.new("L", (3, 2), color=7).save(stream, "PNG")
        >>> image = open_image(stream)
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (3, 2), (7, 7, 7))
    """
    name = file if isinstance(file, str | Path) else getattr(file, "name", "the given stream")
    try:
        with Image.open(file) as image:
            image.load()
            return _to_rgb(_upright(image))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot read image {name}: {error.strerror}; check the path and its permissions") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"refused to decode {name}: it has more pixels than the limit against decompression bombs allows; "
            "scale the image down, or pass --skip-corrupt to leave such files out"
        ) from error
    except Exception as error:  # a decoder fed with random bytes can raise nearly anything
        reason = "no image format recognised" if isinstance(error, Image.UnidentifiedImageError) else _one_line(error)
        raise InputError(
            f"cannot decode image {name}: {reason}; replace the file, or pass --skip-corrupt to leave such files out"
        ) from error


def check_images(source: AbstractImageSource, rows: Iterable[int]) -> list[tuple[int, str]]:
    """Decodes images in a few threads and returns those that cannot be.

    Args:
        source: The images.
        rows: Rows of its pool.

    Returns:
        One pair (row, message) for each image that raises InputError, in the order of `rows`.

    Example:
        >>> from hyperadapt.data import ImageFolderSource  # doctest: +SKIP
        >>> check_images(ImageFolderSource("photos"), range(2))  # doctest: +SKIP
        [(1, 'cannot decode image photos/cat/b.jpg: ...')]
    """

    def refusal(row: int) -> str | None:
        try:
            source.image(row)
        except InputError as error:
            return str(error)
        return None

    rows = list(rows)
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        refusals: Iterator[str | None] = threads.map(refusal, rows)
        return [(row, message) for row, message in zip(rows, refusals, strict=True) if message is not None]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are whole; a broken EXIF block is no reason to lose them
        return image.copy()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_MODES:
        image = _to_eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0).clip(min=0.0)
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    peak: Any = values.max()
    full = next((scale for scale in scales if peak <= scale), peak)
    return Image.fromarray((values * (255.0 / full)).round().astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
