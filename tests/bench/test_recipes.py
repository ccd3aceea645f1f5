"""Recipes and configuration: what a user can get wrong is one line with the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bench import config as configuration
from bench import recipes
from bench.datasets import describe, names
from bench.errors import UserError
from bench.paths import ROOT
from bench.speed.fidelity import TWINS
from models.registry import DataSpec, build, families

MINIMAL = "row: R\ngroup: baseline\nfamily: gaussian\nsource: s\n"


def load(tmp_path: Path, **files: str) -> dict[str, recipes.Recipe]:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return recipes.recipes(tmp_path)


def test_a_misspelt_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipes/a.yaml: unknown key 'famly'; did you mean 'family'\?"):
        load(tmp_path, a=MINIMAL + "famly: x\n")


def test_a_misspelt_training_key_names_file_and_place(tmp_path: Path) -> None:
    text = MINIMAL + "tiers: {quick: {datasets: {checkerboard: {training: {stepz: 3}}}}}\n"
    with pytest.raises(
        UserError,
        match=r"recipes/a.yaml: tiers.quick.datasets.checkerboard.training: unknown key 'stepz'; did you mean 'steps'",
    ):
        load(tmp_path, a=text)


def test_extends_inherits_settings_but_not_cells(tmp_path: Path) -> None:
    parent = MINIMAL + (
        "model: {width: 1, depth: 2}\npublished: {power: {value: 1, unit: nats, source: s}}\n"
        "tiers: {quick: {training: {steps: 9}, datasets: {rings: {}, corners: {model: {width: 5}}}}}\n"
    )
    child = "extends: parent\nrow: Child\nmodel: {width: 3}\ntiers: {quick: {datasets: {corners: {}}}}\n"
    found = load(tmp_path, parent=parent, child=child)["child"]
    assert found.row == "Child"
    assert found.content["model"] == {"width": 3, "depth": 2}
    assert found.tiers["quick"]["training"] == {"steps": 9}
    assert found.tiers["quick"]["datasets"] == {"corners": {"model": {"width": 5}}}
    assert found.published == {}


def test_extending_in_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="break the circle"):
        load(tmp_path, a="extends: b\n" + MINIMAL, b="extends: a\n" + MINIMAL)


def test_every_shipped_recipe_names_a_registered_family_and_known_hyperparameters() -> None:
    import inspect

    known = families()
    for found in recipes.recipes().values():
        assert found.family in known, found.id
        accepted = inspect.signature(known[found.family]).parameters
        for tier in found.tiers:
            for dataset in found.tiers[tier]["datasets"]:
                section = configuration.Tier(tier, tier, (0,))
                for name in recipes.cell(found.id, dataset, section).model:
                    assert name in accepted, f"{found.id} on {dataset}: {name}"


def test_unknown_tier_row_and_cell() -> None:
    with pytest.raises(UserError, match=r"unknown tier 'quik'; did you mean 'quick'\?"):
        configuration.load({"tier": "quik"})
    with pytest.raises(UserError, match=r"unknown row 'realnpv'; did you mean 'realnvp'\?"):
        recipes.recipe("realnpv")
    with pytest.raises(UserError, match="has no cell on 'mnist' in tier 'quick'"):
        recipes.cell("realnvp", "mnist", configuration.load_tier("quick"))


def test_unknown_configuration_key_and_wrong_type() -> None:
    with pytest.raises(UserError, match=r"configuration: unknown key 'mirorr'; did you mean 'mirror'\?"):
        configuration.load({"mirorr": "x"})
    with pytest.raises(UserError, match="configuration: device: 'gpu' is not one of"):
        configuration.load({"device": "gpu"})


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        configuration.load({"mirror": str(tmp_path / "nowhere")})


def test_the_tier_overrides_the_recipe() -> None:
    tier = configuration.Tier("t", "quick", (0,), training={"steps": 7})
    found = recipes.cell("realnvp", "checkerboard", tier)
    assert found.training["steps"] == 7


def test_results_that_nothing_calls_for_any_more_are_left_out() -> None:
    def called_for(row: str, dataset: str, seed: int) -> bool:
        return recipes.called_for(
            {"run": {"row": row, "dataset": dataset, "seed": seed}}, configuration.load_tier("quick")
        )

    assert called_for("realnvp", "checkerboard", 0)
    assert not called_for("realnvp", "checkerboard", 7)
    assert not called_for("realnvp", "mnist", 0)
    assert not called_for("removed", "checkerboard", 0)


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["quick", "paper"])
def test_every_cell_of_every_recipe_builds_for_its_data(tier: str) -> None:
    for name, recipe in recipes.recipes().items():
        for dataset in recipe.tiers.get(tier, {}).get("datasets", {}):
            info, found = describe(dataset), recipes.cell(name, dataset, configuration.load_tier(tier))
            scalar, vector = (torch.tensor(0.5), torch.full(info.shape, 0.5))
            moments = {"mean": scalar, "std": scalar} if info.levels else {"mean": vector, "std": vector}
            energy = getattr(info.density() if info.density else None, "energy", None)
            model = build(
                recipe.family, DataSpec(info.shape, levels=info.levels, energy=energy, **moments), **found.model
            )
            assert any(True for _ in model.parameters()), f"{name} on {dataset}"


def test_a_set_without_a_column_has_the_cells_of_the_whole(tmp_path: Path) -> None:
    tiers = "tiers: {{quick: {{datasets: {{miniboone: {{training: {{steps: 3}}}}, {other}: {{}}}}}}}}\n"
    part = "miniboone-without-column-4"
    found = load(tmp_path, a=MINIMAL + tiers.format(other="digits"), b=MINIMAL + tiers.format(other=part))
    cells = {name: recipe.tiers["quick"]["datasets"] for name, recipe in found.items()}
    assert cells["a"] == {"miniboone": {"training": {"steps": 3}}, part: {"training": {"steps": 3}}, "digits": {}}
    assert cells["b"][part] == {}, "settings of its own"


TABULAR = [name for name in names() if describe(name).kind == "tabular"]


def test_every_tabular_row_says_what_it_is_held_against() -> None:
    for found in recipes.recipes().values():
        datasets = {name for tier in found.tiers.values() for name in tier["datasets"]} | set(found.published)
        assert found.oracle or not datasets & set(TABULAR), f"{found.id} has tabular cells and no oracle"


@pytest.mark.parametrize("row", [found.id for found in recipes.recipes().values() if found.oracle])
def test_a_row_is_held_where_its_oracle_says(row: str) -> None:
    """In files of tests that import the peer, and by the weights that ``relaxbench speed ROW --check`` copies."""
    for peer, where in recipes.recipe(row).oracle.items():
        files = [(ROOT / name).read_text() for name in re.findall(r"tests/\S+?\.py", where)]
        twins = re.findall(r"relaxbench speed (\S+) --check", where)
        assert files or twins
        assert all(peer in TWINS[name] for name in twins)
        if peer != "none":
            imported = rf"(import|from) {peer}\b|importorskip\(\"{peer}\b"
            assert all(re.search(imported, text) for text in files), f"{row}: {peer}"
            optional = any(f'importorskip("{peer}' in text for text in files)
            assert optional == ("only where it is installed" in where), f"{row}: {peer}"


def test_an_oracle_is_one_of_those_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recipes/a.yaml: oracle: 'zukko' is not one of"):
        load(tmp_path, a=MINIMAL + "oracle: {zukko: tests/x.py}\n")


@pytest.mark.parametrize("row", ["diffflow", "flow-matching"])
@pytest.mark.parametrize("tier", ["quick", "paper"])
def test_relaxations_have_cells_on_tabular_data(row: str, tier: str) -> None:
    embedded = {"breast-cancer", "photo-patches", "bsds300", "miniboone"}
    published = {"power", "gas", "hepmass", "miniboone", "bsds300"}
    assert (embedded if tier == "quick" else published) <= set(recipes.recipe(row).tiers[tier]["datasets"])
