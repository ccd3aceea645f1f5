"""Nonsense in a recipe's ``model`` section: one line that says what the value is and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch

from models.hyperparameters import check
from models.registry import DataSpec, build, families

VECTOR, NUMBER, IMAGE = DataSpec((3,)), DataSpec((1,)), DataSpec((1, 8, 8), levels=16)
ENERGY = DataSpec((3,), energy=torch.nn.Identity())


def constructor(
    spec: DataSpec,
    *,
    layers: int = 2,
    frequencies: int = 0,
    rank: int | None = None,
    hidden: Sequence[int] = (8,),
    noise: Sequence[float] = (0.1, 0.1),
    bound: float = 3.0,
    norm: bool = True,
    units: str | Callable = "relu",
    kind: Literal["a", "b"] = "a",
) -> None: ...


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("layers", 0, "a whole number, at least 1"),
        ("layers", 1.5, "a whole number, at least 1"),
        ("layers", True, "a whole number, at least 1"),
        ("layers", None, "a whole number, at least 1"),
        ("frequencies", -1, "a whole number, at least 0"),
        ("rank", 0, "a whole number, at least 1 or null"),
        ("hidden", 64, "a list"),
        ("hidden", [64, 0], "a list, each of them a whole number, at least 1"),
        ("noise", [0.1, "x"], "a list, each of them a finite number"),
        ("bound", float("nan"), "a finite number"),
        ("bound", float("inf"), "a finite number"),
        ("bound", "3", "a finite number"),
        ("norm", "yes", "true or false"),
    ],
)
def test_a_value_that_its_annotation_excludes(name: str, value: object, wanted: str) -> None:
    with pytest.raises(ValueError) as error:
        check(constructor, {name: value})
    assert str(error.value) == f"{name} is {value!r}; it takes {wanted}"


def test_what_annotations_allow() -> None:
    fitting = {"layers": 1, "frequencies": 0, "hidden": [], "noise": [1, 0.5], "bound": -2, "norm": False}
    for rank in (None, 4):
        check(constructor, fitting | {"rank": rank, "units": torch.nn.Tanh, "kind": "what the constructor checks"})


def test_the_defaults_of_every_family_pass() -> None:
    for make in families().values():
        check(make, make.__kwdefaults__ or {})


@pytest.mark.parametrize(
    ("family", "spec", "wrong", "message"),
    [
        ("abs-flow", VECTOR, {"bound": 0.0}, "bound is 0.0"),
        ("nsf", VECTOR, {"bound": 0.0}, "bound is 0.0"),
        ("signed-abs-flow", VECTOR, {"bound": -1.0}, "bound is -1.0"),
        ("ffjord", VECTOR, {"rtol": 0.0}, "rtol is 0.0 and atol is 1e-05; a solver's tolerances are positive"),
        ("flow-matching", VECTOR, {"sigma": 1.0}, "sigma is 1.0"),
        ("flow-matching", IMAGE, {"widths": []}, "widths is empty"),
        ("score-sde-vp", VECTOR, {"beta_max": 0.1}, "beta_min is 0.1 and beta_max is 0.1"),
        ("score-sde-vp", VECTOR, {"eps": 1.0}, "eps is 1.0"),
        ("score-sde-vp", VECTOR, {"snr": 0.0}, "snr is 0.0"),
        ("ddpm", VECTOR, {"steps": 5, "sampling_steps": 6}, "sampling_steps is 6; this chain takes 1 to 5"),
        ("gan", VECTOR, {"penalty": -1.0}, "penalty is -1.0"),
        ("snf", ENERGY, {"energy_weight": 1.5}, "energy_weight is 1.5"),
        ("snf", ENERGY, {"warmup": -0.5}, "warmup is -0.5"),
        ("snf", ENERGY, {"stochastic": "underdamped", "friction": -1.0}, "friction is -1.0"),
        ("glow", IMAGE, {"alpha": 0.5}, "alpha is 0.5"),
        ("realnvp", VECTOR, {"squash": "logit"}, "these are real numbers"),
        ("nsf", VECTOR, {"dropout": 1.0}, "dropout is 1.0"),
        (
            "nsf",
            VECTOR,
            {"conditioner": "coupling", "hidden": []},
            r"hidden is \[\]; a residual network takes one width",
        ),
        ("trade", VECTOR, {"dropout": 1.0}, "dropout is 1.0"),
        ("vae", VECTOR, {"decoder": "gaussian"}, "decoder is 'gaussian'"),
        ("pixelcnn", IMAGE, {"first": 2}, "first is 2"),
    ],
)
def test_a_value_that_makes_no_model(family: str, spec: DataSpec, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(family, spec, **wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["nice", "realnvp", "glow-tabular", "snf", "abs-flow", "sort-flow"])
def test_couplings_need_two_columns(family: str) -> None:
    with pytest.raises(ValueError, match="vectors of two values or more"):
        build(family, DataSpec((1,), energy=torch.nn.Identity()))


def test_so_do_splines_between_couplings() -> None:
    with pytest.raises(ValueError, match="a coupling takes vectors of two values or more, not of 1"):
        build("nsf", NUMBER, conditioner="coupling", hidden=[4])


SMALL = {
    "block-naf": {"flows": 1, "hidden": 2},
    "gaussianization": {"layers": 1, "anchors": 3},
    "i-resnet": {"blocks": 1, "hidden": [4]},
    "made": {"hidden": [4]},
    "maf": {"layers": 1, "hidden": [4]},
    "naf": {"flows": 1, "hidden": [4]},
    "nsf": {"steps": 1, "hidden": [4]},
    "planar": {"flows": 1},
    "radial": {"flows": 1},
    "sylvester": {"flows": 1},
    "tan": {"blocks": 1, "hidden": 4, "components": 2},
    "trade": {"width": 4, "layers": 1, "components": 2},
}


@pytest.mark.parametrize("family", SMALL)
def test_one_column_is_a_density_on_the_line(family: str) -> None:
    torch.manual_seed(0)
    model = build(family, NUMBER, **SMALL[family])
    model.train().loss(torch.randn(50, 1))  # what starts from the first batch
    line = torch.linspace(-60, 60, 40_001)[:, None]
    with torch.no_grad():
        mass = torch.trapezoid(model.eval().log_prob(line).double().exp(), line[:, 0].double())
    assert float(mass) == pytest.approx(1, abs=1e-3)
