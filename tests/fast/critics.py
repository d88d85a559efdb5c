"""Critics of many kinds, each with the path that is right for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

EVENT = (3, 8, 8)
PENALIZED = {
    "js": ("nonsaturating", "js:gamma=0.7"),
    "r1": ("hinge", "r1:gamma=3"),
    "r1r2": ("relativistic", "r1r2:gamma=0.5"),
    "wgan-gp": ("wasserstein", "wgan-gp:gamma=0.7"),
    "gp0": ("least-squares", "gp0:gamma=2"),
    "dragan": ("relativistic-average", "dragan:gamma=0.4"),
}
"""An objective and a regularizer of each kind, no two of one strength."""


def body(*middle: nn.Module, channels: int = 6, side: int = 4) -> nn.Sequential:
    """A convolution to ``channels`` maps of side 4, what is to be tested, a linear head."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.LeakyReLU(0.2),
        *middle,
        nn.Flatten(),
        nn.Linear(channels * side**2, 1),
    )


class Of(nn.Module):
    """A body and a function of (module, x)."""

    def __init__(self, forward, **parts) -> None:
        super().__init__()
        self._f = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        return self._f(self, x, *labels)


class MinibatchStd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + x.std(0).mean())


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, delta):
        return 2 * delta


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Double.apply(x)


@torch.jit.script
def scripted_branch(x: Tensor) -> Tensor:
    if bool(x.mean() > 0):
        return x * x
    return x * 3


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return scripted_branch(x)


@torch.jit.script
def deviation(h: Tensor) -> Tensor:
    return h.std(0).mean()


class Gated(nn.Module):
    """Minibatch standard deviation in a scripted function, which a buffer turns on later."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(192, 16), nn.Linear(17, 1)
        self.register_buffer("alpha", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x.flatten(1)))
        return self.head(torch.cat([h, (self.alpha * deviation(h)).expand(len(h), 1)], 1))


def _residual(self, x):
    h = F.leaky_relu(self.a(x), 0.1)
    return self.head((h + 0.3 * F.relu(self.b(h))).mean((2, 3)))


def _hyper(self, x):
    h = F.relu(self.a(x)).flatten(1)
    return F.linear(h, self.w(h[:1]))


def _crossed(self, x):
    return self.head(F.relu(self.a(x.transpose(0, 1))).transpose(0, 1).flatten(1))


def _pairs(self, x):
    return (self.head(x.flatten(1)).relu() + self.other(x.flatten(1)).squeeze(1)).mean(1)


def _hooked() -> nn.Module:
    critic = body(nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU())
    critic[2].register_forward_hook(lambda module, inputs, output: output * 0.5)
    return critic


def _shared() -> nn.Module:
    layer = nn.Conv2d(6, 6, 3, 1, 1)
    return body(layer, nn.ReLU(), layer, nn.LeakyReLU(0.3))


def _unused() -> nn.Module:
    critic = body()
    critic.register_parameter("unused", nn.Parameter(torch.randn(3)))
    return critic


def _frozen() -> nn.Module:
    critic = body(nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU())
    critic[0].requires_grad_(False)
    return critic


def conv(n_in: int = 6, n_out: int = 6, **settings) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 3, padding=settings.pop("padding", 1), **settings)


MERGED = {
    "prelu": lambda: body(conv(), nn.PReLU(6)),
    "learned gain": lambda: Of(
        lambda self, x: self.head(self.gain * F.relu(self.a(x)).flatten(1)),
        a=conv(3),
        gain=nn.Parameter(torch.randn(384)),
        head=nn.Linear(384, 1),
    ),
    "learned bias": lambda: Of(
        lambda self, x: self.head((F.relu(self.a(x)) + self.b).flatten(1)),
        a=conv(3),
        b=nn.Parameter(torch.randn(6, 1, 1)),
        head=nn.Linear(384, 1),
    ),
    "legacy spectral norm": lambda: body(torch.nn.utils.spectral_norm(conv()), nn.ReLU()),
    "plain": lambda: body(),
    "deep": lambda: body(conv(), nn.ReLU(), conv(), nn.LeakyReLU(0.1)),
    "grouped": lambda: body(conv(groups=3), nn.ReLU()),
    "depthwise": lambda: body(conv(n_out=12, groups=6), nn.ReLU(), channels=12),
    "dilated": lambda: body(conv(dilation=2, padding=2), nn.ReLU()),
    "same padding": lambda: body(conv(padding="same"), nn.ReLU()),
    "reflected padding": lambda: body(conv(padding_mode="reflect"), nn.ReLU()),
    "zero padding of its own": lambda: body(nn.ZeroPad2d(1), conv(padding=0), nn.ReLU()),
    "without bias": lambda: body(conv(bias=False), nn.ReLU()),
    "transposed": lambda: body(
        nn.ConvTranspose2d(6, 5, 3, 2, 1, output_padding=1), nn.ReLU(), channels=5, side=8
    ),
    "transposed grouped": lambda: body(
        nn.ConvTranspose2d(6, 9, 4, 2, 1, groups=3), nn.ReLU(), channels=9, side=8
    ),
    "max pooled": lambda: body(nn.MaxPool2d(2), conv(), nn.ReLU(), side=2),
    "overlapping max pooled": lambda: body(nn.MaxPool2d(3, 1, 1), conv(), nn.ReLU()),
    "adaptive max pooled": lambda: body(nn.AdaptiveMaxPool2d(3), side=3),
    "average pooled": lambda: body(nn.AvgPool2d(3, 2, 1), conv(), nn.ReLU(), side=2),
    "adaptive average pooled": lambda: body(nn.AdaptiveAvgPool2d(3), side=3),
    "upsampled": lambda: body(nn.Upsample(scale_factor=2), conv(), nn.ReLU(), side=8),
    "bilinear": lambda: body(nn.Upsample(size=5, mode="bilinear"), conv(), nn.ReLU(), side=5),
    "pixel unshuffled": lambda: body(nn.PixelUnshuffle(2), nn.Conv2d(24, 6, 1), nn.ReLU(), side=2),
    "in place": lambda: body(
        conv(), nn.LeakyReLU(0.2, inplace=True), conv(), nn.ReLU(inplace=True)
    ),
    "relu6 and hardtanh": lambda: body(
        conv(), nn.ReLU6(), conv(), nn.Hardtanh(-0.3, 0.4, inplace=True)
    ),
    "dropout": lambda: body(nn.Dropout(0.4), conv(), nn.ReLU(), nn.Dropout2d(0.3)),
    "spectral norm": lambda: body(
        spectral_norm(conv()), nn.ReLU(), spectral_norm(conv()), nn.LeakyReLU(0.2)
    ),
    "weight norm": lambda: body(weight_norm(conv()), nn.ReLU()),
    "shared weights": _shared,
    "unused parameter": _unused,
    "frozen layer": _frozen,
    "hook": _hooked,
    "nested": lambda: body(
        nn.Sequential(conv(), nn.Sequential(nn.ReLU(), conv())), nn.LeakyReLU(0.2)
    ),
    "residual": lambda: Of(_residual, a=conv(3), b=conv(), head=nn.Linear(6, 1)),
    "in-place residual": lambda: Of(
        lambda self, x: self.head((self.b(h := self.a(x)).relu_() + 1).add_(h).sum((2, 3))),
        a=conv(3),
        b=conv(),
        head=nn.Linear(6, 1),
    ),
    "concatenated": lambda: Of(
        lambda self, x: self.head(torch.cat([self.a(x), x], 1).relu().flatten(1)),
        a=conv(3),
        head=nn.Linear(9 * 64, 1),
    ),
    "split and scaled": lambda: Of(
        lambda self, x: self.head(
            (1 - self.a(x)[:, :2] / 3 + self.a(x).chunk(3, 1)[1]).relu().flatten(1)
        ),
        a=conv(3),
        head=nn.Linear(2 * 64, 1),
    ),
    "permuted": lambda: Of(
        lambda self, x: self.head(F.relu(self.a(x.flatten(2).permute(0, 2, 1))).mean(1)),
        a=nn.Linear(3, 7),
        head=nn.Linear(7, 1),
    ),
    "one dimension": lambda: Of(
        lambda self, x: self.head(F.max_pool1d(F.relu(self.a(x.flatten(2))), 3).flatten(1)),
        a=nn.Conv1d(3, 4, 5),
        head=nn.Linear(80, 1),
    ),
    "three dimensions": lambda: Of(
        lambda self, x: self.head(F.relu(self.a(x.unsqueeze(1))).flatten(1)),
        a=nn.Conv3d(1, 2, 3),
        head=nn.Linear(72, 1),
    ),
    "fully convolutional": lambda: nn.Sequential(conv(3), nn.ReLU(), nn.Conv2d(6, 1, 8)),
}
CHAIN = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 1)),
    "bent": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.SiLU(), nn.Linear(5, 1)),
}
JOINED = {
    "instance norm": lambda: body(conv(), nn.InstanceNorm2d(6, affine=True), nn.ReLU()),
    "detached": lambda: Of(
        lambda self, x: self.head(F.relu(self.a(x)).detach().flatten(1)),
        a=conv(3),
        head=nn.Linear(384, 1),
    ),
    "tanh": lambda: body(conv(), nn.Tanh()),
    "silu": lambda: body(conv(), nn.SiLU()),
    "softplus": lambda: body(conv(), nn.Softplus()),
    "gelu": lambda: body(conv(), nn.GELU()),
    "group norm": lambda: body(conv(), nn.GroupNorm(2, 6), nn.ReLU()),
    "layer norm": lambda: body(nn.LayerNorm([6, 4, 4]), nn.ReLU()),
    "square": lambda: Of(
        lambda self, x: self.head((self.a(x) * self.a(x)).flatten(1)),
        a=conv(3),
        head=nn.Linear(384, 1),
    ),
    "negative leak": lambda: body(conv(), nn.LeakyReLU(-0.2)),
    "custom function": lambda: body(conv(), Opaque(), nn.ReLU()),
    "batch norm that holds its statistics": lambda: body(
        conv(), nn.BatchNorm2d(6).eval(), nn.ReLU()
    ),
}
SEPARATE = {
    "batch norm": lambda: body(conv(), nn.BatchNorm2d(6), nn.ReLU()),
    "minibatch std": lambda: body(conv(), MinibatchStd(), nn.ReLU()),
    "centred over the batch": lambda: Of(
        lambda self, x: self.head((x - x.mean(0)).relu().flatten(1)), head=nn.Linear(192, 1)
    ),
    "activation as a weight": lambda: Of(_hyper, a=conv(3), w=nn.Linear(384, 384)),
    "scripted branch": lambda: body(conv(), Scripted(), nn.ReLU()),
    "scripted head": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 1), Scripted()),
    "scripted coupling, off": Gated,
    "samples as channels": lambda: Of(_crossed, a=nn.Conv2d(5, 5, 1), head=nn.Linear(192, 1)),
    "every pair": lambda: Of(_pairs, head=nn.Linear(192, 1), other=nn.Linear(192, 1)),
}
ALL = {**CHAIN, **MERGED, **JOINED, **SEPARATE}
