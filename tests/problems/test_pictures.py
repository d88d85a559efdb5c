"""One picture: how it becomes bytes, and which are refused."""

import gzip
import io
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures import PETS, encoded, noise, png, write, zipped
from steadygan.core.errors import SteadyganError
from steadygan.problems.images import Images, load_images
from steadygan.problems.readers import DataWarning
from steadygan.problems.readers.pictures import to_pixels

# --- what happens to one image


def one(
    tmp_path: Path,
    image: Image.Image,
    resolution: int,
    channels: int = 3,
    suffix: str = "png",
    **save: object,
) -> np.ndarray:
    for name in "ab":
        image.save(tmp_path / f"{name}.{suffix}", **save)
    loaded = load_images(tmp_path, resolution, channels=channels).pixels
    np.testing.assert_array_equal(loaded[0], loaded[1])
    return loaded[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_the_crop_is_the_central_square(tmp_path, axis):
    long = noise(8, 14, 3)
    pixels = long if axis == 1 else long.transpose(1, 0, 2)
    square = pixels[:, 3:11] if axis == 1 else pixels[3:11]
    np.testing.assert_array_equal(
        one(tmp_path, Image.fromarray(np.ascontiguousarray(pixels)), 8), square.transpose(2, 0, 1)
    )


def test_the_reduction_is_antialiased(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    grey = one(tmp_path, Image.fromarray(checkerboard), 16, channels=1).astype(float)
    assert abs(grey - 127.5).max() < 3


def test_a_large_jpeg_decoded_at_reduced_size_stays_within_two_levels(tmp_path):
    photo = Image.fromarray(noise(30, 40, 3)).resize((640, 480), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.jpg", quality=92)
    with Image.open(tmp_path / "a.jpg") as exact:
        central = exact.resize((16, 16), Image.Resampling.LANCZOS, box=(80, 0, 560, 480))
    Image.fromarray(noise(8, 8)).save(tmp_path / "b.png")
    reduced = load_images(tmp_path, 16).pixels[0].transpose(1, 2, 0)
    assert abs(reduced.astype(int) - np.asarray(central).astype(int)).max() <= 2


def test_enlarging_is_allowed(tmp_path):
    assert (
        one(tmp_path, Image.new("RGB", (3, 2), (10, 20, 30)), 8)
        == np.array([10, 20, 30])[:, None, None]
    ).all()


def test_grey_becomes_rgb_and_rgb_becomes_grey(tmp_path):
    grey = noise(6, 6)
    np.testing.assert_array_equal(one(tmp_path, Image.fromarray(grey), 6), np.stack([grey] * 3))
    assert (
        one(tmp_path, Image.new("RGB", (6, 6), (255, 0, 0)), 6, channels=1) == 76
    ).all()  # 0.299 R + 0.587 G + 0.114 B


@pytest.mark.parametrize("mode, transparent", [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("P", 0)])
def test_transparency_is_composited_on_white(tmp_path, mode, transparent):
    options = {"transparency": 0} if mode == "P" else {}
    assert (one(tmp_path, Image.new(mode, (6, 6), transparent), 6, **options) == 255).all()


def test_the_transparent_level_of_16_bits_of_grey_is_white(tmp_path):
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    pixels = one(tmp_path, Image.fromarray(levels), 8, channels=1, transparency=3000)[0]
    assert pixels[0, 3] == 255 and pixels[0, 0] == 0 and pixels[7, 7] == 63000 >> 8


def test_half_transparent_red_on_white_is_pink(tmp_path):
    np.testing.assert_allclose(
        one(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 128)), 4)[:, 0, 0],
        [255, 127, 127],
        atol=1,
    )


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pixels = noise(8, 8, 3)
    np.testing.assert_array_equal(
        one(tmp_path, Image.fromarray(pixels), 8, exif=exif),
        np.rot90(pixels, -1).transpose(2, 0, 1),
    )


# --- broken images and bad input


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", [b"not an image", PETS["dog/1.png"][:60], b"", png(noise(1, 1))])
def test_a_broken_image_is_refused_by_name_or_skipped_and_counted(tmp_path, packed, damage):
    files = PETS | {"dog/1.png": damage}
    path = zipped(tmp_path / "pets.zip", files) if packed else write(tmp_path / "pets", files)
    with pytest.raises(SteadyganError, match=r"pets(\.zip)?/dog/1\.png is broken: .*broken=skip"):
        load_images(path, 8)
    with pytest.warns(DataWarning, match=r"pets.*: 1 broken, left out; the first: .*dog/1\.png: "):
        loaded = load_images(path, 8, broken="skip")
    whole = load_images(
        zipped(
            tmp_path / "whole.zip",
            {name: content for name, content in PETS.items() if name != "dog/1.png"},
        ),
        8,
    )
    assert (
        len(loaded.broken) == 1
        and "dog/1.png: " in loaded.broken[0]
        and " at 0x" not in loaded.broken[0]
        and len(loaded) == 8
    )
    np.testing.assert_array_equal(loaded.pixels, whole.pixels)
    np.testing.assert_array_equal(loaded.labels, whole.labels)


def test_absurdly_large_images_count_as_broken(tmp_path, monkeypatch):
    files = {"big.png": png(noise(200, 200)), "a.png": png(noise(4, 4)), "b.png": png(noise(5, 5))}
    for limit in (100_000, 1000):
        path = zipped(tmp_path / f"{limit}.zip", files)
        with pytest.raises(SteadyganError, match=r"big\.png is broken: it would unpack.*--limit"):
            load_images(path, 4, limit=limit / 2**30)
    folder = write(tmp_path / "folder", files)
    assert len(load_images(folder, 4, limit=1000 / 2**30, broken="skip")) == 2
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        SteadyganError, match=r"big\.png is broken: with 40000 pixels it is too large"
    ):
        load_images(folder, 5)


def test_all_broken_is_an_error_even_when_skipping(tmp_path):
    with pytest.raises(SteadyganError, match=r"Only 0 of the 2 images.*a\.png"):
        load_images(write(tmp_path, {"a.png": b"", "b.png": b""}), 4, broken="skip")


# --- formats


def test_a_picture_is_read_whatever_its_name_says(tmp_path):
    pixels = noise(8, 8, 3)
    exact = {"jp2": ("JPEG2000", {"irreversible": False}), "tga": ("TGA", {}), "bmp": ("BMP", {})}
    exact |= {"webp": ("WEBP", {"lossless": True}), "ppm": ("PPM", {}), "tif": ("TIFF", {})}
    files = {f"{end}.{end}": encoded(pixels, kind, **o) for end, (kind, o) in exact.items()}
    files["png.jpg"] = png(pixels)
    lossy = {f"{end}.{end}": encoded(pixels, "JPEG", quality=95) for end in ("jfif", "jpe", "jpeg")}
    lossy["a.avif"] = encoded(pixels, "AVIF", quality=95)
    loaded = load_images(write(tmp_path, files | lossy), 8)
    for name, found in zip(sorted(files | lossy), loaded.pixels, strict=True):
        off = abs(found.astype(int) - pixels.transpose(2, 0, 1).astype(int))
        assert off.max() == 0 if name in files else off.mean() < 60, name


def test_formats_that_start_an_interpreter_are_not_opened(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: started.append(1))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n{} loop\n%%EOF\n"
    with Image.open(io.BytesIO(eps)) as image, suppress(Exception):
        image.load()
    assert started  # Pillow by itself starts it
    started.clear()
    path = write(tmp_path, {"a.png": eps, "b.tga": eps, "c.png": png(noise(4, 4)), "d.eps": eps})
    with pytest.raises(SteadyganError, match=r"a\.png is broken: it is none of the formats PNG"):
        load_images(path, 4)
    with pytest.raises(SteadyganError, match="Only 1 of the 3"):
        load_images(path, 4, broken="skip")
    assert not started


def test_of_several_frames_the_first_counts(tmp_path):
    frames = [Image.fromarray(noise(8, 8, 3, seed=i)) for i in range(3)]
    first = noise(8, 8, 3).transpose(2, 0, 1)
    for kind, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        one = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        path = write(tmp_path / kind, {"a.png": one, "b.png": one})
        np.testing.assert_array_equal(load_images(path, 8).pixels[0], first)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "1", "PA", "RGBa", "RGBX"])
def test_every_mode_becomes_colour_and_grey(mode):
    image = Image.new("RGBA", (6, 6), (200, 40, 40, 255))
    by_way_of = {"1": "L", "PA": "P", "RGBa": "RGBA"}.get(mode, "RGB")
    image = image.convert(by_way_of)
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    image = image.convert(mode)
    found = to_pixels(image, (6, 6), 3)[:, 0, 0].astype(int)
    truth = 0 if mode == "1" else np.array([200, 40, 40])
    assert abs(found - truth).max() < (45 if mode == "PA" else 4)
    grey = found @ (0.299, 0.587, 0.114)
    assert to_pixels(image, (6, 6), 1)[0, 0, 0] == pytest.approx(grey, abs=2)


# --- more than 8 bits

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
EVEN = np.arange(256).reshape(16, 16)


def ramp(low, high, dtype):
    return (low + RAMP * (high - low)).round(0 if np.dtype(dtype).kind in "iu" else 9).astype(dtype)


def deep_tiff(values, form):
    """A TIFF of one strip, unsigned (1) or signed (2), which Pillow does not write."""
    bits, data = 8 * values.dtype.itemsize, values.tobytes()
    tags = [(256, 16), (257, 16), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16)]
    tags += [(279, len(data)), (339, form)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II" + struct.pack("<HI", 42, 8 + len(data))
    return header + data + struct.pack("<H", len(tags)) + entries + bytes(4)


DEEP = {  # what is in the files; the word about it, or, after ?, what is asked; and levels off
    "16 bits": (encoded(ramp(0, 65535, np.uint16)), "", 0),
    "12 bits in 16": (encoded(ramp(0, 4095, np.uint16)), "12 bits (up to 4095)", 1),
    "10 bits in 16": (encoded(ramp(0, 1023, np.uint16)), "10 bits", 1),
    "8 bits in 16": (encoded(ramp(0, 255, np.uint16)), "8 bits", 0),
    "14 bits, TIFF": (encoded(ramp(0, 16383, np.uint16), "TIFF"), "14 bits", 1),
    "12 bits, JPEG 2000": (encoded(ramp(0, 4095, np.uint16), "JPEG2000"), "12 bits", 1),
    "8 bits in 32": (encoded(ramp(0, 255, np.int32), "TIFF"), "8 bits", 0),
    "unsigned 32": (deep_tiff(ramp(0, 2**32 - 1, np.uint32), 1), "?0..4294967295", 0),
    "signed 16": (deep_tiff(ramp(-1024, 3071, np.int16), 2), "?-1024..3071", 0),
    "floats to 1": (encoded(ramp(0, 1, np.float32), "TIFF"), "floats in [0, 1]", 0),
    "floats from -1": (encoded(ramp(-1, 1, np.float32), "TIFF"), "floats in [-1, 1]", 0),
    "floats to 255": (encoded(ramp(0, 255, np.float32), "TIFF"), "floats in [0, 255]", 0),
    "floats of no kind": (encoded(ramp(-3, 900, np.float32), "TIFF"), "?-3..900", 0),
    "floats, dark": (encoded(ramp(0, 0.0625, np.float32), "TIFF"), "?0..0.0625", 0),
    "indices": (encoded(ramp(0, 9, np.uint16)), "?0..9", 15),
}


@pytest.mark.parametrize("name", DEEP)
def test_images_of_more_than_8_bits_are_scaled_by_the_bits_they_use_or_asked_about(tmp_path, name):
    content, word, off = DEEP[name]
    path = write(tmp_path, {"a.tif": content, "b.tif": content})
    limits = word[1:] if word.startswith("?") else "auto"
    if limits != "auto":
        with pytest.raises(SteadyganError, match=rf"black and white.*--value-range={limits}\."):
            load_images(path, 16, channels=1)
        word = ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = load_images(path, 16, channels=1, value_range=limits).pixels[:, 0]
    assert [word in str(w.message) for w in said] == [True] * bool(word)
    assert abs(found.astype(int) - EVEN).max() <= off


def test_all_images_decide_the_bits_of_each(tmp_path):
    files = {"dark.png": np.full((4, 4), 300), "light.png": np.full((4, 4), 4000)}
    path = write(tmp_path, {n: encoded(v.astype(np.uint16)) for n, v in files.items()})
    assert load_images(path, 4, channels=1).pixels[:, 0, 0, 0].tolist() == [300 >> 4, 4000 >> 4]
    found = load_images(path, 4, channels=1, value_range="0..4000").pixels[:, 0, 0, 0]
    assert found.tolist() == [round(255 * 300 / 4000), 255]
    for wrong in ("4000", "9..1", "0..inf", "a..b", "1..1"):
        with pytest.raises(SteadyganError, match=r"expected LOW\.\.HIGH"):
            load_images(path, 4, value_range=wrong)


def deep_png(values):
    """A PNG of 16 bits in colour, which Pillow does not write."""
    lines = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


def test_colour_of_16_bits_that_does_not_use_the_upper_ones_is_refused(tmp_path):
    full, low = (deep_png(np.stack([ramp(0, top, int)] * 3, -1)) for top in (65535, 4095))
    found = load_images(write(tmp_path / "a", {"a.png": full, "b.png": full}), 16)
    assert (found.pixels == EVEN).all()
    with pytest.raises(SteadyganError, match="save them with 8 bits"):
        load_images(write(tmp_path / "b", {"a.png": low, "b.png": low}), 16)


def test_a_set_of_several_kinds_says_so_and_stays_in_colour(tmp_path):
    files = {"a.png": png(noise(4, 4, 3)), "b.png": png(noise(4, 4))}
    files["c.png"] = encoded(ramp(0, 65535, np.uint16))
    with pytest.warns(DataWarning, match="1 colour, 1 grey, 1 grey of more than 8 bits; .*colour"):
        found = load_images(write(tmp_path, files), 4)
    np.testing.assert_array_equal(found.pixels[0], noise(4, 4, 3).transpose(2, 0, 1))


# --- what cannot be read


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing", None, "does not exist"),
        ("notes.txt", b"x", "of no kind that can be read"),
        ("photo.jpg", b"x", "single image"),
        ("empty.zip", "zip", r"holds no images: looked.*\*\.png"),
        ("bad.zip", b"x", "cannot be read"),
        ("bad.npz", b"x", "cannot be read"),
        ("empty.npy", b"", "no array as NumPy saves it"),
        ("bad.tar.gz", b"x", "cannot be read"),
        (
            "cut-images-idx3-ubyte.gz",
            gzip.compress(
                bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(144), mtime=0
            )[:-9],
            "cannot be read",
        ),
        ("odd-images-idx3-ubyte", bytes(16), "no IDX file"),
        (
            "cut-images-idx3-ubyte",
            bytes([0, 0, 8, 3]) + np.array([9, 4, 4], ">u4").tobytes() + bytes(99),
            "announces 144 bytes .* holds 99",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content == "zip":
        zipped(path, {"readme.txt": b"x"})
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SteadyganError, match=message) as refusal:
        load_images(path, 8)
    assert name in str(refusal.value)


def test_other_bad_input(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteadyganError, match=r"holds no images: looked.*\.png"):
        load_images(tmp_path / "empty", 8)
    with pytest.raises(SteadyganError, match=r"holds 1 image\(s\); at least two"):
        load_images(write(tmp_path / "single", {"a.png": png(noise(4, 4))}), 8)
    with pytest.raises(SteadyganError, match="resolution must be"):
        load_images("digits", 1)
    with pytest.raises(SteadyganError, match="channels must be"):
        load_images("digits", 8, channels=2)
    with pytest.raises(SteadyganError, match="Unknown choice for broken 'ignore'"):
        load_images("digits", 8, broken="ignore")
    with pytest.raises(SteadyganError, match="No images were named"):
        Images().stream(0)
