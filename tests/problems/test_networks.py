"""The architectures: shapes at every resolution, the papers' numbers, and the properties that
training and analysis rely on."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steadygan.core.errors import SteadyganError
from steadygan.core.game import Game
from steadygan.core.gradients import critic_backward
from steadygan.core.registry import build, names, spec
from steadygan.problems.networks import DCGAN, MLP, R3GAN, Point, Residual, ResNet, count_parameters
from steadygan.problems.networks.blocks import GAINS, activation
from steadygan.problems.networks.r3gan import Bottleneck, Resample

ACTIVATIONS = ["relu", "leaky-relu", "tanh", "silu"]
CRITIC_NORMS = ["none", "batch", "layer", "spectral"]
SMALL = {"dcgan": "dcgan:width=4", "r3gan": "r3gan:width=16,group=4"}  # others as they come
IMAGE_NETWORKS = ["dcgan:width=4", "resnet:width=2", "mlp:width=8"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def settings(network: str, **values) -> object:
    """Build a spec with settings of the critic's and the generator's norm, activation and so on."""
    return build("network", network + "".join(f",{key}={value}" for key, value in values.items()))


def with_norm(network: str, norm: str) -> object:
    return settings(network, norm="none" if norm == "spectral" else norm, critic_norm=norm)


def labels(n: int, classes: int) -> tuple:
    return (torch.arange(n) % classes,) if classes else ()


def smooth_images(n: int, side: int) -> torch.Tensor:
    return F.interpolate(torch.rand(n, 3, 4, 4) * 2 - 1, size=side, mode="bilinear")


# Shapes and names


def test_the_registry_has_the_networks():
    assert set(names("network")) >= {"dcgan", "mlp", "point", "r3gan", "resnet"}


@pytest.mark.parametrize("name", names("network"))
def test_every_registered_network_plays_what_it_accepts(name):
    """Shapes, and both players get a gradient; what it refuses has a reason."""
    network, played = build("network", SMALL.get(name, name)), 0
    assert build("network", spec(network)) == network
    for event in ((1,), (2,), (3, 16, 16)):
        try:
            generator, critic = network.generator(event, 4), network.critic(event)
            fake = generator(torch.randn(4, 4))
        except SteadyganError as refused:
            assert len(str(refused)) > 20
            continue
        played += 1
        assert fake.shape == (4, *event)
        game = Game("nonsaturating", ["r1:gamma=1"])
        game.critic_loss(critic, torch.rand(4, *event), fake.detach()).backward()
        game.generator_loss(critic, torch.rand(4, *event), fake).backward()
        for player in (generator, critic):
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters())
    assert played


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("norm", CRITIC_NORMS)
@pytest.mark.parametrize("side", [8, 16, 32, 64])
@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_generators_make_events_and_critics_logits(network, side, norm, classes):
    event, pair = (3, side, side), with_norm(network, norm)
    generator, critic = pair.generator(event, 6, classes), pair.critic(event, classes)
    fake = generator(torch.randn(4, 6), *labels(4, classes))
    assert fake.shape == (4, *event)
    assert critic(fake, *labels(4, classes)).shape == (4,)
    if not network.startswith("mlp"):
        assert fake.abs().max() <= 1


@pytest.mark.parametrize("sides", [(128, 128), (256, 256), (24, 40), (64, 16), (28, 28), (10, 14)])
@pytest.mark.parametrize("network", ["dcgan:width=2", "resnet:width=2", "r3gan:width=16,group=4"])
def test_other_sides(network, sides):
    event, pair = (1, *sides), build("network", network)
    for classes in (0, 3):
        y = labels(2, classes)
        fake = pair.generator(event, 6, classes)(torch.randn(2, 6), *y)
        assert fake.shape == (2, *event)
        assert pair.critic(event, classes)(fake, *y).shape == (2,)


@pytest.mark.parametrize("event", [(1,), (2,), (15,), (2, 3), (1, 5, 7)])
def test_the_mlp_takes_every_event(event):
    fake = MLP(width=4, depth=0).generator(event, 2)(torch.randn(3, 2))
    assert fake.shape == (3, *event)
    assert MLP(width=4).critic(event)(fake).shape == (3,)


@pytest.mark.parametrize(
    "network",
    [
        MLP(),
        MLP(width=16, depth=4, activation="relu", init="torch"),
        MLP(norm="batch", critic_norm="spectral"),
        DCGAN(),
        DCGAN(32, "tanh", "tanh", "none", "none"),
        ResNet(),
        ResNet(8, "relu", "batch", "layer", 1.0),
        R3GAN(),
        R3GAN(64, 1, 8),
        Point(),
        Point(theta=0.5, psi=-2.0, condition=10.0),
    ],
)
def test_a_network_is_its_spelling(network):
    assert build("network", spec(network)) == network


def test_the_specs_of_the_papers():
    assert build("network", "mlp") == MLP(128, 2, "tanh", "none", "none", "truncated-normal")
    assert build("network", "mlp:width=16,depth=4,activation=relu,init=torch") == MLP(
        16, 4, "relu", init="torch"
    )
    assert build("network", "dcgan:norm=none,critic_norm=none") == DCGAN(
        norm="none", critic_norm="none"
    )
    assert build("network", "dcgan:activation=tanh,critic_activation=tanh") == DCGAN(
        activation="tanh", critic_activation="tanh"
    )


# Parameters


def test_parameters_of_dcgan_64():
    network, event = DCGAN(), (3, 64, 64)
    kernels = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    scales = 2 * (128 + 256 + 512)
    assert count_parameters(network.critic(event)) == kernels + scales + 64 + (512 * 16 + 1)
    assert (
        count_parameters(network.generator(event, 128))
        == 128 * 512 * 16 + kernels + 2 * (512 + 256 + 128 + 64) + 3
    )


def test_without_batch_normalisation_biases_take_the_place_of_its_scales_and_shifts():
    network, event = DCGAN(norm="none", critic_norm="none"), (3, 64, 64)
    assert (
        count_parameters(DCGAN().critic(event)) - count_parameters(network.critic(event))
        == 128 + 256 + 512
    )
    # The generator's first bias is one number for each of the 4x4 pixels, the scales and shifts of
    # its norm are shared by them.
    saved = 2 * (512 + 256 + 128 + 64) - (512 * 16 + 256 + 128 + 64)
    assert (
        count_parameters(DCGAN().generator(event, 128))
        - count_parameters(network.generator(event, 128))
        == saved
    )


def test_parameters_of_the_papers_mlp():
    hidden = 128 * 128 + 128
    assert count_parameters(MLP().generator((3,), 2)) == 3 * 128 + hidden + 129 * 3
    assert count_parameters(MLP().critic((3,))) == 4 * 128 + hidden + 129


def test_channels_of_the_stages():
    def channels(module, kind):
        return [layer.out_channels for layer in module.modules() if isinstance(layer, kind)]

    assert channels(DCGAN().critic((3, 32, 32)), nn.Conv2d) == [64, 128, 256]
    assert channels(DCGAN().generator((3, 64, 64), 8), nn.ConvTranspose2d) == [256, 128, 64, 3]
    blocks = [
        layer
        for layer in ResNet(width=2).critic((3, 128, 128)).modules()
        if isinstance(layer, Residual)
    ]
    assert [block.residual[-1].out_channels for block in blocks] == [2, 4, 8, 16, 32, 32]


def test_the_first_layer_of_a_critic_and_the_last_of_a_generator_are_not_normalised():
    critic, generator = (
        DCGAN(width=4).critic((3, 32, 32)).features,
        DCGAN(width=4).generator((3, 32, 32), 8).body,
    )
    assert [type(layer) for layer in critic[:4]] == [
        nn.Conv2d,
        nn.LeakyReLU,
        nn.Conv2d,
        nn.BatchNorm2d,
    ]
    assert [type(layer) for layer in generator[-3:]] == [nn.ReLU, nn.ConvTranspose2d, nn.Tanh]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in generator) == 3


# Initial weights


@pytest.mark.parametrize("norm", ["batch", "none", "layer", "spectral"])
def test_the_critic_of_an_mlp_sees_where_a_batch_lies(norm):
    torch.manual_seed(0)
    critic = build("network", f"mlp:width=16,norm=batch,critic_norm={norm}").critic((2,))
    x = torch.randn(64, 2)
    logits, moved = critic(x), critic(2 * x + torch.tensor([3.0, -1.0]))
    assert (moved - logits).abs().max() > 0.3 * logits.std()


@pytest.mark.parametrize("depth", [0, 1])
def test_batch_normalisation_has_a_layer_to_stand_in(depth):
    with pytest.raises(SteadyganError, match="take depth >= 2"):
        build("network", f"mlp:depth={depth},critic_norm=batch")
    assert build("network", f"mlp:depth={depth},norm=batch").generator((2,), latent=3)


def test_initial_weights_of_the_papers_mlp():
    layers = [
        layer for layer in MLP().generator((3,), 128).modules() if isinstance(layer, nn.Linear)
    ]
    weights = torch.cat([layer.weight.flatten() for layer in layers])
    # A normal cut at two standard deviations keeps 0.8796 of its own.
    assert weights.std().item() == pytest.approx(0.08796, rel=0.02)
    assert weights.abs().max() <= 0.2
    assert all((layer.bias == 0).all() for layer in layers)


def test_initial_weights_of_dcgan():
    critic = DCGAN(width=16).critic((3, 32, 32))
    assert critic.features[2].weight.std().item() == pytest.approx(0.02, rel=0.05)
    scales = torch.cat(
        [layer.weight for layer in critic.modules() if isinstance(layer, nn.BatchNorm2d)]
    )
    assert scales.mean().item() == pytest.approx(1.0, abs=0.01)
    assert 0.01 < scales.std().item() < 0.03


def test_the_shortcuts_of_a_resnet_have_no_gain():
    block = ResNet(width=16, activation="relu").critic((3, 16, 16)).features[-3]
    shortcut, inner = block.shortcut.weight, block.residual[-1].weight
    assert shortcut.std().item() == pytest.approx(shortcut[0].numel() ** -0.5, rel=0.05)
    assert inner.std().item() == pytest.approx(math.sqrt(2 / inner[0].numel()), rel=0.05)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gains_undo_the_activation(name):
    z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    second_moment = torch.trapezoid(activation(name)(z).square() * density, z)
    assert GAINS[name] == pytest.approx(second_moment.item() ** -0.5, rel=1e-4)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("network", ["dcgan:width=4", "dcgan:width=16", "resnet:width=4"])
def test_without_normalisation_the_signal_neither_dies_nor_explodes(network, side, name, classes):
    both = {"critic_activation": name} if network.startswith("dcgan") else {}
    pair, y = (
        settings(network, activation=name, norm="none", critic_norm="none", **both),
        labels(16, classes),
    )
    with torch.no_grad():
        fake = pair.generator((3, side, side), 32, classes)(torch.randn(16, 32), *y)
        critic = pair.critic((3, side, side), classes)
        assert 0.1 < fake.std(0).mean() < 0.9
        for x in (smooth_images(16, side), fake):
            assert 0.03 < critic(x, *y).std() < 3


def test_the_weights_of_a_dcgan_start_with_the_spread_that_was_asked_for():
    network = DCGAN(width=16, norm="none", critic_norm="none", weight_std=0.04)
    for module in (network.generator((3, 32, 32), latent=128), network.critic((3, 32, 32))):
        for layer in (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)):
            assert layer.weight.std().item() == pytest.approx(0.04, rel=0.08)
    with pytest.raises(SteadyganError, match="weight_std must be a finite number > 0"):
        build("network", "dcgan:weight_std=0")


def test_a_critic_that_nothing_normalises_is_not_initialised_as_if_it_were():
    # At side 8 the only convolution is the first, which has no norm: under std 0.02 the logits
    # would differ by hundredths.
    assert DCGAN(width=8).critic((3, 8, 8))(smooth_images(64, 8)).std() > 0.05


def test_initial_weights_come_from_the_global_generator():
    def draw():
        torch.manual_seed(3)
        return torch.nn.utils.parameters_to_vector(
            DCGAN(width=2).critic((3, 16, 16), 2).parameters()
        )

    assert torch.equal(draw(), draw())


# What the layers do


@pytest.mark.parametrize("after", [4, 8])
def test_at_scale_zero_a_block_is_its_shortcut(after):
    x = torch.randn(2, 4, 8, 8)
    block = Residual(4, after, "none", "relu", 0.0)
    assert torch.equal(block(x), x if after == 4 else F.conv2d(x, block.shortcut.weight))


def test_a_block_adds_the_scaled_residual():
    x, block = torch.randn(2, 4, 8, 8), Residual(4, 4, "none", "leaky-relu", 0.1)
    first, second = block.residual[1], block.residual[3]
    torch.testing.assert_close(
        block(x), x + 0.1 * second(F.leaky_relu(first(F.leaky_relu(x, 0.2)), 0.2))
    )


@pytest.mark.parametrize("norm", CRITIC_NORMS)
@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_only_batch_normalisation_lets_samples_see_each_other(network, norm):
    critic = settings(network, critic_norm=norm).critic((3, 16, 16)).double()
    one, two = torch.randn(4, 3, 16, 16).double(), 1 + 2 * torch.randn(4, 3, 16, 16).double()
    if norm == "spectral":
        # In training mode every pass iterates once towards the singular vectors, which would tell
        # the passes apart.
        critic.eval()
    joined, separate = critic(torch.cat([one, two])), torch.cat([critic(one), critic(two)])
    assert torch.allclose(joined, separate, rtol=1e-9, atol=1e-12) == (norm != "batch")


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_spectral_critics_have_weights_of_norm_one(network):
    critic, y = settings(network, critic_norm="spectral").critic((3, 16, 16), 3), labels(2, 3)
    for _ in range(30):
        critic(torch.randn(2, 3, 16, 16), *labels(2, 3))
    critic(torch.randn(2, 3, 16, 16), *y)
    weighted = [layer for layer in critic.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weighted) >= 4 and critic.class_heads in weighted
    for layer in weighted:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(
            1, rel=0.05
        )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_gradient_penalties_have_finite_gradients(network, name):
    key = "critic_activation" if network.startswith("dcgan") else "activation"
    critic = settings(network, critic_norm="none", **{key: name}).critic((3, 8, 8))
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = slope.square().flatten(1).sum(1).mean()
    weights = [
        layer.weight for layer in critic.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    for gradient in torch.autograd.grad(penalty, weights):
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_inputs_are_left_as_they_are(network):
    pair, z, x = build("network", network), torch.randn(4, 6), torch.randn(4, 3, 16, 16)
    z_before, x_before = z.clone(), x.clone()
    pair.generator((3, 16, 16), 6)(z), pair.critic((3, 16, 16))(x)
    assert torch.equal(z, z_before) and torch.equal(x, x_before)


@pytest.mark.parametrize("norm", CRITIC_NORMS)
@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_networks_can_be_copied(network, norm):
    critic, x = (
        settings(network, critic_norm=norm).critic((3, 16, 16)).eval(),
        torch.randn(2, 3, 16, 16),
    )
    assert torch.equal(copy.deepcopy(critic)(x), critic(x))


@pytest.mark.parametrize("network", ["mlp:width=8", "point"])
def test_many_critics_run_under_vmap(network):
    critics = [build("network", network).critic((3,)) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(critics)
    x = torch.randn(3, 5, 3)
    logits = torch.func.vmap(lambda p, b, x: torch.func.functional_call(critics[0], (p, b), (x,)))(
        parameters, buffers, x
    )
    torch.testing.assert_close(
        logits, torch.stack([critic(x[i]) for i, critic in enumerate(critics)])
    )


# Classes


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_the_critic_projects_on_the_class(network):
    critic, x = (
        build("network", network).critic((3, 16, 16), 3).eval().double(),
        torch.randn(4, 3, 16, 16).double(),
    )
    of = [critic(x, torch.full((4,), y)) for y in range(3)]
    h, e = critic.features(x), critic.class_heads.weight
    torch.testing.assert_close(of[1] - of[2], h @ (e[1] - e[2]))
    torch.testing.assert_close(of[0], critic.head(h).squeeze(1) + h @ e[0])
    assert (of[1] - of[2]).abs().min() > 0


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_the_generator_follows_the_class(network):
    generator, z = build("network", network).generator((3, 16, 16), 6, 3).eval(), torch.randn(4, 6)
    one, two = (
        generator(z, torch.zeros(4, dtype=torch.int64)),
        generator(z, torch.ones(4, dtype=torch.int64)),
    )
    assert (one - two).abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_the_class_is_as_long_as_one_latent_whatever_its_embedding_learns(network):
    generator, seen = build("network", network).generator((3, 16, 16), 6, 3), []
    generator.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z, y = torch.randn(4, 6), torch.tensor([2, 0, 1, 2])
    generator(z, y)
    with torch.no_grad():
        generator.class_embedding.weight *= 50
    generator(z, y)
    torch.testing.assert_close(seen[0], seen[1])
    assert torch.equal(seen[0][:, :6], z)
    torch.testing.assert_close(seen[0][:, 6:].norm(dim=1), torch.ones(4))
    assert torch.equal(seen[0][0, 6:], seen[0][3, 6:])
    assert not torch.equal(seen[0][0, 6:], seen[0][1, 6:])


@pytest.mark.parametrize(
    "network", ["dcgan:width=4,critic_norm=none", "resnet:width=2", "r3gan:width=8"]
)
def test_the_penalty_of_a_conditional_critic_is_as_cheap_as_without_classes(network):
    critic, x = build("network", network).critic((3, 8, 8), 3), torch.randn(4, 3, 8, 8)
    labels = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 0, 2])
    found = critic_backward(Game("minimax", "js:gamma=2"), critic, x, x.flip(0), labels=labels)
    assert found.path == "merged"


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_checkpoints_of_drowned_latents_are_refused(norm):
    pair = settings("mlp:width=4", critic_norm=norm)
    for network, old in (
        (pair.generator((3,), 2, 4), "embedding.weight"),
        (pair.critic((3,), 4), "embedding.weight"),
        (pair.critic((3,), 4), "embedding.parametrizations.weight.original"),
    ):
        state = {k: v for k, v in network.state_dict().items() if not k.startswith("class_")}
        with pytest.raises(SteadyganError, match=r"one image a class.*train the run anew"):
            network.load_state_dict(state | {old: torch.zeros(4, 2)})
        network.load_state_dict(network.state_dict())


def test_labels_that_do_not_fit_the_network_are_refused():
    plain, conditional = MLP(width=4), MLP(width=4)
    y = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(SteadyganError, match="no classes"):
        plain.critic((3,))(torch.randn(2, 3), y)
    with pytest.raises(SteadyganError, match=r"conditional.*G\(z, y\)"):
        conditional.generator((3,), 2, 4)(torch.randn(2, 2))
    with pytest.raises(SteadyganError, match=r"conditional.*D\(x, y\)"):
        conditional.critic((3,), 4)(torch.randn(2, 3))
    for wrong in (torch.tensor([0, 4]), torch.tensor([0, -1])):
        with pytest.raises(IndexError):
            conditional.critic((3,), 4)(torch.randn(2, 3), wrong)


# R3GAN


@pytest.mark.parametrize(
    ("network", "side", "generator", "critic"),
    [  # of the published configurations, as their own code counts
        (R3GAN(), 32, 20_732_160, 20_683_776),  # CIFAR-10
        (R3GAN(), 64, 22_429_824, 22_381_440),  # FFHQ-64
        (R3GAN(), 256, 23_057_952, 23_009_568),  # FFHQ-256
        (R3GAN(width=1536, group=32), 32, 82_752_000, 82_655_232),  # ImageNet-32
    ],
)
def test_parameters_of_r3gan(network, side, generator, critic):
    with torch.device("meta"):
        assert count_parameters(network.generator((3, side, side), 64)) == generator
        assert count_parameters(network.critic((3, side, side))) == critic


def test_a_bottleneck_starts_as_the_identity_and_inside_at_the_scale_of_fixup():
    block, x = Bottleneck(64, group=16, total=16), torch.randn(2, 64, 6, 6)
    assert torch.equal(block(x), x)
    for layer in (block.residual[0], block.residual[2]):
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(
            math.sqrt(2 / 1.04 / fan_in) / 2, rel=0.05
        )
    assert block.residual[2].weight.shape == (128, 16, 3, 3)
    with torch.no_grad():
        block.residual[4].weight.normal_()
    first, middle, last = block.residual[0], block.residual[2], block.residual[4]
    inside = F.leaky_relu(middle(F.leaky_relu(first(x), 0.2)), 0.2)
    torch.testing.assert_close(block(x), x + F.conv2d(inside, last.weight))


def test_resampling_is_linear_interpolation_and_its_adjoint():
    up, down = Resample(2, up=True), Resample(2, up=False)
    x, y = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 8, 10)
    linear = F.interpolate(x, scale_factor=2, mode="bilinear")
    inner = slice(1, -1)  # beyond the edges there are zeros, where interpolate repeats
    torch.testing.assert_close(up(x)[..., inner, inner], linear[..., inner, inner])
    torch.testing.assert_close((up(x) * y).sum(), 4 * (x * down(y)).sum())
    assert not list(up.parameters()) and not up.state_dict()


def test_groups_that_do_not_divide_a_stage_are_refused():
    R3GAN(width=8).critic((3, 32, 32))
    for width, side in ((12, 32), (8, 64)):
        with pytest.raises(SteadyganError, match=r"take a width that (8|16) divides"):
            R3GAN(width=width).critic((3, side, side))


# The point


def test_the_point_game():
    network = Point(theta=0.5, psi=-2.0, condition=9.0)
    generator, critic = network.generator((3,), 4), network.critic((3,))
    x, a = torch.randn(5, 3), torch.diag(torch.tensor([1.0, 1 / 3, 1 / 9]))
    torch.testing.assert_close(critic(x), x @ a @ torch.full((3,), -2.0))
    assert torch.equal(generator(torch.randn(5, 4)), torch.full((5, 3), 0.5))
    assert dict(generator.named_parameters()).keys() == {"theta"}
    assert dict(critic.named_parameters()).keys() == {"psi"}
    assert list(critic.state_dict()) == ["psi", "scales"]
    (gradient,) = torch.autograd.grad(generator(torch.randn(5, 4)).mean(0).sum(), generator.theta)
    torch.testing.assert_close(gradient, torch.ones(3))


def test_one_dimension_is_the_dirac_gan():
    critic, x = Point(psi=0.7).critic((1,)), torch.randn(4, 1)
    torch.testing.assert_close(critic(x), 0.7 * x[:, 0])


# Errors


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("mlp:width=0", "width must be a whole number >= 1"),
        ("mlp:depth=-1", "depth"),
        ("mlp:activation=gelu", "Unknown value 'gelu'"),
        ("mlp:width=1,critic_norm=layer", "constant"),
        ("mlp:norm=spectral", "none, batch, layer|nearest"),
        ("dcgan:width=0", "width"),
        ("dcgan:width=1.5", "whole number"),
        ("resnet:width=-1", "width"),
        ("resnet:residual_scale=-0.1", "residual_scale"),
        ("resnet:residual_scale=nan", "residual_scale"),
        ("r3gan:width=0", "width"),
        ("r3gan:depth=0", "depth"),
        ("r3gan:group=0.5", "group"),
        ("point:condition=0.5", "condition"),
        ("point:theta=inf", "theta"),
    ],
)
def test_settings_that_are_refused(network, reason):
    with pytest.raises(SteadyganError, match=reason):
        build("network", network)


@pytest.mark.parametrize("cls", [MLP, DCGAN, ResNet])
def test_choices_are_checked_from_python_too(cls):
    for field in dataclasses.fields(cls):
        if isinstance(field.default, str):
            with pytest.raises(SteadyganError, match=f"Unknown {field.name} 'nonsense'"):
                cls(**{field.name: "nonsense"})
    with pytest.raises(SteadyganError, match="width"):
        cls(width=True)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ((3, 4, 4), "sides of 8 to 256"),
        ((3, 512, 256), "sides of 8 to 256"),
        ((64,), "sides of 8 to 256"),
        ((1, 3, 32, 32), "sides of 8 to 256"),
        ((3, 100, 100), "multiples of 16, such as 96 x 96"),
        ((3, 48, 36), "multiples of 8, such as 48 x 32"),
    ],
)
@pytest.mark.parametrize("cls", [DCGAN, ResNet, R3GAN])
def test_images_that_are_refused(cls, event, reason):
    for make in (lambda: cls().critic(event), lambda: cls().generator(event, 8)):
        with pytest.raises(SteadyganError, match=reason):
            make()


@pytest.mark.parametrize("network", [MLP(), DCGAN(), ResNet(), R3GAN()])
def test_sizes_that_are_refused(network):
    for make, reason in [
        (lambda: network.generator((3, 8, 8), 0), "latent"),
        (lambda: network.generator((3, 8, 8), 4, -1), "classes"),
        (lambda: network.critic((3, 8, 8), -1), "classes"),
        (lambda: network.critic(()), "event"),
        (lambda: network.critic((0, 8, 8)), "event"),
    ]:
        with pytest.raises(SteadyganError, match=reason):
            make()


@pytest.mark.parametrize(
    ("network", "event", "classes", "reason"),
    [
        (Point(), (3, 8, 8), 0, "vectors"),
        (Point(), (2,), 3, "conditional"),
        (Point(condition=2.0), (1,), 0, "one dimension"),
    ],
)
def test_what_the_point_cannot_play(network, event, classes, reason):
    for make in (
        lambda: network.critic(event, classes),
        lambda: network.generator(event, 1, classes),
    ):
        with pytest.raises(SteadyganError, match=reason):
            make()


def test_inputs_of_another_shape_are_refused():
    with pytest.raises(SteadyganError, match=r"\(B, 3, 16, 16\), not \(2, 3, 32, 32\)"):
        DCGAN(width=2).critic((3, 16, 16))(torch.randn(2, 3, 32, 32))
    with pytest.raises(SteadyganError, match=r"latents of shape \(B, 4\)"):
        MLP(width=2).generator((3,), 4)(torch.randn(2, 5))
