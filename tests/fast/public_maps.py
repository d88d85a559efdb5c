"""Critics of many logits in the manner of public code: maps, scales, sound."""

from __future__ import annotations

from collections.abc import Callable

import torch
from critics import Of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import weight_norm

LEAKY = nn.LeakyReLU(0.2)


# ------------------------------------------------------------ maps, scales, sound


def patch(between: Callable, norm: Callable = lambda layer: layer) -> nn.Module:
    """pix2pix's, whose field of view is 70 x 70 at full depth."""
    layers = [nn.Conv2d(3, 4, 4, 2, 1), LEAKY]
    layers += [norm(nn.Conv2d(4, 4, 4, 2, 1)), between(), LEAKY]
    layers += [norm(nn.Conv2d(4, 4, 4, 1, 2)), between(), LEAKY]
    return nn.Sequential(*layers, nn.Conv2d(4, 1, 2, 1, 0))


def scales(self, x: Tensor) -> list[Tensor]:
    found = []
    for part in self.parts:
        found.append(part(x))
        x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    return found


def melgan() -> nn.Module:
    """Reflections, strided grouped convolutions, weight norm; every map is a feature."""

    def forward(self: nn.Module, x: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    norm = weight_norm
    return Of(
        forward,
        blocks=nn.ModuleList(
            [
                nn.Sequential(nn.ReflectionPad1d(3), norm(nn.Conv1d(1, 4, 7)), LEAKY),
                nn.Sequential(norm(nn.Conv1d(4, 8, 9, 4, 4, groups=2)), LEAKY),
                nn.Sequential(norm(nn.Conv1d(8, 8, 9, 4, 4, groups=4)), LEAKY),
                norm(nn.Conv1d(8, 1, 3, 1, 1)),
            ]
        ),
    )


def old_periods() -> nn.Module:
    """HiFi-GAN's period critics, with weight normalisation in its older form."""

    def forward(self: nn.Module, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        found, features = [], []
        for period, first, last in zip((3, 4), self.first, self.last, strict=True):
            b, c, t = x.shape
            h = F.leaky_relu(first(x.view(b, c, t // period, period)), 0.1)
            out = last(h)
            found.append(torch.flatten(out, 1, -1))
            features.append([h, out])
        return found, features

    norm = old_weight_norm
    return Of(
        forward,
        first=nn.ModuleList([norm(nn.Conv2d(1, 3, (5, 1), (4, 1), (2, 0))) for _ in range(2)]),
        last=nn.ModuleList([norm(nn.Conv2d(3, 1, (3, 1), (2, 1), (1, 0))) for _ in range(2)]),
    )


def resolutions() -> nn.Module:
    """Spectra of two resolutions: UnivNet's magnitudes, and EnCodec's parts."""

    def forward(self: nn.Module, x: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        found = []
        for size, part in zip((16, 8), self.parts, strict=True):
            x_ = F.pad(x, (size // 2, size // 2), mode="reflect").squeeze(1)
            spectrum = torch.stft(
                x_,
                size,
                size,
                window=torch.hann_window(size, dtype=x.dtype),
                center=False,
                return_complex=True,
            )
            seen = torch.view_as_real(spectrum).norm(p=2, dim=-1)[:, None]
            if size == 8:
                seen = torch.cat([spectrum[:, None].real, spectrum[:, None].imag], dim=1)
            h = F.leaky_relu(part(seen), 0.2)
            found.append((torch.flatten(h, 1, -1), [h]))
        return found

    return Of(
        forward,
        parts=nn.ModuleList(
            [weight_norm(nn.Conv2d(c, 1, 3, s, 1)) for c, s in ((1, (4, 3)), (2, (2, 3)))]
        ),
    )


def u_net(self: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Schönfeld et al.: a logit for the picture and one for each of its (here four) places."""
    a = F.avg_pool2d(F.relu(self.a(x)), 4)
    b = F.avg_pool2d(F.relu(self.b(a)), 2)
    up = F.interpolate(F.relu(self.c(b)), scale_factor=2)
    return {"image": self.whole(b.sum([2, 3])), "pixels": self.last(torch.cat([up, a], 1))}
