"""Critics in the manner of public code, as small as they can be: one for each family that people
train against."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from critics import Of, conv
from public_images import (
    CLASSES,
    LEAKY,
    R3GAN,
    Equal,
    ResNet,
    StyleGAN2,
    dcgan,
    growing,
    gulrajani,
    preactivated,
    viewed,
)
from public_maps import melgan, old_periods, patch, resolutions, scales, u_net
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

IMAGE, SOUND = (3, 8, 8), (1, 48)


class Kind(NamedTuple):
    """A family: its critic, the samples that it takes, and the path that is right for it: of a
    "map" merged but for penalties on real samples alone, of several "maps" merged only where the
    loss does not look at what the penalty looks at, and else joined.

    couples: samples see each other. single: works in single precision only, unless it is made with
    ``strict=False``.
    """

    make: Callable[..., nn.Module]
    path: str
    event: tuple[int, ...] = IMAGE
    labelled: bool = False
    reading: str = "auto"
    couples: bool = False
    single: bool = False


# ------------------------------------------------------------ transformers


def tokens(self: nn.Module, x: Tensor) -> Tensor:
    return self.embed(x).flatten(2).transpose(1, 2)


def _classified(self: nn.Module, x: Tensor) -> Tensor:
    h = torch.cat([self.cls.expand(x.shape[0], -1, -1), tokens(self, x)], 1) + self.place
    return self.head(self.body(h)[:, 0])


def vit() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True)
    return Of(
        _classified,
        embed=nn.Conv2d(3, 8, 4, 4),
        cls=nn.Parameter(torch.randn(1, 1, 8)),
        place=nn.Parameter(torch.randn(1, 5, 8)),
        body=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(8, 1),
    )


def probed(self: nn.Module, x: Tensor) -> list[Tensor]:
    """Distillation's: heads on a frozen transformer, of fused attention."""
    h, found = tokens(self, x), []
    for mix, head in zip(self.mixed, self.heads, strict=True):
        q, k, v = (t.unflatten(2, (2, 4)).transpose(1, 2) for t in mix(h).chunk(3, 2))
        h = h + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        found.append(head(h).mean(1))
    return found


def _attending(self: nn.Module, x: Tensor) -> Tensor:
    h = self.norm(tokens(self, x))
    return self.head(F.silu(h + self.mix(h, h, h, need_weights=self.weights)[0]).mean(1))


def attended(weights: bool = False) -> nn.Module:
    return Of(
        _attending,
        embed=nn.Conv2d(3, 8, 4, 4),
        norm=nn.LayerNorm(8),
        mix=nn.MultiheadAttention(8, 2, batch_first=True),
        weights=weights,
        head=nn.Linear(8, 1),
    )


# ------------------------------------------------------------ vectors, classes, sets, sequences


def planted(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mirza and Osindero's conditioning: the class is one more channel of the picture."""
    plane = self.classes(y).view(len(y), 1, 8, 8)
    return self.body(torch.cat([x, plane], dim=1))


def airl(self: nn.Module, x: Tensor) -> Tensor:
    """f(s) + 0.9 h(s') - h(s)."""
    now, then = x[:, :3], x[:, 3:]
    return (self.f(now) + 0.9 * self.h(then) - self.h(now)).squeeze(-1)


def graph(self: nn.Module, x: Tensor) -> Tensor:
    """MolGAN's: adjacency (N, N) and node features, as one tensor."""
    adjacency, h = x[..., :5], x[..., 5:]
    h = torch.tanh(torch.bmm(adjacency, self.a(h)) + self.b(h))
    return self.head((torch.sigmoid(self.gate(h)) * h).sum(1))


def discriminated(self: nn.Module, x: Tensor) -> Tensor:
    """Minibatch discrimination (Salimans et al. 2016)."""
    h = F.leaky_relu(self.a(x.flatten(1)), 0.2)
    m = (h @ self.t).view(-1, 3, 2)
    distance = (m.unsqueeze(0) - m.unsqueeze(1)).abs().sum(3)
    return self.head(torch.cat([h, torch.exp(-distance).sum(0)], 1))


def mlp(*sizes: int, activation: Callable = nn.ReLU, norm: Callable = nn.Identity) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), norm(n_out), activation()]
    return nn.Sequential(*layers[:-2])


def frozen() -> nn.Module:
    """Projected GAN's: learned heads on the features of a network that holds still."""
    body = nn.Sequential(conv(3, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, stride=2))
    body.eval().requires_grad_(False)
    heads = nn.ModuleList([spectral_norm(nn.Conv2d(4, 1, s)) for s in (4, 2)])

    def forward(self: nn.Module, x: Tensor) -> list[Tensor]:
        early = self.body[:3](x)
        return [self.heads[0](early), self.heads[1](self.body[3](early))]

    return Of(forward, body=body, heads=heads)


PUBLIC = {
    "dcgan": Kind(dcgan, "merged"),
    "dcgan, batch norm": Kind(
        lambda: dcgan(between=lambda: nn.BatchNorm2d(6)), "separate", couples=True
    ),
    "dcgan of tutorials": Kind(
        lambda: Of(
            viewed,
            a=nn.Conv2d(3, 4, 4, 2, 1),
            b=nn.Conv2d(4, 4, 4, 2, 1),
            head=nn.Linear(16, 1),
            gpus=0,
        ),
        "merged",
    ),
    "sn-dcgan": Kind(lambda: dcgan(spectral_norm), "merged"),
    "sn-dcgan of old": Kind(lambda: dcgan(old_spectral_norm), "merged"),
    "sn-resnet": Kind(lambda: ResNet(spectral_norm), "merged"),
    "resnet of mescheder": Kind(
        lambda: Of(
            preactivated, first=conv(3, 4), a=conv(4, 4), b=conv(4, 4), head=nn.Linear(64, CLASSES)
        ),
        "merged",
        labelled=True,
    ),
    "resnet of wgan-gp": Kind(
        lambda: Of(
            gulrajani,
            a=conv(3, 4),
            b=conv(4, 4),
            c=conv(4, 4),
            norm=nn.LayerNorm([4, 4, 4]),
            head=nn.Linear(4, 1),
        ),
        "joined",
    ),
    "biggan": Kind(lambda: ResNet(spectral_norm, CLASSES), "merged", labelled=True),
    "sagan": Kind(lambda: ResNet(old_spectral_norm, CLASSES, True), "joined", labelled=True),
    "stylegan2": Kind(StyleGAN2, "separate", couples=True, single=True),
    "stylegan2, skips": Kind(
        lambda **s: StyleGAN2("skip", deviation=False, **s), "merged", single=True
    ),
    "stylegan2-ada, classes": Kind(
        lambda **s: StyleGAN2(classes=CLASSES, **s),
        "separate",
        labelled=True,
        couples=True,
        single=True,
    ),
    "stylegan3 without deviation": Kind(
        lambda **s: StyleGAN2(classes=CLASSES, deviation=False, **s),
        "merged",
        labelled=True,
        single=True,
    ),
    "r3gan": Kind(R3GAN, "merged"),
    "progressive": Kind(
        lambda: Of(
            growing,
            a=Equal(3, 4, 1),
            b=Equal(4, 4, 3),
            c=Equal(3, 4, 1),
            head=Equal(64, 1, active=False),
        ),
        "merged",
    ),
    "patch, instance norm": Kind(lambda: patch(lambda: nn.InstanceNorm2d(4)), "joined"),
    "patch, batch norm": Kind(lambda: patch(lambda: nn.BatchNorm2d(4)), "separate", couples=True),
    "patch, spectral norm": Kind(lambda: patch(nn.Identity, spectral_norm), "map"),
    "patches at scales": Kind(
        lambda: Of(
            scales, parts=nn.ModuleList([patch(lambda: nn.GroupNorm(2, 4)) for _ in range(2)])
        ),
        "joined",
        event=(3, 12, 12),
    ),
    "melgan": Kind(melgan, "map", SOUND, reading="last"),
    "hifi-gan of old": Kind(old_periods, "maps", SOUND),
    "univnet": Kind(resolutions, "joined", SOUND),
    "u-net": Kind(
        lambda: Of(
            u_net,
            a=spectral_norm(conv(3, 3)),
            b=spectral_norm(conv(3, 4)),
            c=spectral_norm(conv(4, 3)),
            whole=nn.Linear(4, 1),
            last=nn.Conv2d(6, 1, 1),
        ),
        "maps",
    ),
    "vit": Kind(vit, "separate"),
    "attention": Kind(attended, "separate"),
    "attention that shows its weights": Kind(lambda: attended(True), "separate"),
    "heads on fused attention": Kind(
        lambda: Of(
            probed,
            embed=nn.Conv2d(3, 8, 4, 4),
            mixed=nn.ModuleList([nn.Linear(8, 24) for _ in range(2)]).requires_grad_(False),
            heads=nn.ModuleList([mlp(8, 6, 1, activation=nn.GELU) for _ in range(2)]),
        ),
        "joined",
    ),
    "heads on a frozen network": Kind(frozen, "joined"),
    "motion prior": Kind(lambda: mlp(7, 9, 6, 1), "chain", (7,)),
    "motion prior, normalised": Kind(
        lambda: mlp(7, 9, 6, 1, activation=nn.SiLU, norm=nn.LayerNorm), "joined", (7,)
    ),
    "transitions": Kind(
        lambda: Of(airl, f=mlp(3, 8, 1), h=mlp(3, 8, 1, activation=nn.Tanh)), "joined", (6,)
    ),
    "planted class": Kind(
        lambda: Of(
            planted,
            classes=nn.Embedding(CLASSES, 64),
            body=nn.Sequential(nn.Conv2d(4, 4, 4, 2, 1), LEAKY, nn.Flatten(), nn.Linear(64, 1)),
        ),
        "joined",
        labelled=True,
    ),
    "sets": Kind(
        lambda: Of(
            lambda self, x: self.head(F.relu(self.a(x)).max(dim=2)[0]),
            a=nn.Conv1d(2, 6, 1),
            head=mlp(6, 5, 1),
        ),
        "joined",
        (2, 7),
    ),
    "graphs": Kind(
        lambda: Of(
            graph, a=nn.Linear(3, 6), b=nn.Linear(3, 6), gate=nn.Linear(6, 1), head=nn.Linear(6, 1)
        ),
        "joined",
        (5, 8),
    ),
    "sequences": Kind(
        lambda: Of(
            lambda self, x: self.head(self.body(x)[0][:, -1]),
            body=nn.GRU(3, 5, batch_first=True),
            head=nn.Linear(5, 1),
        ),
        "separate",
        (4, 3),
    ),
    "volumes": Kind(
        lambda: nn.Sequential(nn.Conv3d(1, 3, 4, 2, 1), LEAKY, nn.Conv3d(3, 1, 3)),
        "merged",
        (1, 6, 6, 6),
    ),
    "lines": Kind(
        lambda: nn.Sequential(nn.Conv1d(1, 3, 8, 4, 2), LEAKY, nn.Conv1d(3, 1, 12)), "merged", SOUND
    ),
    "group norm": Kind(
        lambda: dcgan(between=lambda: nn.Sequential(nn.GroupNorm(2, 6), nn.SiLU())), "joined"
    ),
    "minibatch discrimination": Kind(
        lambda: Of(
            discriminated,
            a=nn.Linear(192, 5),
            t=nn.Parameter(torch.randn(5, 6)),
            head=nn.Linear(8, 1),
        ),
        "separate",
        couples=True,
    ),
    "checkpointed": Kind(
        lambda: Of(
            lambda self, x: self.head(checkpoint(self.body, x, use_reentrant=False).flatten(1)),
            body=nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), LEAKY, conv(4, 4), LEAKY),
            head=nn.Linear(64, 1),
        ),
        "joined",
    ),
}
"""By name."""
