"""What the architectures share: layers, initial weights, classes and the checks of settings.

>>> count_parameters(nn.Linear(3, 2))
8
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ...core.errors import SteadyganError, unknown

Activation = Literal["relu", "leaky-relu", "tanh", "silu"]
Norm = Literal["none", "batch", "layer"]
CriticNorm = Literal["none", "batch", "layer", "spectral"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": partial(nn.LeakyReLU, 0.2),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}
# 1 / sqrt(E[a(z)^2]) for z ~ N(0, 1): the weights' factor that undoes what the activation takes
# from the second moment.
GAINS = {"relu": math.sqrt(2), "leaky-relu": math.sqrt(2 / 1.04), "tanh": 1.5925, "silu": 1.6765}
_LEAST, _MOST = 8, 256


def activation(name: Activation) -> nn.Module:
    """Return the activation layer of that name; leaky-relu has slope 0.2.

    >>> activation("leaky-relu")(torch.tensor(-1.0))
    tensor(-0.2000)
    """
    return _ACTIVATIONS[name]()


def map_norm(name: CriticNorm, channels: int) -> list[nn.Module]:
    """Return the layers that normalise feature maps (B, channels, H, W).

    Args:
        name: "batch" is BatchNorm2d, "layer" GroupNorm over one group; others add no layer.
        channels: of the maps.
    """
    layers: dict[str, list[nn.Module]] = {
        "batch": [nn.BatchNorm2d(channels)],
        "layer": [nn.GroupNorm(1, channels)],
    }
    return layers.get(name, [])


def vector_norm(name: CriticNorm, features: int) -> list[nn.Module]:
    """Return the layers that normalise vectors (B, features).

    Args:
        name: "batch" is BatchNorm1d, "layer" LayerNorm; others add no layer.
        features: length of the vectors.
    """
    layers: dict[str, list[nn.Module]] = {
        "batch": [nn.BatchNorm1d(features)],
        "layer": [nn.LayerNorm(features)],
    }
    return layers.get(name, [])


def spectral(critic: nn.Module) -> nn.Module:
    """Divide every weight matrix of a critic by its largest singular value, the classes' included.

    Args:
        critic: whose convolutions and linear layers are parametrized anew, in place.

    Returns:
        The critic.

    Reference: Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks.
    """
    for layer in list(critic.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    return critic


def scaled_init(module: nn.Module, name: Activation) -> None:
    """Draw w ~ N(0, g²/fan_in), biases 0, which keep the signal's scale at every width and depth.

    g = 1/√E[a(z)²], z ~ N(0, 1), undoes what the activation a takes (√2 for ReLU); g = 1 in the
    first layer, which follows none.

    Args:
        module: its linear and convolutional layers are drawn in order, in place.
        name: the activation a.

    Reference: He et al. 2015, Delving Deep into Rectifiers.
    """
    for index, layer in enumerate(_weighted(module)):
        nn.init.normal_(
            layer.weight, 0.0, (GAINS[name] if index else 1.0) / math.sqrt(_fan_in(layer))
        )
        _zero_bias(layer)


def dcgan_init(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of Radford et al.: w ~ N(0, std²), biases 0, the norms' scales N(1, 0.02²).

    Args:
        module: drawn in place.
        std: standard deviation of the weights of all layers.

    Reference: Radford et al. 2016, Unsupervised Representation Learning with Deep Convolutional
    GANs.
    """
    for layer in _weighted(module):
        nn.init.normal_(layer.weight, 0.0, std)
        _zero_bias(layer)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def truncated_init(module: nn.Module) -> None:
    """Draw w ~ N(0, 0.1²) cut at ±0.2, biases 0.

    Args:
        module: drawn in place.

    Reference: the published code of Roth et al. 2017 for the 3-D mixture.
    """
    for layer in _weighted(module):
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        _zero_bias(layer)


def _weighted(module: nn.Module) -> list[Any]:
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    fan = layer.in_channels * math.prod(layer.kernel_size)
    # A transposed convolution spreads its kernel over the stride: an output pixel sees only that
    # share of it.
    return fan / math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else fan


def _zero_bias(layer: Any) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """G(z) = body(z), or G(z, y) = body([z, e(y)/‖e(y)‖]) with a learned embedding e of the class.

    z is (B, latent), y (B,) int64, e(y) (latent,). Every sample of a class brings the same e(y), so
    that its weights learn from all of them what those of z learn from each: an e(y) as long as z
    drowns it within a hundred steps, and all latents make one image (docs/conditional.md).

    Args:
        body: (B, latent) -> (B, *event), with classes (B, 2·latent) -> (B, *event).
        latent: length of z.
        classes: how many there are, 0 for none.

    Reference: Mescheder et al. 2018, the published code for ImageNet.
    """

    def __init__(self, body: nn.Module, latent: int, classes: int) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        self.class_embedding = nn.Embedding(classes, latent) if classes else None
        self.body = body
        self.register_load_state_dict_pre_hook(_refuse_drowned)  # type: ignore[no-untyped-call]

    @property
    def in_order(self) -> dict[str, nn.Module] | None:
        """The modules that it applies one after the other; None where it does more."""
        return None if self.class_embedding else {"body": self.body}

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return samples (B, *event).

        Raises:
            SteadyganError: for latents of another length, and for labels that are missing, or given
                to a generator without classes.
        """
        _check_input("generator", "latents", z, (self.latent,))
        _check_labels("generator", "G(z, y)", self.class_embedding, y)
        if self.class_embedding is None:
            return self.body(z)  # type: ignore[no-any-return]
        z = torch.cat([z, F.normalize(self.class_embedding(y))], 1)
        return self.body(z)  # type: ignore[no-any-return]


class Critic(nn.Module):
    """D(x) = w·h(x) + b, or D(x, y) = (w + e(y))·h(x) + b with learned weights e of each class.

    x is (B, *event), h(x) (B, size), y (B,) int64. The weights of the classes start as those of the
    head do.

    Args:
        features: h, (B, *event) -> (B, size).
        size: how many features there are.
        event: shape of one sample.
        classes: how many there are, 0 for none.
        bias: whether there is b.

    Reference: Miyato and Koyama 2018, cGANs with Projection Discriminator.
    """

    def __init__(
        self,
        features: nn.Module,
        size: int,
        event: tuple[int, ...],
        classes: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.event = tuple(event)
        self.features = features
        self.head = nn.Linear(size, 1, bias)
        self.class_heads = nn.Linear(size, classes, bias=False) if classes else None
        self.register_load_state_dict_pre_hook(_refuse_drowned)  # type: ignore[no-untyped-call]

    @property
    def in_order(self) -> dict[str, nn.Module] | None:
        """The modules that it applies one after the other; None where it does more."""
        return None if self.class_heads else {"features": self.features, "head": self.head}

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return logits (B,), large on real samples.

        Raises:
            SteadyganError: for samples of another shape, and for labels that are missing, or given
                to a critic without classes.
        """
        _check_input("critic", "samples", x, self.event)
        _check_labels("critic", "D(x, y)", self.class_heads, y)
        h = self.features(x)
        logits: Tensor = self.head(h).squeeze(1)
        if self.class_heads is None or y is None:
            return logits
        # All classes and then one of them, instead of a row of weights for each sample: layers and
        # sums are what the merged penalty is exact for.
        of_classes: Tensor = self.class_heads(h)
        each = torch.eye(of_classes.shape[1], dtype=of_classes.dtype, device=y.device)
        return logits + (of_classes * F.embedding(y, each)).sum(1)


def _refuse_drowned(
    module: nn.Module, state: Mapping[str, Tensor], prefix: str, *rest: Any
) -> None:
    if any(key.startswith(f"{prefix}embedding.") for key in state):
        raise SteadyganError(
            "this checkpoint is of an older conditional network, whose class embedding drowned the"
            " latents: its samples are one image a class, and it cannot be used any more; train"
            " the run anew"
        )


def _check_input(who: str, what: str, given: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(given.shape[1:]) != shape or given.ndim == 0:
        expected = ", ".join(map(str, ("B", *shape)))
        raise SteadyganError(
            f"this {who} takes {what} of shape ({expected}), not {tuple(given.shape)}"
        )


def _check_labels(who: str, call: str, of_class: nn.Module | None, y: Tensor | None) -> None:
    if of_class is None and y is not None:
        raise SteadyganError(
            f"this {who} has no classes and takes no labels: build it with classes=..., or leave"
            " the labels out"
        )
    if of_class is not None and y is None:
        raise SteadyganError(f"this {who} is conditional: call it with the labels, {call}")


def check_choices(network: Any) -> None:
    """Refuse a value that a Literal field of a dataclass does not list, in calls from Python.

    The registry checks specs.
    """
    for name, hint in typing.get_type_hints(type(network)).items():
        choices, value = typing.get_args(hint), getattr(network, name)
        if typing.get_origin(hint) is Literal and value not in choices:
            raise unknown(name, str(value), choices)


def check_count(what: str, value: int, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SteadyganError(f"{what} must be a whole number >= {least}, not {value!r}")


def latent_size(latent: int, classes: int) -> int:
    """Return how many numbers enter a generator.

    Args:
        latent: the latents.
        classes: with classes, their embedding has as many numbers.
    """
    check_count("latent", latent, 1)
    check_count("classes", classes, 0)
    return latent * (2 if classes else 1)


def check_event(event: tuple[int, ...]) -> None:
    """Refuse an event without dimensions or with an empty one."""
    if not event:
        raise SteadyganError(
            "the event, the shape of one sample, must have a dimension: (1,) for numbers, (3,"
            " 32, 32) for images"
        )
    for size in event:
        check_count("every dimension of the event, the shape of one sample,", size, 1)


class Pyramid(NamedTuple):
    """How maps grow to an image: ``stages`` doublings from ``height`` x ``width`` on."""

    stages: int
    height: int
    width: int


def pyramid(event: tuple[int, ...]) -> Pyramid:
    """Return the doublings that reach an image (C, H, W), from maps with a shorter side of 4 to 7.

    Args:
        event: the shape of an image, whose sides are 8 to 256.

    Raises:
        SteadyganError: for what is no image, and for sides that the doublings do not reach.

    >>> pyramid((3, 64, 64)), pyramid((1, 28, 28))
    (Pyramid(stages=4, height=4, width=4), Pyramid(stages=2, height=7, width=7))
    >>> pyramid((3, 96, 128))
    Pyramid(stages=4, height=6, width=8)
    """
    check_event(event)
    sides = event[1:]
    if len(event) != 3 or min(sides) < _LEAST or max(sides) > _MOST:
        raise SteadyganError(
            f"this network needs images (channels, height, width) with sides of {_LEAST} to"
            f" {_MOST}, not {tuple(event)}: resize them, or use the mlp, which takes every shape"
        )
    doublings = int(math.log2(min(sides) // 4))
    step = 2**doublings
    if any(side % step for side in sides):
        near = " x ".join(str(step * max(1, round(side / step))) for side in sides)
        raise SteadyganError(
            f"images of {sides[0]} x {sides[1]} cannot be reached by doubling maps {doublings}"
            f" times: take sides that are multiples of {step}, such as {near}"
        )
    return Pyramid(doublings, *(side // step for side in sides))


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns.

    >>> count_parameters(nn.Conv2d(3, 8, 5))
    608
    """
    return sum(parameter.numel() for parameter in module.parameters())


__all__ = ["Activation", "Critic", "CriticNorm", "Generator", "Norm", "count_parameters"]
