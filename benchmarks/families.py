"""Critics in the manner of public code at the widths of small trainings, as benchmarks/critics.py
times them. Their tiny twins, held against brute force, are in tests/fast/public.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

LEAKY = nn.LeakyReLU(0.2)
MOST, MERGES = 1.05, 0.75
"""What ours takes of the textbook's time at most: any critic, and those of piecewise-linear
activations and one logit with JS."""


class Family(NamedTuple):
    """A critic, the samples that it takes, and how many of them.

    js: of the textbook's time with JS, what ours promises to take at most; with R1 it is MOST.
    each: whether the textbook penalizes every logit of its one output, instead of their sum.
    """

    make: Callable[[], nn.Module]
    event: tuple[int, ...]
    batch: int
    js: float = MOST
    each: bool = False


class Residual(nn.Module):
    """relu, convolution, norm, relu, convolution, halved; the shortcut halves as well."""

    def __init__(self, n_in: int, n_out: int, layer: Callable, norm: Callable) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(n_in), nn.ReLU(), layer(nn.Conv2d(n_in, n_out, 3, 1, 1)),
            norm(n_out), nn.ReLU(), layer(nn.Conv2d(n_out, n_out, 3, 1, 1)),
        )  # fmt: skip
        self.skip = layer(nn.Conv2d(n_in, n_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        return F.avg_pool2d(self.body(x), 2) + self.skip(F.avg_pool2d(x, 2))


def plain(part: Any) -> Any:
    """Leave a layer as it is."""
    return part


def dcgan(width: int = 32, layer: Callable = plain, norm: Callable = lambda n: nn.Identity()):
    """Return three halvings and a head, 32 x 32."""
    parts, n = [nn.Conv2d(3, width, 4, 2, 1), LEAKY], width
    for _ in range(2):
        parts += [nn.Conv2d(n, 2 * n, 4, 2, 1), norm(2 * n), LEAKY]
        n *= 2
    parts.append(nn.Conv2d(n, 1, 4))
    return nn.Sequential(*(layer(p) if isinstance(p, nn.Conv2d) else p for p in parts))


def resnet(layer: Callable = plain, norm: Callable = lambda n: nn.Identity(), width: int = 32):
    """Return three residual blocks and a mean over positions."""
    blocks = [Residual(width, width, layer, norm) for _ in range(3)]
    first = layer(nn.Conv2d(3, width, 3, 1, 1))
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer(nn.Linear(width, 1))]
    return nn.Sequential(first, *blocks, *head)


class Deviation(nn.Module):
    """StyleGAN's minibatch deviation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        s = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([x, s.expand(len(x), 1, *x.shape[2:])], 1)


class Equal(nn.Module):
    """Equalized learning rate; the bias is added outside."""

    def __init__(self, n_in: int, n_out: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, size, size))
        self.bias, self.gain = nn.Parameter(torch.zeros(n_out)), (n_in * size**2) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        w = self.weight * self.gain
        x = F.conv2d(input=x, weight=w, padding=w.shape[2] // 2) + self.bias.view(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * 2**0.5


class StyleBlock(nn.Module):
    """Two convolutions, a blur that halves, and a shortcut of unit variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = Equal(width, width, 3), Equal(width, width, 3)
        self.skip = nn.Conv2d(width, width, 1, bias=False)
        f = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("f", (f.outer(f) / 64).expand(width, 1, 4, 4).clone())

    def down(self, x: Tensor) -> Tensor:
        """Blur and halve."""
        return F.conv2d(x, self.f, stride=2, padding=1, groups=x.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        return (self.down(self.b(self.a(x))) + self.down(self.skip(x))) * 0.5**0.5


def stylegan(deviation: bool, width: int = 32) -> nn.Module:
    """StyleGAN2's residual critic, 32 x 32."""
    blocks = [StyleBlock(width) for _ in range(3)]
    tail = [Deviation()] if deviation else []
    last = [Equal(width + deviation, width, 3), nn.Flatten(), nn.Linear(16 * width, 1)]
    return nn.Sequential(Equal(3, width, 1), *blocks, *tail, *last)


def patch(layer: Callable = plain, norm: Callable = lambda n: nn.Identity(), width: int = 24):
    """pix2pix's, 70 x 70."""
    parts: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), LEAKY]
    for n, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
        parts += [layer(nn.Conv2d(n, 2 * n, 4, stride, 1)), norm(2 * n), LEAKY]
    return nn.Sequential(*parts, nn.Conv2d(8 * width, 1, 4, 1, 1))


class Scales(nn.Module):
    """A list of critics of pictures or sound, each of half the size of the one before."""

    def __init__(self, parts: list[nn.Module], pool: Callable) -> None:
        super().__init__()
        self.parts, self.pool = nn.ModuleList(parts), pool

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what it makes of x."""
        found = []
        for part in self.parts:
            found.append(part(x))
            x = self.pool(x)
        return found


class Periods(nn.Module):
    """HiFi-GAN's critics of periods, with weight normalisation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for _ in (2, 3, 5):
            layers: list[nn.Module] = []
            for a, b in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
                layers += [weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))), nn.LeakyReLU(0.1)]
            last = weight_norm(nn.Conv2d(4 * width, 1, (3, 1), 1, (1, 0)))
            self.parts.append(nn.Sequential(*layers, last))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what it makes of x."""
        found = []
        for period, part in zip((2, 3, 5), self.parts, strict=True):
            t = F.pad(x, (0, -x.shape[2] % period), "reflect")
            found.append(part(t.view(len(t), 1, -1, period)).flatten(1))
        return found


def sound(width: int = 16) -> nn.Module:
    """Return a critic of one scale of sound."""
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 15, 1, 7)), LEAKY]
    for n in (width, 2 * width):
        layers += [weight_norm(nn.Conv1d(n, 2 * n, 41, 4, 20, groups=4)), LEAKY]
    return nn.Sequential(*layers, weight_norm(nn.Conv1d(4 * width, 1, 3, 1, 1)))


class UNet(nn.Module):
    """A logit for the picture and one for each pixel."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        n = width
        self.a, self.b = spectral_norm(nn.Conv2d(3, n, 3, 1, 1)), nn.Conv2d(n, 2 * n, 4, 2, 1)
        self.c, self.up = nn.Conv2d(2 * n, 4 * n, 4, 2, 1), nn.Conv2d(4 * n, 2 * n, 3, 1, 1)
        self.whole, self.last = nn.Linear(4 * n, 1), nn.Conv2d(4 * n, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return what it makes of x."""
        b = F.leaky_relu(self.b(F.leaky_relu(self.a(x), 0.2)), 0.2)
        c = F.leaky_relu(self.c(b), 0.2)
        up = F.leaky_relu(self.up(F.interpolate(c, scale_factor=2.0)), 0.2)
        return {"image": self.whole(c.sum((2, 3))), "pixels": self.last(torch.cat([up, b], 1))}


class Transformer(nn.Module):
    """Attention over patches; one logit, or heads at every depth (distillation)."""

    def __init__(self, heads: bool, width: int = 96) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.mixed = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(2)])
        self.dense = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in "ab"]
        )
        self.heads = nn.ModuleList([nn.Linear(width, 1) for _ in range(2 if heads else 1)])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return what it makes of x."""
        h, found = self.embed(x).flatten(2).transpose(1, 2), []
        for mix, dense in zip(self.mixed, self.dense, strict=True):
            q, k, v = (t.unflatten(2, (4, -1)).transpose(1, 2) for t in mix(h).chunk(3, 2))
            h = h + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            h = h + dense(h)
            found.append(h)
        if len(self.heads) == 1:
            return self.heads[0](h.mean(1))
        return [head(t) for head, t in zip(self.heads, found, strict=True)]


class Encoder(nn.Module):
    """torch's own transformer."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True)
        self.embed, self.head = nn.Conv2d(3, width, 4, 4), nn.Linear(width, 1)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        return self.head(self.body(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


class Own(nn.Module):
    """A chain that is called by a forward of its own, as most public MLPs are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(48, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x."""
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


def motion() -> nn.Module:
    """AMP's discriminator."""
    return nn.Sequential(
        nn.Linear(48, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1)
    )


def points() -> nn.Module:
    """Return what a first GAN on points of the plane has."""
    return nn.Sequential(
        *(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.LeakyReLU(0.2)),
        nn.Linear(16, 1),
    )


IMAGE, LARGE, SOUND = (3, 32, 32), (3, 64, 64), (1, 4096)
LAYER = lambda n: nn.GroupNorm(1, n)  # noqa: E731
FAMILIES = {
    "DCGAN": Family(dcgan, IMAGE, 32, MERGES),
    "DCGAN of width 8, batch 4": Family(lambda: dcgan(8), IMAGE, 4, MERGES),
    "DCGAN, spectral norm": Family(lambda: dcgan(layer=spectral_norm), IMAGE, 32, MERGES),
    "DCGAN, BatchNorm": Family(lambda: dcgan(norm=nn.BatchNorm2d), IMAGE, 32),
    "ResNet": Family(resnet, IMAGE, 16, MERGES),
    "ResNet, spectral norm": Family(lambda: resnet(spectral_norm), IMAGE, 16, MERGES),
    "ResNet, LayerNorm": Family(lambda: resnet(norm=LAYER), IMAGE, 16),
    "StyleGAN2 without deviation": Family(lambda: stylegan(False), IMAGE, 16, MERGES),
    "StyleGAN2": Family(lambda: stylegan(True), IMAGE, 16),
    "PatchGAN": Family(patch, LARGE, 8),
    "PatchGAN, spectral norm": Family(lambda: patch(spectral_norm), LARGE, 8),
    "PatchGAN, InstanceNorm": Family(lambda: patch(norm=nn.InstanceNorm2d), LARGE, 8),
    "PatchGAN, BatchNorm": Family(lambda: patch(norm=nn.BatchNorm2d), LARGE, 8),
    "PatchGAN of four logits": Family(patch, IMAGE, 16),
    "the same, the textbook's logits one by one": Family(patch, IMAGE, 16, each=True),
    "PatchGANs at two scales": Family(
        lambda: Scales([patch(), patch()], nn.AvgPool2d(3, 2, 1)), LARGE, 4
    ),
    "vocoder: periods": Family(Periods, SOUND, 8),
    "vocoder: scales": Family(lambda: Scales([sound(), sound()], nn.AvgPool1d(4, 2, 2)), SOUND, 8),
    "U-Net": Family(UNet, IMAGE, 16),
    "transformer": Family(Encoder, IMAGE, 32),
    "fused attention": Family(lambda: Transformer(False), IMAGE, 32),
    "fused attention, heads": Family(lambda: Transformer(True), IMAGE, 32),
    "motion prior": Family(motion, (48,), 256),
    "motion prior with a forward of its own": Family(lambda: Own(256), (48,), 256, MERGES),
    "the same, width 16": Family(lambda: Own(16), (48,), 64),
    "points of a plane: nn.Sequential, width 16": Family(points, (2,), 64),
}
