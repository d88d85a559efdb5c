"""The atlas on images: what is drawn, what a method changes, and what stands."""

import math
from pathlib import Path

import numpy as np
import pytest

from steadygan.evaluation.estimate import Estimate
from steadygan.evaluation.samples import load_samples
from steadygan.experiments import atlas_images as atlas
from steadygan.experiments.atlas import ALL, Setting, drawn
from steadygan.experiments.images import ImageRun, event, problem, sources
from steadygan.experiments.quality import Quality

TINY = atlas.EXPERIMENT.settings("tiny")


def test_settings_are_drawn_among_those_of_the_atlas():
    assert len(set(atlas.AMONG)) == 48 and set(atlas.AMONG) < set(ALL)
    assert drawn(24, among=atlas.AMONG)[:8] == drawn(8, among=atlas.AMONG)


@pytest.mark.parametrize("name", atlas.METHODS)
def test_a_method_changes_of_a_setting_what_it_says(name):
    setting = Setting(4.0, 5, "batch", "hinge", "adam")
    images = problem(TINY)
    found = atlas.config(TINY, setting, atlas.METHODS[name], 7).resolve(images)
    plain = atlas.config(TINY, setting, atlas.METHODS["unregularized"], 7).resolve(images)
    assert "lr=0.0008" in found.optimizer and "critic_steps=5" in found.dynamics
    assert "weight_std=0.02" in found.network and found.seed == 7
    assert "norm=none" not in plain.network  # batch normalization is the DCGAN's own
    differs = {k for k, v in found.to_json().items() if v != plain.to_json()[k]}
    expected = {
        "unregularized": set(),
        "WGAN-GP": {"regularizer", "objective", "network"},
        "spectral norm": {"network"},
    }
    assert differs == expected.get(name, {"regularizer"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"kid": 0.53}, False),
        ({"kid": math.nan}, False),
        ({"spread": 0.01}, False),
        ({"state": "diverged"}, False),
        ({"won": True}, False),
    ],
)
def test_what_stands(changed, expected):
    usual = {"kid": 0.5, "spread": 0.9, "state": "finished", "won": False, **changed}
    run = ImageRun("R1", 0, Path("nowhere"), usual["state"], 600, 1.0, (), ())
    run.__dict__.update(won=usual["won"], had_varied=True)
    quality = Quality(Estimate(usual["kid"], 0.0, 1.0), usual["spread"])
    assert atlas.stands(run, quality, 0.52) is expected


def test_the_bar_is_the_distance_of_a_generator_without_latents():
    settings = {**TINY, "samples": 300}
    path = sources(settings)[1]
    real = load_samples(path, 300, event(settings), 0).reshape(300, -1) / 127.5 - 1
    mean = real.mean(0)
    # MMD² of the cubic kernel (x·y/d + 1)³ against a point mass at the mean.
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    own = kernel(real, real)
    expected = (own.sum() - np.trace(own)) / (300 * 299)
    expected += kernel(mean[None], mean[None]).item() - 2 * kernel(real, mean[None]).mean()
    assert atlas._of_the_mean(problem(settings), settings).value == pytest.approx(expected, rel=0.1)
