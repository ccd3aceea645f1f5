"""The GAN's one loss for two players."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.adversarial.gan import GAN, gan
from models.base import StandardNormal
from models.layer import NO_LIKELIHOOD, Chain
from models.registry import DataSpec

pytestmark = pytest.mark.usefixtures("float64")


def player(penalty: float = 0.3) -> GAN:
    return gan(DataSpec((3,)), hidden=[8], penalty=penalty)


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)


def separate_losses(model: GAN, x: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """L_D and L_G as written, with nothing cut out."""
    real = x.clone().requires_grad_()
    score = model.discriminator(real)
    slope = torch.autograd.grad(score.sum(), real, create_graph=True)[0]
    penalty = model.penalty / 2 * slope.square().sum(1).mean()
    fooled = model.discriminator(fake)
    return F.softplus(-score).mean() + F.softplus(fooled).mean() + penalty, F.softplus(-fooled).mean()


def test_each_network_gets_the_gradient_of_its_own_loss() -> None:
    model, x = player(), torch.randn(10, 3)
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    fake = model.generator(model.noise.sample(10))
    of_discriminator, of_generator = separate_losses(model, x, fake)
    torch.testing.assert_close(loss, of_discriminator + of_generator)
    for network, own in ((model.discriminator, of_discriminator), (model.generator, of_generator)):
        torch.testing.assert_close(gradients(loss, network), gradients(own, network))


def test_each_part_reaches_one_network_only() -> None:
    model, x = player(), torch.randn(10, 3)
    fake = model.generator(model.noise.sample(10))
    parts = (model.discriminator_loss(x, fake.detach()), model.generator_loss(fake))
    for part, opponent in zip(parts, (model.generator, model.discriminator), strict=True):
        assert all(
            g is None
            for g in torch.autograd.grad(part, list(opponent.parameters()), allow_unused=True, retain_graph=True)
        )


def test_the_penalty_of_a_linear_discriminator_is_its_squared_slope() -> None:
    """R1 of D(x) = <w, x> + b is γ/2 ||w||²."""
    discriminator = nn.Linear(3, 1)
    pair = [GAN(Chain([]), nn.Linear(2, 3), discriminator, StandardNormal((2,)), γ) for γ in (0.0, 0.5)]
    real, fake = torch.randn(6, 3), torch.randn(6, 3)
    without, with_ = (model.discriminator_loss(real, fake) for model in pair)
    torch.testing.assert_close(with_ - without, 0.25 * discriminator.weight.square().sum())


def test_the_loss_can_be_looked_at_without_gradients() -> None:
    model, x = player(), torch.randn(10, 3)
    torch.manual_seed(1)
    expected = model.loss(x)
    torch.manual_seed(1)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(x), expected.detach())


def test_samples_are_on_the_scale_of_the_data() -> None:
    spec = DataSpec((2,), mean=torch.tensor([50.0, -20.0]), std=torch.tensor([2.0, 0.1]))
    model = gan(spec, hidden=[8])
    inside = (model.sample(500).detach() - spec.mean) / spec.std
    assert inside.abs().max() < 20
    images = gan(DataSpec((1, 4, 4), 7, torch.tensor(0.4), torch.tensor(0.3)), hidden=[8]).sample(50)
    assert images.shape == (50, 1, 4, 4)
    assert set(images.unique().tolist()) <= set(range(7))
    assert len(images.unique()) > 2


def test_there_is_no_likelihood() -> None:
    model = player()
    assert model.likelihood == NO_LIKELIHOOD
    assert model.estimators() == []
    with pytest.raises(NotImplementedError):
        model.log_prob(torch.zeros(1, 3))
