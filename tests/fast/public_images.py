"""Critics of images in the manner of public code: DCGAN, SNGAN, residual networks, StyleGAN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from critics import conv
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4
LEAKY = nn.LeakyReLU(0.2)


# ------------------------------------------------------------ DCGAN, SNGAN, residual networks


def dcgan(norm: Callable = lambda layer: layer, between: Callable = nn.Identity) -> nn.Module:
    return nn.Sequential(
        norm(nn.Conv2d(3, 4, 4, 2, 1)),
        LEAKY,
        norm(nn.Conv2d(4, 6, 4, 2, 1, bias=False)),
        between(),
        LEAKY,
        norm(nn.Conv2d(6, 1, 2)),
    )


def viewed(self, x: Tensor) -> Tensor:
    if (x.is_cuda or x.is_xpu) and self.gpus > 1:
        raise AssertionError
    h = F.leaky_relu(self.a(x), 0.2)
    h = F.leaky_relu(self.b(h), 0.2)
    return self.head(h.view(h.size(0), -1)).view(-1)


class Block(nn.Module):
    """relu, convolution, relu, convolution, halved by averaging; the shortcut halves as well."""

    def __init__(self, n_in: int, n_out: int, norm: Callable, first: bool = False) -> None:
        super().__init__()
        self.a, self.b = norm(conv(n_in, n_out)), norm(conv(n_out, n_out))
        self.skip, self.first = norm(nn.Conv2d(n_in, n_out, 1)), first

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(F.relu(self.a(x if self.first else F.relu(x))))
        return F.avg_pool2d(h, 2) + self.skip(F.avg_pool2d(x, 2))


class ResNet(nn.Module):
    """SNGAN's: sums over positions; with classes BigGAN's projection, with attention SAGAN's."""

    def __init__(self, norm: Callable, classes: int = 0, attention: bool = False) -> None:
        super().__init__()
        self.first, self.second = Block(3, 4, norm, first=True), Block(4, 4, norm)
        self.head = norm(nn.Linear(4, 1))
        self.classes = norm(nn.Embedding(classes, 4)) if classes else None
        self.attention = NonLocal(4, norm) if attention else nn.Identity()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = F.relu(self.second(self.attention(self.first(x)))).sum([2, 3])
        out = self.head(h)
        return out if self.classes is None else out + (self.classes(y) * h).sum(1, keepdim=True)


class NonLocal(nn.Module):
    def __init__(self, width: int, norm: Callable) -> None:
        super().__init__()
        one = lambda n_in, n_out: norm(nn.Conv2d(n_in, n_out, 1, bias=False))  # noqa: E731
        self.q, self.k, self.v = one(width, 2), one(width, 2), one(width, 2)
        self.out, self.gamma = one(2, width), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q = self.q(x).view(n, -1, h * w)
        k = F.max_pool2d(self.k(x), 2).view(n, -1, h * w // 4)
        v = F.max_pool2d(self.v(x), 2).view(n, -1, h * w // 4)
        beta = F.softmax(torch.bmm(q.transpose(1, 2), k), -1)
        mixed = torch.bmm(v, beta.transpose(1, 2)).view(n, 2, h, w)
        return self.gamma * self.out(mixed) + x


def preactivated(self, x: Tensor, y: Tensor) -> Tensor:
    """Mescheder et al.: branches count a tenth, one logit a class, that of the label is taken."""
    h = self.first(x)
    h = h + 0.1 * self.b(F.leaky_relu(self.a(F.leaky_relu(h, 0.2)), 0.2))
    out = self.head(F.leaky_relu(F.avg_pool2d(h, 3, 2, 1), 0.2).view(len(x), -1))
    return out[torch.arange(out.size(0)), y]


def gulrajani(self, x: Tensor) -> Tensor:
    """WGAN-GP: means of four slices, LayerNorm in the block."""
    half = lambda t: sum(t[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4.0  # noqa: E731
    h = self.a(x)
    h = half(h) + self.c(F.relu(self.norm(self.b(F.relu(half(h))))))
    return self.head(h.mean((2, 3))).squeeze(1)


# ------------------------------------------------------------ StyleGAN and its kin


class Equal(nn.Module):
    """Equalized learning rate: weights are scaled when they are used, the bias is added outside."""

    def __init__(self, n_in: int, n_out: int, size: int = 0, active: bool = True) -> None:
        super().__init__()
        kernel = (size, size) if size else ()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, *kernel))
        self.bias = nn.Parameter(torch.randn(n_out) / 3)
        self.gain, self.active = (n_in * max(size, 1) ** 2) ** -0.5, active

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight * self.gain
        if w.ndim == 2:
            x = x.matmul(w.t()) + self.bias.unsqueeze(0)
        else:
            x = F.conv2d(input=x, weight=w, padding=w.shape[2] // 2)
            x = x + self.bias.reshape(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * 2**0.5 if self.active else x


class Down(nn.Module):
    """upfirdn2d's reference: blurs with a filter that must be in single precision, and halves."""

    def __init__(self, strict: bool) -> None:
        super().__init__()
        f = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("f", f.outer(f) / 64)
        self.strict = strict

    def forward(self, x: Tensor) -> Tensor:
        assert not self.strict or self.f.dtype == torch.float32
        n, c, h, w = x.shape
        x = x.reshape([n, c, h, 1, w, 1])
        x = F.pad(x, [0, 0, 0, 0, 0, 0]).reshape([n, c, h, w])
        x = F.pad(x, [1, 1, 1, 1])
        f = self.f[None, None].repeat([c, 1] + [1] * self.f.ndim).to(x.dtype).flip([2, 3])
        return F.conv2d(input=x, weight=f.reshape(c, 1, 4, 4), groups=c)[:, :, ::2, ::2]


class StyleGAN2(nn.Module):
    """Residual or with skips; minibatch deviation; projection of a mapped class for ADA's."""

    def __init__(
        self,
        kind: str = "resnet",
        strict: bool = True,
        deviation: bool = True,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.kind, self.down, self.deviation = kind, Down(strict), deviation
        self.from_rgb, self.again = Equal(3, 4, 1), Equal(3, 4, 1)
        self.a, self.b = Equal(4, 4, 3), Equal(4, 4, 3)
        self.skip, self.last = Equal(4, 4, 1, active=False), Equal(4 + deviation, 4, 3)
        self.dense, self.head = Equal(64, 6), Equal(6, 6 if classes else 1, active=False)
        self.embed = Equal(CLASSES, 6) if classes else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.from_rgb(x)
        deep = self.down(self.b(self.a(h)))
        if self.kind == "resnet":
            h = (deep + self.down(self.skip(h))) * 0.5**0.5
        else:
            h = deep + self.again(self.down(x))
        if self.deviation:
            g = h.reshape(-1, len(h), 1, *h.shape[1:])
            s = (g - g.mean(dim=1, keepdim=True)).square().mean(dim=1)
            s = (s + 1e-8).sqrt().mean(dim=[1, 2, 3, 4])
            h = torch.cat([h, s.reshape(1, 1, 1, 1).expand(len(h), 1, *h.shape[2:])], 1)
        out = self.head(self.dense(self.last(h).flatten(1)))
        if self.embed is None:
            return out
        z = F.one_hot(y, CLASSES).to(x.dtype)
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        return (out * self.embed(z)).sum(dim=1, keepdim=True) * (1 / 6**0.5)


class R3GAN(nn.Module):
    """Grouped bottlenecks with biases beside them, a basis instead of pooling; no normalisation."""

    def __init__(self) -> None:
        super().__init__()
        weight = lambda *shape: nn.Parameter(torch.randn(shape) / 2)  # noqa: E731
        self.stem, self.w1, self.w2, self.w3 = (
            weight(4, 3, 1, 1),
            weight(8, 4, 1, 1),
            weight(8, 2, 3, 3),
            weight(4, 8, 1, 1),
        )
        self.b1, self.b2 = weight(8), weight(8)
        self.basis, self.head = (
            nn.Conv2d(4, 4, 4, groups=4, bias=False),
            nn.Linear(4, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        active = lambda t, b: F.leaky_relu(t + b.to(t.dtype).view(1, -1, 1, 1), 0.2)  # noqa: E731
        x = F.interpolate(F.conv2d(x, self.stem), scale_factor=0.5, mode="bilinear")
        h = F.conv2d(active(F.conv2d(x, self.w1), self.b1), self.w2, padding=1, groups=4)
        x = x + F.conv2d(active(h, self.b2), self.w3)
        return self.head(self.basis(x).view(x.shape[0], -1)).view(x.shape[0])


def growing(self, x: Tensor) -> Tensor:
    """Fades a resolution in, as progressive growing does."""
    h = F.avg_pool2d(F.leaky_relu(self.b(F.leaky_relu(self.a(x), 0.2)), 0.2), 2)
    h = 0.3 * F.leaky_relu(self.c(F.avg_pool2d(x, 2)), 0.2) + (1 - 0.3) * h
    return self.head(h.reshape(len(x), -1))
