"""Critics of many outputs in the manner of public code: maps, lists, feature maps, dicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

IMAGE, SOUND = (3, 12, 12), (1, 60)


class Patch(nn.Module):
    """A PatchGAN: (B, 1, h, w) logits; with features the list of all maps, the logits last."""

    def __init__(
        self, width: int = 4, features: bool = False, activation: type = nn.LeakyReLU
    ) -> None:
        super().__init__()
        act = (0.2,) if activation is nn.LeakyReLU else ()
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), activation(*act)),
                nn.Sequential(nn.Conv2d(width, width, 4, 2, 1), activation(*act)),
                nn.Conv2d(width, 1, 3, 1, 1),
            ]
        )
        self.features = features

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps if self.features else x


class Pyramid(nn.Module):
    """PatchGANs at two scales, each with its features (pix2pixHD): lists in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList([Patch(3, features=True), Patch(3, features=True)])

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        found = []
        for scale in self.scales:
            found.append(scale(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found


class Period(nn.Module):
    def __init__(self, period: int, width: int = 3) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList(
            [
                weight_norm(nn.Conv2d(1, width, (5, 1), (3, 1), (2, 0))),
                weight_norm(nn.Conv2d(width, width, (5, 1), (3, 1), (2, 0))),
            ]
        )
        self.last = weight_norm(nn.Conv2d(width, 1, (3, 1), 1, (1, 0)))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        b, c, t = x.shape
        x = F.pad(x, (0, -t % self.period), "reflect")
        x = x.view(b, c, x.shape[2] // self.period, self.period)
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        x = self.last(x)
        return x.flatten(1), [*maps, x]


class Scale(nn.Module):
    def __init__(self, norm, width: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [norm(nn.Conv1d(1, width, 15, 2, 7)), norm(nn.Conv1d(width, width, 11, 4, 5, groups=2))]
        )
        self.last = norm(nn.Conv1d(width, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        x = self.last(x)
        return x.flatten(1), [*maps, x]


class Vocoder(nn.Module):
    """Multi-period and multi-scale critics (HiFi-GAN): a list of (logits, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.periods = nn.ModuleList([Period(2), Period(7)])
        self.scales = nn.ModuleList([Scale(spectral_norm), Scale(weight_norm)])

    def forward(self, x: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        found = [period(x) for period in self.periods]
        for scale in self.scales:
            found.append(scale(x))
            x = F.avg_pool1d(x, 4, 2, 2)
        return found


class Spectral(nn.Module):
    """A critic of the complex spectrum, its features and logits in one list (DAC)."""

    def __init__(self, window: int, width: int = 3) -> None:
        super().__init__()
        self.window = window
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(2, width, (3, 5), 1, (1, 2)),
                nn.Conv2d(width, width, (3, 5), (1, 2), (1, 2)),
            ]
        )
        self.last = nn.Conv2d(width, 1, 3, 2, 1)

    def spectrum(self, x: Tensor) -> Tensor:
        hann = torch.hann_window(self.window, dtype=x.dtype)
        complex_ = torch.stft(
            x.squeeze(1), self.window, self.window // 2, window=hann, return_complex=True
        )
        return torch.view_as_real(complex_).permute(0, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.spectrum(x), []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            maps.append(x)
        return [*maps, self.last(x)]


class Codec(nn.Module):
    """Critics of two spectra, of sound without offset and at one loudness (DAC): lists of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Spectral(16), Spectral(8)])

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        x = x - x.mean(-1, keepdim=True)
        x = 0.8 * x / (x.abs().max(-1, keepdim=True)[0] + 1e-9)
        return [part(x) for part in self.parts]


class Split(nn.Module):
    """Logits and features as two lists (EnCodec)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Spectral(16), Spectral(8)])

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        found = [part(x) for part in self.parts]
        return [maps[-1] for maps in found], [maps[:-1] for maps in found]


class Pixels(nn.Module):
    """A U-Net with a logit for each pixel (Real-ESRGAN)."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        norm = spectral_norm
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.down = norm(nn.Conv2d(width, width, 4, 2, 1, bias=False))
        self.up = norm(nn.Conv2d(width, width, 3, 1, 1, bias=False))
        self.last = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        low = F.leaky_relu(self.down(h), 0.2)
        low = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(F.leaky_relu(self.up(low), 0.2) + h)


class Heads(nn.Module):
    """A global and a local head, by name, with features."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 4, 4, 3), nn.Conv2d(4, 1, 1)
        self.whole = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        h = F.silu(self.body(x))
        return {"global": self.whole(h.mean((2, 3))), "local": self.last(h), "features": [h]}


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mixed = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.mixed(self.norm(h)).chunk(3, -1)
        h = h + (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return h + self.out(h)


class Tokens(nn.Module):
    """Attention over patches and heads at two depths, one logit each (distillation)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList([Attention(width) for _ in range(2)])
        self.heads = nn.ModuleList([nn.Linear(width, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = self.embed(x).flatten(2).transpose(1, 2), []
        for block, head in zip(self.blocks, self.heads, strict=True):
            h = block(h)
            found.append(head(h.mean(1)))
        return found


class Conditional(nn.Module):
    """A map that is also asked about a class (projection at every position)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 4, 3), nn.LeakyReLU(0.2))
        self.last, self.embed = nn.Conv2d(4, 1, 1), nn.Embedding(3, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.body(x)
        return self.last(h) + (self.embed(y)[:, :, None, None] * h).sum(1, keepdim=True)


MANY = {
    "patch": (Patch, IMAGE, "auto"),
    "smooth patch": (lambda: Patch(activation=nn.SiLU), IMAGE, "auto"),
    "patches at two scales": (Pyramid, IMAGE, "last"),
    "periods and scales": (Vocoder, SOUND, "auto"),
    "spectra": (Codec, SOUND, "last"),
    "spectra, split": (Split, SOUND, "auto"),
    "pixels": (Pixels, (3, 4, 4), "auto"),
    "heads by name": (Heads, IMAGE, "auto"),
    "tokens": (Tokens, IMAGE, "auto"),
    "conditional": (Conditional, IMAGE, "auto"),
}
"""Each with the event that it takes and how its output is read."""
