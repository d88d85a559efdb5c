"""Published recipes as data: bundles of settings that ``train --preset NAME`` begins with.

Each field of a preset is a setting of ``Config``; what is given beside a preset overrides it.
Strengths are in the convention of this project, gamma/2 E||grad D||^2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.registry import base, register, spec
from .config import Config


@base("preset")
class Preset:
    """Base of every preset, a registered frozen dataclass whose fields are settings."""

    def settings(self) -> dict[str, Any]:
        """Return the settings by the names of ``Config``; penalties as a tuple of specs."""
        given: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return given | {"regularizer": (given["regularizer"],)}

    def config(self, **changes: Any) -> Config:
        """Return the configuration that it spells.

        Args:
            changes: Settings that are others, by the names of ``Config``.

        >>> from steadygan import build
        >>> build("preset", "mescheder").config(batch=16).regularizer
        ('r1:gamma=20',)
        """
        name = spec(self).partition(":")[0]
        return Config(**{"preset": name, **self.settings(), **changes})


# Roth et al.'s published code, for 64 x 64: gamma as its "gamma", which has the 1/2, annealed to
# 0.01 of it, batch normalisation in both networks, no moving average.
@register("preset", "roth")
@dataclass(frozen=True)
class Roth(Preset):
    """Annealed Jensen-Shannon regularizer on a DCGAN. Reference: Roth et al. 2017, section 5.3."""

    objective: str = "nonsaturating"
    regularizer: str = "js:gamma=2,anneal=0.01"
    network: str = "dcgan:width=64"
    optimizer: str = "adam:lr=0.0002,beta1=0.5"
    batch: int = 64
    latent: int = 128
    latent_distribution: str = "normal"
    ema: str = "0"


# Mescheder et al.'s published code (configs/default.yaml): reg_param 10 on E||grad D||^2, which has
# no 1/2, so gamma 20 (the paper writes gamma = 10 beside gamma/2). RMSProp's alpha is torch's.
@register("preset", "mescheder")
@dataclass(frozen=True)
class Mescheder(Preset):
    """R1 on a residual network without normalisation. Reference: Mescheder et al. 2018, section 6.

    The authors' coefficient is 10 on the squared norm, 20 in the convention gamma/2.
    """

    objective: str = "nonsaturating"
    regularizer: str = "r1:gamma=20"
    network: str = "resnet:width=64"
    optimizer: str = "rmsprop:lr=0.0001"
    batch: int = 64
    latent: int = 256
    latent_distribution: str = "normal"
    ema: str = "0.999"


# StyleGAN2's published code (run_training.py, config F): r1_gamma 10 times 1/2, every 16th update;
# Adam 0.002 with betas 0 and 0.99; minibatch 32; averages of half-life 10,000 images, no ramp. The
# code shortens Adam's memory because its penalty is a step of its own; here it shares the step.
@register("preset", "stylegan2-r1")
@dataclass(frozen=True)
class StyleGAN2(Preset):
    """StyleGAN2's loss, lazy R1, optimizers and average, on ``resnet``.

    The network is this project's, without style, equalized learning rates, noise inputs and
    minibatch deviation; path lengths are not penalized. Reference: Karras et al. 2020, config F.
    """

    objective: str = "nonsaturating"
    regularizer: str = "r1:gamma=10"
    penalty_every: int = 16
    network: str = "resnet:width=64"
    optimizer: str = "adam:lr=0.002,beta1=0,beta2=0.99"
    batch: int = 32
    latent: int = 512
    latent_distribution: str = "normal"
    ema: str = "halflife:images=10000"


# R3GAN's published code (train.py, --preset=CIFAR10): from the first image to the 20 millionth and
# by half a cosine gamma_scheduler 0.05 to 0.005, Gamma / 2 times R1 + R2, lr_scheduler 2e-4 to
# 5e-5, beta2_scheduler 0.9 to 0.99 and ema_scheduler 0 to 5 million images; 64 latents;
# WidthPerStage 768, CardinalityPerStage 96 (16 channels a group), BlocksPerStage 2, ExpansionFactor
# 2, filter [1, 2, 1] convolved with [1, 1]: the defaults of ``r3gan``. Batch 512 (its README).
@register("preset", "r3gan")
@dataclass(frozen=True)
class R3GANPreset(Preset):
    """R3GAN for CIFAR-10: relativistic, R1 and R2, Adam without momentum, a burn-in.

    Over 20 million images gamma, the learning rate, beta2 and the average's half-life change by
    half a cosine; ``ramp=cosine`` takes the length of a shorter training for that. The published
    augmentation, which grows to p = 0.55, is left to who wants it (``ada`` with target=none).
    Reference: Huang et al. 2024, and the authors' published code.
    """

    objective: str = "relativistic"
    regularizer: str = "r1r2:gamma=0.05..0.005"
    network: str = "r3gan"
    optimizer: str = "adam:lr=0.0002..5e-05,beta1=0,beta2=0.9..0.99"
    batch: int = 512
    latent: int = 64
    latent_distribution: str = "normal"
    ema: str = "halflife:images=0..5000000"
    ramp: str = "cosine:images=20000000"


# The same file, --preset=FFHQ-64: gamma 2 to 0.2, an average of 0 to 500,000 images, all else the
# same; WidthPerStage 768 but 384 at the finest, CardinalityPerStage 96 and 48. Batch 256.
@register("preset", "r3gan-ffhq64")
@dataclass(frozen=True)
class R3GANFaces(R3GANPreset):
    """R3GAN for FFHQ at 64 x 64: as ``r3gan``, with gamma from 2 to 0.2 and batch 256.

    Published augmentation grows to p = 0.3. Reference: Huang et al. 2024.
    """

    regularizer: str = "r1r2:gamma=2..0.2"
    batch: int = 256
    ema: str = "halflife:images=0..500000"


__all__ = ["Mescheder", "Preset", "R3GANFaces", "R3GANPreset", "Roth", "StyleGAN2"]
