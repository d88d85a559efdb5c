"""Folders and zips: what is read, what is passed over, and what the classes are."""

import json
import os
import socket
import tracemalloc
import zipfile

import numpy as np
import pytest

from pictures import PETS, noise, png, write, zipped
from steadygan.core.errors import SteadyganError
from steadygan.problems.images import Images, load_images
from steadygan.problems.readers import DataWarning
from steadygan.problems.readers.classes import from_folders, splits


def test_a_zip_and_the_same_folder_give_identical_arrays(tmp_path):
    litter = {"__MACOSX/dog/._0.png": b"x", "dog/.hidden.png": b"x", "notes.txt": b"x"}
    with pytest.warns(DataWarning, match=r"passed over: 2 hidden, 1 \.txt"):
        folder = load_images(write(tmp_path / "pets", PETS | litter), 8)
    with pytest.warns(DataWarning, match=r"passed over: 2 hidden, 1 \.txt"):
        archive = load_images(zipped(tmp_path / "pets.zip", PETS | litter), 8)
    assert folder.class_names == archive.class_names == ("ape", "dog", "horse")
    assert folder.pixels.shape == (9, 3, 8, 8) and folder.pixels.dtype == np.uint8
    assert folder.pixels.flags.c_contiguous and folder.digest == archive.digest
    np.testing.assert_array_equal(folder.pixels, archive.pixels)
    np.testing.assert_array_equal(folder.labels, archive.labels)
    np.testing.assert_array_equal(folder.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2])


def test_images_come_in_the_order_of_their_names_unchanged_at_their_own_size(tmp_path):
    names = ["b.png", "a.png", "deep/er/c.png", "B.png"]
    originals = {name: noise(8, 8, 3, seed=seed) for seed, name in enumerate(names)}
    loaded = load_images(write(tmp_path, {n: png(pixels) for n, pixels in originals.items()}), 8)
    expected = np.stack([originals[name] for name in sorted(originals)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(loaded.pixels, expected)


def test_progress_counts_up_to_all(tmp_path):
    seen = []
    files = {f"{i}.png": png(noise(4, 4)) for i in range(40)}
    load_images(zipped(tmp_path / "a.zip", files), 4, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen) and seen[-1] == (40, 40)


# --- names in zips


def stored(path, *members):
    """Write a zip whose members' names are exactly these bytes, without the mark for UTF-8."""
    places = {name: f"@{i}".ljust(len(name), "_") for i, name in enumerate(members)}
    zipped(path, {place: png(noise(4, 4, seed=i)) for i, place in enumerate(places.values())})
    content = path.read_bytes()
    for name, place in places.items():
        content = content.replace(place.encode(), name)
    path.write_bytes(content)
    return path


def test_names_of_zips_are_understood_whatever_wrote_them(tmp_path):
    plain = stored(tmp_path / "plain.zip", b"cat/0.png", b"cat/1.png", b"dog/0.png")
    for odd in (
        (rb"cat\0.png", rb"cat\1.png", rb"dog\0.png"),
        (b"./cat/0.png", b"./cat/1.png", b"./dog/0.png"),
        (b"/cat/0.png", b"cat//1.png", rb".\dog\0.png"),
    ):
        loaded = load_images(stored(tmp_path / "odd.zip", *odd), 4)
        assert loaded.class_names == ("cat", "dog") and loaded.labels.tolist() == [0, 0, 1]
        assert loaded.digest == load_images(plain, 4).digest
    names = ["猫/0.png", "猫/1.png", "犬/0.png"]
    utf8 = load_images(stored(tmp_path / "utf8.zip", *(n.encode() for n in names)), 4)
    assert utf8.class_names == ("犬", "猫")
    # The second byte of 表 in Shift-JIS is a backslash.
    table = "表/0.png".encode("shift-jis")
    assert b"\\" in table
    sjis = load_images(stored(tmp_path / "sjis.zip", table, b"dog/0.png", b"dog/1.png"), 4)
    assert len(sjis.class_names) == 2 and sorted(sjis.labels.tolist()) in ([0, 0, 1], [0, 1, 1])


def test_of_two_members_of_one_name_the_last_counts_and_that_is_said(tmp_path):
    path = tmp_path / "twice.zip"
    stored(path, b"a.png", b"./a.png", b"b.png")
    with pytest.warns(DataWarning, match="1 named twice"):
        loaded = load_images(path, 4)
    assert loaded.pixels[0, 0].tolist() == noise(4, 4, seed=1).tolist() and len(loaded) == 2


def test_links_and_archives_in_a_zip_are_passed_over_and_counted(tmp_path):
    path = zipped(tmp_path / "a.zip", PETS | {"more.zip": b"x", "raw/1.cr2": b"x"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.warns(DataWarning, match=r"1 \.zip, 1 \.cr2, 1 links or devices"):
        assert len(load_images(path, 4)) == 9


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_in_one_piece_is_refused(tmp_path, method):
    """However much it holds, a member of these is unpacked whole before it is cut."""
    for name, member, content in (
        ("a.zip", "0.png", png(noise(4, 4))),
        ("b.zip", "dataset.json", b"{}"),
        ("c.npz", "images.npy", b""),
    ):
        zipped(tmp_path / name, {"1.png": png(noise(4, 4)), "2.png": png(noise(4, 4))})
        with zipfile.ZipFile(tmp_path / name, "a") as archive:
            archive.writestr(member, content, method)
        with pytest.raises(SteadyganError, match=rf"method {method}\).*again with deflate"):
            load_images(tmp_path / name, 4)


def test_a_member_that_lies_about_its_size_unpacks_to_no_more(tmp_path):
    picture = png(noise(4, 4))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(2):
            archive.writestr(f"{i}.png", picture + bytes(2**25 * i))
            archive.filelist[i].file_size = len(picture)
    tracemalloc.start()
    try:
        with pytest.raises(SteadyganError, match=r"1\.png is broken.*CRC"):
            load_images(tmp_path / "a.zip", 4)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_folder_of_other_files_says_what_they_are(tmp_path):
    write(tmp_path, {"a.eps": b"x", "b.eps": b"x", "c": b"x", ".d.png": b"x"})
    with pytest.raises(SteadyganError, match=r"no images: .*found: 2 \.eps, 1 hidden, 1 without"):
        load_images(tmp_path, 4)


# --- links and devices


def test_every_folder_is_read_once_and_what_is_no_file_is_passed_over(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root / "b", {"0.png": PETS["dog/0.png"], "1.png": PETS["dog/1.png"]})
    write(outside, {"2.png": PETS["ape/2.png"]})
    for name, to in (("a", "b"), ("up", "."), ("c", outside), ("gone.png", "nowhere")):
        (root / name).symlink_to(to)
    (outside / "back").symlink_to(root)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe.png")
    (root / "zero.png").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "s.png"))
    with pytest.warns(DataWarning, match="passed over") as said:
        loaded = load_images(root, 4)
    listener.close()
    assert len(loaded) == 3 and loaded.class_names == ("b", "c")
    words = str(said[0].message)
    assert "3 links to folders that are read already" in words
    assert "4 pipes, sockets, devices or broken links" in words


def test_a_pipe_is_no_data(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(SteadyganError, match="no file but a pipe"):
        load_images(tmp_path / "a.zip", 4)


# --- classes

C = ("cat", "dog")
TREES = {  # folders, each of two images unless files are named, and their classes, or what is said
    "class": ("cat dog", "cat dog"),
    "split/class": ("test/cat test/dog train/cat train/dog", "cat dog cat dog"),
    "class/split": ("cat/test cat/train dog/test dog/train", "cat cat dog dog"),
    "class/images": ("train/cat/images train/dog/images", "cat dog"),
    "a class that is called train": ("bus car train", "bus car train"),
    "class/shard": ("cat/00000 cat/00001 dog/00000 dog/00001", "cat cat dog dog"),
    "class/session": ("cat/session_1 cat/session_2 dog/session_1", "cat cat dog"),
    "sub-folders": ("cat/x cat/y dog/z", "cat cat dog"),
    "crossed": ("a/red a/blue b/red b/blue", "a/red a/blue b/red b/blue"),
    "folders of some only": ("cat/0.png cat/bad dog/bad", "cat cat dog"),
    "digits, files that begin anew": ("0 1 9", "0 1 9"),
    "digits, files without numbers": ("0/a.png 0/b.png 1/a.png 1/b.png", "0 0 1 1"),
    "one beside": ("cat dog title.png", "cat dog ?"),
    "one beside in a split": ("train/cat train/dog train/title.png", "cat dog ?"),
    "shards": ("00000/00000.png 00000/00001.png 01000/01000.png", "!parts of one set"),
    "shards in words": ("part1 part2", "!parts of one set"),
    "hashes": ("0a f1 ab 33", "!parts of one set"),
    "kinds of files": ("images masks", "!kinds of files"),
    "splits": ("train val", "!splits, no classes"),
    "splits by name": ("testA testB trainA trainB", "!side by side"),
    "splits and others": ("train test cat", "!side by side"),
    "a split without classes": (
        "test/images train/cat/images train/dog/images",
        "!test/images/0.png lies in the folder of no class",
    ),
    "a folder each": (" ".join(f"id{i}/photo.png" for i in "abcdefghijkl"), "!folder of its own"),
    "one folder": ("only", "!one folder at each level: only"),
    "no folders": ("0.png 1.png", "!in no folders"),
}


def tree(name):
    """The names of a tree's images, sorted, and the class of each, or what is said instead."""
    folders, truth = TREES[name]
    if truth[0] == "!":
        return sorted(n for folder in folders.split() for n in files(folder)), truth[1:]
    pairs = zip(folders.split(), truth.split(), strict=True)
    return zip(*sorted((n, label) for folder, label in pairs for n in files(folder)), strict=True)


def files(folder):
    return [folder] if folder.endswith(".png") else [f"{folder}/{i}.png" for i in range(2)]


@pytest.mark.parametrize("name", TREES)
def test_the_class_is_the_level_of_folders_that_varies(name):
    names, truth = tree(name)
    found = from_folders(names)
    if isinstance(truth, str):
        assert found.numbers is None and truth in found.why
        assert "--classes level=1 (" in found.why or name in ("one folder", "no folders")
    else:
        assert [found.names[k] for k in found.numbers] == list(truth)


def test_a_choice_between_levels_is_said_and_can_be_made():
    nested, crossed, shards, beside = (
        tree(name)[0] if name == "shards" else next(iter(tree(name)))
        for name in ("sub-folders", "crossed", "shards", "one beside")
    )
    assert from_folders(nested).note.endswith("--classes level=2 takes another")
    assert "levels 1 and 2" in from_folders(crossed).note
    assert from_folders(nested, 2).names == ("x", "y", "z") and not from_folders(nested, 2).note
    assert from_folders(crossed, 2).names == ("blue", "red")
    assert "no level 3" in from_folders(nested, 3).why
    assert from_folders(shards, 1).names == ("00000", "01000")
    assert splits(["cat/test/0.png", "cat/train/0.png"]) == "test and train are read together"
    assert "1 of the images lie beside" in from_folders(beside).note


def test_a_gan_on_classes_is_refused_with_the_choices_and_takes_one(tmp_path):
    root = str(write(tmp_path, {name: png(noise(4, 4)) for name in tree("shards")[0]}))
    with pytest.raises(SteadyganError, match=r"at least two classes.*level=1 \(00000, 01000\)"):
        Images(root, 4, conditional=True).load()
    assert Images(root, 4, conditional=True, classes_from="level=1").classes == 2
    assert Images(root, 4).load().labels is None
    for wrong in ("level=0", "level=x", "folder", "column="):
        with pytest.raises(SteadyganError, match=r"none of auto, none, dataset\.json, level=N"):
            Images(root, 4, classes_from=wrong)


# --- tables

SHARDS = {f"{i // 4:05d}/img{i:08d}.png": png(noise(4, 4, seed=i)) for i in range(12)}
TRUTH = [2, 0, 1, 1, 0, 2, 2, 2, 1, 0, 0, 1]


def dataset(labels):
    return {"dataset.json": json.dumps({"labels": labels}).encode()}


def pairs(labels):
    return [[name, label] for name, label in zip(SHARDS, labels, strict=True)]


@pytest.mark.parametrize("packed", [False, True])
def test_the_labels_of_a_dataset_json_go_before_folders(tmp_path, packed):
    one_hot = [[float(k == t) for k in range(3)] for t in TRUTH]
    for i, table in enumerate(
        (
            dataset(pairs(TRUTH)),
            dataset(pairs(one_hot)[::-1]),
            dataset([[f".\\{n.replace('/', chr(92))}", t] for n, t in pairs(TRUTH)]),
            {f"top/{k}": v for k, v in dataset(pairs(TRUTH)).items()},
        )
    ):
        top = "top/" if "top/dataset.json" in table else ""
        files = {top + name: content for name, content in SHARDS.items()} | table
        path = tmp_path / (f"{i}.zip" if packed else str(i))
        loaded = load_images((zipped if packed else write)(path, files), 4)
        assert loaded.labels.tolist() == TRUTH and loaded.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    "table, why",
    [
        (dataset(None), "says that there are no labels"),
        ({"dataset.json": b"{}"}, "says that there are no labels"),
        (dataset(pairs(TRUTH)[1:]), "no label for 1 of 12 images, such as 00000/img00000000"),
        (dataset(pairs([[0.5, 0.5]] * 12)), "vectors such as"),
        (dataset(pairs([0.5] * 12)), "such as 0.5"),
        (dataset(pairs(["a"] + [1] * 11)), "mixes labels"),
        (dataset({"background": 0}), "none of StyleGAN's"),
        ({"dataset.json": b"[" * 100_000}, "cannot be understood"),
        ({"dataset.json": b"\xff\xfe"}, "cannot be understood"),
    ],
)
def test_a_dataset_json_without_usable_labels_leaves_no_classes(tmp_path, table, why):
    path = write(tmp_path, SHARDS | table)
    loaded = load_images(path, 4)
    assert loaded.labels is None and why in loaded.why and "dataset.json" in loaded.why
    assert len(load_images(path, 4, classes="level=1").class_names) == 3
    with pytest.raises(SteadyganError, match=r"dataset\.json"):
        Images(str(path), 4, conditional=True).load()


def test_a_table_over_the_limit_is_not_read(tmp_path):
    path = write(tmp_path, SHARDS | dataset(pairs(TRUTH)))
    with pytest.raises(SteadyganError, match=r"dataset\.json would unpack.*--limit"):
        load_images(path, 4, limit=100 / 2**30)


TWICE = b"file_name,label\ncat/0.png,a\ncat/0.png,z\ncat/1.png,b\ndog/0.png,c\n"


def test_a_metadata_table_of_the_hub_has_labels_by_its_column(tmp_path):
    files = {f"{i}.png": png(noise(4, 4, seed=i)) for i in range(4)}
    rows = [{"file_name": f"{i}.png", "label": "ba"[i % 2], "size": i // 2} for i in range(4)]
    table = "file_name,label,size\n" + "".join(
        "{file_name},{label},{size}\n".format(**r) for r in rows
    )
    lines = "\n".join(map(json.dumps, rows))
    for i, (name, text) in enumerate((("metadata.csv", table), ("metadata.jsonl", lines))):
        path = write(tmp_path / str(i), files | {name: text.encode()})
        loaded = load_images(path, 4)
        assert [loaded.class_names[k] for k in loaded.labels] == list("baba")
        assert load_images(path, 4, classes="column=size").labels.tolist() == [0, 0, 1, 1]
        assert "none is colour" in load_images(path, 4, classes="column=colour").why
        assert load_images(path, 4, classes="none").labels is None
    semicolons = table.replace(",", ";").encode()
    loaded = load_images(write(tmp_path / "semicolons", files | {"metadata.csv": semicolons}), 4)
    assert [loaded.class_names[k] for k in loaded.labels] == list("baba")
    # Captions are no labels: the folders are, and that is said.
    captions = b"file_name,text\ncat/0.png,a\ncat/1.png,b\ndog/0.png,c\n"
    some = {n: png(noise(4, 4)) for n in ("cat/0.png", "cat/1.png", "dog/0.png")}
    for name, text, word in (
        ("metadata.csv", captions, r"of its columns \(file_name, text\) none is label"),
        ("metadata.csv", b"file_name,label\ncat/0.png,\xff\n", "cannot be understood"),
        ("metadata.csv", b"file_name,label\ncat/0.png,a\n", "no label for 2 of 3 images"),
        ("metadata.jsonl", b'{"file_name": [', "cannot be understood"),
        ("metadata.csv", TWICE, "two labels for cat/0.png"),
        ("metadata.csv", TWICE.replace(b"z", b" "), "no label for 1 of its images, such as cat/0"),
    ):
        path = write(tmp_path / word[:9], some | {name: text})
        with pytest.warns(DataWarning, match=rf"{name}.*{word}"):
            assert load_images(path, 4).class_names == C
        (path / name).unlink()


def test_names_from_outside_reach_no_terminal(tmp_path):
    odd = f"\x1b]0;owned\x07{chr(0x202E)}"
    files = {f"{odd}/0.png": PETS["dog/0.png"], "cat/0.png": PETS["ape/0.png"]}
    path = zipped(tmp_path / "a.zip", files | {"x.\x1b[31m": b""})
    with pytest.warns(DataWarning) as said:
        names = load_images(path, 4).class_names
    shown = [*names, *(str(word.message) for word in said)]
    with pytest.raises(SteadyganError) as refusal:
        load_images(zipped(path, files | {f"{odd}.png": b"broken"}), 4)
    for text in (*shown, str(refusal.value)):
        assert text.isprintable(), text
    assert r"\x1b]0;owned\x07\u202e" in names[0]
