"""A generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661): samples, and no likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal
from models.layer import NO_LIKELIHOOD, Chain, Likelihood, Model
from models.nets.mlp import MLP
from models.preprocessing import preprocessing
from models.registry import DataSpec, register


class GAN(Model):
    """Non-saturating game with the R1 penalty (Mescheder et al. 2018, arXiv 1801.04406, eq. 9):

        L_D = E softplus(-D(x)) + E softplus(D(G(z))) + γ/2 E ||∇D(x)||²,    L_G = E softplus(-D(G(z))).

    ``loss`` is L_D + L_G with the opponent's parameters cut out of each part, so that one optimiser plays both
    sides: the gradient of each network is that of its own loss. The game is played behind ``preprocessing``
    (a chain: dequantization, standardization), whose decoder brings samples to the data's own scale.
    """

    def __init__(
        self, preprocessing: Chain, generator: nn.Module, discriminator: nn.Module, noise: nn.Module, penalty: float
    ) -> None:
        super().__init__()
        if penalty < 0:
            raise ValueError(f"penalty is {penalty}; it takes 0, which is none, or more")
        self.preprocessing, self.noise, self.penalty = preprocessing, noise, penalty
        self.generator, self.discriminator = generator, discriminator

    @property
    def likelihood(self) -> Likelihood:
        return NO_LIKELIHOOD

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        return self.preprocessing.decode(self.generator(self.noise.sample(n)))[0]

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        real = self.preprocessing.encode(x)[0]
        fake = self.generator(self.noise.sample(x.shape[0]))
        return self.discriminator_loss(real, fake.detach()) + self.generator_loss(fake)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        with torch.enable_grad():  # the penalty is a gradient also where nothing is trained
            real = real.detach().requires_grad_()
            score = self.discriminator(real)
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        game = F.softplus(-score).mean() + F.softplus(self.discriminator(fake)).mean()
        return game + self.penalty / 2 * slope.square().flatten(1).sum(1).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return F.softplus(-torch.func.functional_call(self.discriminator, frozen, (fake,))).mean()


@register("gan")
def gan(spec: DataSpec, *, latent: int = 2, hidden: Sequence[int] = (128, 128), penalty: float = 0.5) -> Model:
    """MLPs on both sides; ``penalty`` is γ."""
    generator = nn.Sequential(MLP(latent, hidden, spec.dim), nn.Unflatten(1, spec.shape))
    discriminator = nn.Sequential(nn.Flatten(), MLP(spec.dim, hidden, 1))
    return GAN(Chain(preprocessing(spec)), generator, discriminator, StandardNormal((latent,)), penalty)
