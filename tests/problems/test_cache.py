"""Decoded images are kept, mapped the next time, and made again when the files have changed."""

import os
import shutil
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pictures import PETS, noise, png, write, zipped
from steadygan.core.errors import SteadyganError
from steadygan.problems import cache, loading
from steadygan.problems.images import EpochStream, load_images


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Return the folder of entries of an empty cache."""
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def decoded(monkeypatch):
    """Return a list that grows with each set that is decoded."""
    found, decode = [], loading.decode
    monkeypatch.setattr(loading, "decode", lambda *a: found.append(a[1]) or decode(*a))
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_the_second_time_nothing_is_decoded_and_everything_is_the_same(tmp_path, decoded, packed):
    files = PETS | {"ape/0.png": b"broken", "notes.txt": b"x"}
    path = zipped(tmp_path / "a.zip", files) if packed else write(tmp_path / "a", files)
    with pytest.warns(UserWarning, match=r"1 \.txt"):
        first = load_images(path, 8, broken="skip")
    with pytest.warns(UserWarning, match=r"1 \.txt"):
        second = load_images(path, 8, broken="skip")
    assert len(decoded) == 1 and isinstance(second.pixels, np.memmap)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.labels, second.labels)
    for name in ("class_names", "broken", "why", "smallest", "alike", "digest"):
        assert getattr(first, name) == getattr(second, name)
    # Another choice of classes takes the same pixels; other settings do not.
    assert load_images(path, 8, broken="skip", classes="none").labels is None
    assert load_images(path, 8, broken="skip", classes="level=1").class_names == first.class_names
    assert len(decoded) == 1
    load_images(path, 4, broken="skip")
    load_images(path, 8, broken="skip", channels=1)
    with pytest.raises(SteadyganError, match="broken"):
        load_images(path, 8)
    assert len(decoded) == 4


@pytest.mark.parametrize("packed", [False, True])
def test_changed_files_are_decoded_again(tmp_path, decoded, packed):
    def make(files):
        if packed:
            return zipped(tmp_path / "a.zip", files)
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        return write(tmp_path / "a", files)

    other = PETS | {"dog/0.png": png(noise(9, 9, 3, seed=99))}
    renamed = {name.replace("dog", "zebra"): content for name, content in PETS.items()}
    fewer = dict(list(PETS.items())[1:])
    digests = [load_images(make(files), 8).digest for files in (PETS, other, renamed, fewer)]
    assert len(decoded) == 4 and len(set(digests)) == 4


def test_a_file_of_the_same_size_and_age_with_another_content_is_seen(tmp_path):
    path = write(tmp_path / "a", PETS)
    load_images(path, 8)
    changed = path / "dog" / "1.png"
    before, content = changed.stat(), bytearray(changed.read_bytes())
    content[60:64] = bytes(4)
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    with pytest.raises(SteadyganError, match="broken"):
        load_images(path, 8)


def test_an_array_of_the_same_size_and_age_with_another_content_is_seen(tmp_path):
    pixels = np.zeros((3, 1024, 1024), np.uint8)
    idx = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
    for name, header in (("a.npy", None), ("a-images-idx3-ubyte", idx)):
        path = tmp_path / name

        def save(value, path=path, header=header):
            pixels[1] = value  # neither at the beginning of the file nor at its end
            if header is None:
                np.save(path, pixels)
            else:
                path.write_bytes(header + pixels.tobytes())

        save(0)
        before = path.stat()
        assert load_images(path, 8, channels=1).pixels[1].max() == 0
        save(255)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert load_images(path, 8, channels=1).pixels[1].min() == 255


def test_arrays_that_fit_are_kept_and_stay_while_their_file_is_saved_again(tmp_path, kept, decoded):
    pixels = noise(9, 6, 6, 3)
    for name, save in (("npy", np.save), ("npz", np.savez), ("packed.npz", np.savez_compressed)):
        path = tmp_path / f"a.{name}"
        save(path, pixels)
        first, second = load_images(path, 6), load_images(path, 6)
        save(path, 255 - pixels)
        for found in (first, second):
            np.testing.assert_array_equal(found.pixels, pixels.transpose(0, 3, 1, 2))
            assert isinstance(found.pixels, np.memmap) and found.digest == first.digest
    assert not decoded and len(list(kept.glob("*/pixels"))) == 3
    turned = EpochStream(pixels.transpose(0, 3, 1, 2), None, flip=True, seed=0)
    assert turned.draw(4).x.is_contiguous()


def test_an_entry_without_pixels_is_made_again(tmp_path, kept):
    """As arrays once had, which were mapped where they lay."""
    np.save(tmp_path / "a.npy", noise(9, 6, 6, 3))
    truth = np.array(load_images(tmp_path / "a.npy", 6).pixels)
    (entry,) = kept.iterdir()
    about = cache._opened((entry / "about.json").read_text())
    (entry / "about.json").write_text(cache._sealed(about | {"shape": None}))
    (entry / "pixels").unlink()
    np.testing.assert_array_equal(load_images(tmp_path / "a.npy", 6).pixels, truth)
    assert (entry / "pixels").is_file()


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_without_room_or_leave_nothing_is_kept_and_nothing_is_said(tmp_path, kept, monkeypatch):
    path = zipped(tmp_path / "a.zip", PETS)
    truth = np.array(load_images(path, 8).pixels)

    def check():
        shutil.rmtree(kept, ignore_errors=True)
        for _ in range(2):
            np.testing.assert_array_equal(load_images(path, 8).pixels, truth)
        assert not kept.is_dir() or not list(kept.iterdir())

    for name in ("posix_fallocate", "truncate", "fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(cache.os, name, full)
            check()
    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=100))
        check()
    with monkeypatch.context() as patch:
        patch.setenv("STEADYGAN_CACHE", str(path / "no" / "folder"))
        check()


def test_what_is_damaged_in_the_cache_is_made_again(tmp_path, kept, decoded):
    path = zipped(tmp_path / "a.zip", PETS)
    truth = np.array(load_images(path, 8).pixels)
    (entry,) = kept.iterdir()
    about = (entry / "about.json").read_text()
    damaged = (
        *("", "{}", "[1]", about[:-9], '{"sum": 1, "about": 2}', '{"shape": null}'),
        *(about.replace('"shape": [9', f'"shape": [{n}') for n in ("10", "-1", "3")),
        about.replace('"numbers": [0', '"numbers": ["x"'),
        about.replace('"notes": []', '"notes": 3'),
        about.replace('"numbers": [0, ', '"numbers": ['),
    )
    assert len(set(damaged) - {about}) == 12
    for text in damaged:
        (entry / "about.json").write_text(text)
        np.testing.assert_array_equal(load_images(path, 8).pixels, truth)
        # And made good.
        np.testing.assert_array_equal(load_images(path, 8).pixels, truth)
    assert len(decoded) == 1 + len(damaged)
    for size in (100, 0, truth.size + 1):
        os.truncate(entry / "pixels", size)
        np.testing.assert_array_equal(load_images(path, 8).pixels, truth)


def test_two_at_once_both_get_the_images_and_leave_one_entry(tmp_path, kept):
    path = zipped(tmp_path / "a.zip", PETS)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_images(path, 8), range(8)))
    for other in found[1:]:
        np.testing.assert_array_equal(other.pixels, found[0].pixels)
    assert len(list(kept.iterdir())) == 1


def test_an_interruption_leaves_nothing_behind(tmp_path, kept):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_images(zipped(tmp_path / "a.zip", PETS), 8, progress=stop)
    assert not list(kept.iterdir())


def test_entries_that_nobody_uses_go(tmp_path, kept):
    for i, days in enumerate((0, 80, 100)):
        before = set(kept.glob("*"))
        load_images(zipped(tmp_path / f"{i}.zip", PETS), 8)
        (new,) = set(kept.iterdir()) - before
        os.utime(new, (new.stat().st_mtime - days * 86400,) * 2)
    (kept / "abandoned.partial").mkdir()
    os.utime(kept / "abandoned.partial", (0, 0))
    load_images(zipped(tmp_path / "new.zip", PETS), 20)
    assert len(list(kept.iterdir())) == 3 and not list(kept.glob("*.partial"))


def test_memory_mapped_pixels_equal_those_in_memory(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", PETS | {"ape/0.png": b"broken"})
    monkeypatch.setenv("STEADYGAN_CACHE", "/proc/none")
    inside, mapped = (
        load_images(path, 8, broken="skip", memory_limit=limit) for limit in (10**9, 100)
    )
    assert isinstance(mapped.pixels, np.memmap) and not isinstance(inside.pixels, np.memmap)
    np.testing.assert_array_equal(inside.pixels, mapped.pixels)
    one, other = (
        EpochStream(a.pixels, a.labels, flip=True, seed=3).draw(20) for a in (inside, mapped)
    )
    assert torch.equal(one.x, other.x) and torch.equal(one.labels, other.labels)
    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    with pytest.raises(SteadyganError, match=r"no room .*STEADYGAN_CACHE or TMPDIR"):
        load_images(path, 8, broken="skip", memory_limit=100)


def test_the_digest_is_of_the_pixels_whatever_holds_them(tmp_path):
    pixels = noise(50, 8, 8, 3)
    np.save(tmp_path / "a.npy", pixels)
    np.savez_compressed(tmp_path / "b.npz", pixels.transpose(0, 3, 1, 2))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for i, image in enumerate(pixels):
            archive.writestr(f"{i:02d}.png", png(image))
    digests = {load_images(tmp_path / name, 8).digest for name in ("a.npy", "b.npz", "c.zip")}
    assert len(digests) == 1
    pixels[49, 7, 7, 2] ^= 1
    np.save(tmp_path / "d.npy", pixels)
    assert load_images(tmp_path / "d.npy", 8).digest not in digests
