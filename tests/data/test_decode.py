import io
import struct
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hyperadapt.data import ImageFolderSource, check_images, open_image
from hyperadapt.errors import InputError


def through(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return open_image(stream)


def noise(size=(40, 30)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB"])
def test_white_stays_white_in_every_mode(mode):
    white = {
        "I;16": 65535,
        "I": 65535,
        "F": 1.0,
        "CMYK": (0, 0, 0, 0),
        "YCbCr": (255, 128, 128),
        "LAB": (255, 128, 128),
    }
    image = Image.new(mode, (3, 2), white.get(mode, "white"))
    decoded = through(image, "TIFF")
    assert (decoded.mode, decoded.size) == ("RGB", (3, 2))
    assert min(decoded.getpixel((1, 1))) >= 254


def test_transparent_pixels_become_white_and_opaque_ones_stay():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert [through(image).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]


def test_transparent_palette_entry_becomes_white():
    image = Image.new("P", (2, 1), 1)
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.putpixel((0, 0), 0)
    assert [through(image, transparency=0).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (50, 60, 70)]


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", np.uint16), ("I", np.int32)])
def test_sixteen_bits_are_scaled_not_clipped(mode, dtype):
    image = Image.fromarray(np.array([[0, 257, 0x8000, 65535]], dtype=dtype))
    assert image.mode == mode
    assert [through(image, "TIFF").getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_a_dark_sixteen_bit_image_stays_dark():
    image = Image.fromarray(np.array([[0, 200]], dtype=np.uint16))
    assert through(image).getextrema() == ((0, 1),) * 3


@pytest.mark.parametrize(("peak", "at_half"), [(1.0, 128), (255.0, 128), (65535.0, 128), (1e6, 128)])
def test_floating_point_images_are_scaled_by_their_range(peak, at_half):
    values = np.array([[0, peak / 2, peak, np.nan, -1]], dtype=np.float32)
    decoded = through(Image.fromarray(values), "TIFF")
    assert [decoded.getpixel((x, 0))[1] for x in range(5)] == [0, at_half, 255, 0, 0]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (4, 3)), (6, (3, 0)), (8, (0, 4))])
def test_exif_orientation_is_applied(orientation, corner):
    image = Image.new("RGB", (5, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = through(image, exif=exif)
    assert decoded.size == ((5, 4) if orientation in (1, 3) else (4, 5))
    assert decoded.getpixel(corner) == (255, 255, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("kind", "exif"), [("PNG", b"Exif\0\0garbage"), ("JPEG", b"Exif\0\0II*\0\xff\xff\xff\xff")])
def test_broken_exif_costs_no_pixels(kind, exif):
    assert through(noise(), kind, exif=exif).size == (30, 40)


def test_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (3, 2), color) for color in ("red", "lime", "blue")]
    assert through(frames[0], "GIF", save_all=True, append_images=frames[1:]).getpixel((0, 0)) == (255, 0, 0)


def test_decoded_image_outlives_its_file(photo, tmp_path):
    file = photo(tmp_path / "a.png")
    image = open_image(file)
    file.unlink()
    assert image.resize((2, 2)).getpixel((0, 0)) == (200, 30, 60)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_cut_files_are_refused_with_their_name(tmp_path, assert_refused, kind):
    file = tmp_path / f"cut.{kind.lower()}"
    noise().save(file, kind)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    assert_refused(lambda: open_image(file), "cannot decode image", str(file), "--skip-corrupt")


def test_files_that_are_no_images_are_refused(tmp_path, assert_refused):
    file = tmp_path / "not.jpg"
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        file.write_bytes(content)
        assert_refused(lambda: open_image(file), str(file), "--skip-corrupt")
    assert_refused(lambda: open_image(tmp_path / "absent.jpg"), "absent.jpg", "No such file")
    assert_refused(lambda: open_image(tmp_path), str(tmp_path), "directory")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_damaged_bytes_give_an_image_or_one_refusal(kind, data):
    stream = io.BytesIO()
    noise((8, 8)).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = open_image(io.BytesIO(bytes(content))).mode
    except InputError as error:
        outcome = str(error)
    assert outcome == "RGB" or "--skip-corrupt" in outcome
    assert "\n" not in outcome


def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(tmp_path, assert_refused):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    content = stream.getvalue()
    file = tmp_path / "bomb.png"
    chunk = b"IHDR" + header
    file.write_bytes(content[:12] + chunk + struct.pack(">I", crc32(chunk)) + content[33:])
    assert_refused(lambda: open_image(file), "bomb.png", "pixels")


def test_check_images_finds_exactly_the_corrupt_ones(folder_tree):
    root = folder_tree({"cat": 12, "dog": 12})
    for name in ("cat/003.png", "dog/000.png"):
        (root / name).write_bytes(b"broken")
    source = ImageFolderSource(root)
    found = check_images(source, range(24))
    assert [row for row, _ in found] == [3, 12]
    assert str(root / "cat/003.png") in found[0][1]
    assert check_images(source, [12, 3, 5])[0][0] == 12
    assert check_images(source, []) == []
