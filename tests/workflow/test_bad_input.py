"""What a user can get wrong before the first job: one line, exit code 2, nothing written."""

from __future__ import annotations

import pytest

from tests.workflow.conftest import complaint

SETTINGS = {
    "unknown key": ({"teir": "quick"}, "unknown key 'teir'; did you mean 'tier'?"),
    "unknown tier": ({"tier": "quik"}, "unknown tier 'quik'; did you mean 'quick'?"),
    "wrong type": ({"network": "maybe"}, "network: 'maybe' is not of type 'boolean'"),
    "no seeds": ({"seeds": 0}, "seeds: 0 is less than the minimum of 1"),
    "no mirror": ({"mirror": "/no/such/folder"}, "there is no folder /no/such/folder"),
    "unknown device": ({"device": "gpu"}, "device: 'gpu' is not one of"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(workspace, case):
    settings, expected = SETTINGS[case]
    assert expected in complaint(workspace.snakemake(**settings))
    assert workspace.files() == []


def test_cuda_without_a_gpu(workspace, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "no GPU" in complaint(workspace.snakemake(device="cuda"))
    assert workspace.files() == []


def test_paper_tier_without_a_source_of_data(workspace):
    line = complaint(workspace.snakemake(tier="paper"))
    assert "https://" in line and "mirror=FOLDER" in line and "network=true" in line
    assert workspace.files() == []


RECIPES = {
    "not YAML": ("row: [", "realnvp.yaml: line"),
    "unknown key": ("rwo: RealNVP", "unknown key 'rwo'; did you mean 'row'?"),
    "unknown family": ("family: realnvq", "unknown family 'realnvq'; did you mean 'realnvp'?"),
    "unknown data set": (
        "tiers: {quick: {datasets: {digitz: {}}}}",
        "unknown data set 'digitz'; did you mean 'digits'?",
    ),
    "unknown setting": ("training: {stps: 3}", "unknown key 'stps'; did you mean 'steps'?"),
    "unknown hyperparameter": ("model: {coupling: 3}", "unknown hyperparameter 'coupling'; did you mean 'couplings'?"),
    "extends nothing": ("extends: realnvq", "unknown recipe 'realnvq'; did you mean 'realnvp'?"),
}
VALID = {
    "row": "RealNVP",
    "group": "normalizing flow",
    "family": "realnvp",
    "source": "a test",
    "training": {"steps": 10},
    "tiers": {"quick": {"datasets": {"checkerboard": {}}}},
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(copied, case):
    import yaml

    change, expected = RECIPES[case]
    recipe = copied.tree / "recipes" / "realnvp.yaml"
    recipe.write_text(change if case == "not YAML" else yaml.safe_dump(VALID | yaml.safe_load(change)))
    line = complaint(copied.snakemake())
    assert expected in line and "realnvp.yaml" in line
    assert copied.files() == []


@pytest.mark.parametrize(
    ("key", "expected"), [("rows", "unknown row 'realnvq'"), ("datasets", "unknown data set 'realnvq'")]
)
def test_a_tier_names_only_what_there_is(copied, key, expected):
    (copied.tree / "config" / "mine.yaml").write_text(f"recipes: quick\nseeds: [0]\n{key}: [realnvq]\n")
    assert expected in complaint(copied.snakemake(tier="mine"))
    assert copied.files() == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", "realnvq", "checkerboard"), "unknown row 'realnvq'; did you mean 'realnvp'?"),
        (("train", "realnvp", "checkerbord"), "unknown data set 'checkerbord'; did you mean 'checkerboard'?"),
        (("prepare", "digitz"), "unknown data set 'digitz'; did you mean 'digits'?"),
        (("prepare", "digits", "--tier", "quik"), "unknown tier 'quik'"),
        (("render", "--tier", "smoke"), "there are no records"),
    ],
)
def test_commands(workspace, arguments, expected):
    assert expected in complaint(workspace.bench(*arguments))
    assert workspace.files() == []


CELLS = {
    "an image family on vectors": ("checkerboard", {"family": "glow"}, "glow takes images, not data of shape (2,)"),
    "a vector family on images": ("digits", {}, "realnvp takes vectors, not data of shape (1, 8, 8)"),
    "a batch larger than the data": (
        "breast-cancer",
        {"training": {"steps": 10, "batch": 500}},
        "batch: 500 is larger than the 399 training rows; choose a smaller batch",
    ),
    "no layers": ("checkerboard", {"model": {"couplings": 0}}, "couplings is 0; it takes a whole number, at least 1"),
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_that_cannot_be_trained(copied, case):
    import yaml

    dataset, change, expected = CELLS[case]
    cell = {"tiers": {"quick": {"datasets": {dataset: {}}}}}
    (copied.tree / "recipes" / "realnvp.yaml").write_text(yaml.safe_dump(VALID | cell | change))
    line = complaint(copied.bench("train", "realnvp", dataset))
    assert expected in line and f"recipes/realnvp.yaml on {dataset}" in line
    assert [name for name in copied.files() if not name.startswith("data/prepared")] == []


def test_an_infinite_number_in_prepared_rows(workspace):
    import numpy as np

    from bench import datasets
    from bench.datasets.raw.store import Store

    data = workspace.folder / "data"
    folder = data / "prepared" / "reduced" / "breast-cancer"
    path = (
        datasets.prepare("breast-cancer", store=Store(data / "raw"), out=folder, seed=0, size="reduced") / "train.npy"
    )
    rows = np.load(path)
    rows[7, 2] = np.inf
    np.save(path, rows)
    line = complaint(workspace.bench("train", "realnvp", "breast-cancer"))
    assert "train.npy: inf in row 7, column 2 (counted from 0)" in line and "prepare it again" in line
    assert not [name for name in workspace.files() if name.startswith("results")]
