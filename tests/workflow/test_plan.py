"""The static graph: which cells, from which data, and what makes each stale."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from bench import config, recipes, workflow
from bench.datasets import registry
from bench.datasets.raw.store import select
from bench.errors import UserError

PUBLISHED = {name for name in registry.names() if registry.describe(name).needs == "published"}


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the statistics of a dry run."""
    assert "Job stats:" in output, output
    table = output.split("Job stats:")[1].split("Reasons:")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


@pytest.mark.parametrize("tier", ["smoke", "quick"])
def test_dry_run_has_one_job_per_cell(workspace, tier):
    done = workspace.snakemake("-n", tier=tier)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = workflow.plan({"tier": tier, "data": str(workspace.folder / "data")})
    counted = jobs(done.stdout + done.stderr)
    assert counted["train"] == len(planned.cells)
    assert counted["prepare"] == len({dataset for _, dataset in planned.cells})
    assert "fetch" not in counted
    assert workspace.files() == []


def test_a_mirror_adds_reduced_cells_on_published_sets(workspace, mirror):
    data = {"data": str(workspace.folder / "data")}  # not the raw files that lie in the project's own folder
    without, with_mirror = (workflow.plan(data | more).cells for more in ({}, {"mirror": str(mirror)}))
    added = {dataset for _, dataset in set(with_mirror) - set(without)}
    assert added and added <= PUBLISHED
    done = workspace.snakemake("-n", mirror=mirror)
    counted = jobs(done.stdout + done.stderr)
    assert counted["train"] == len(with_mirror)
    assert counted["fetch"] == len(added)


@pytest.mark.parametrize("source", ["network", "mirror"])
def test_dry_run_of_the_paper_tier(workspace, mirror, source):
    settings = {"network": "true"} if source == "network" else {"mirror": mirror}
    done = workspace.snakemake("-n", tier="paper", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(done.stdout + done.stderr)["train"] > 0


def test_embedded_data_are_always_here_and_published_data_only_from_somewhere(mirror, tmp_path):
    here = workflow.availability(config.load({"data": str(tmp_path / "data")}))
    assert {name for name, available in here.items() if not available} >= PUBLISHED
    assert here["digits"] and here["checkerboard"]
    assert all(workflow.availability(config.load({"mirror": str(mirror)}))[name] for name in PUBLISHED)
    online = workflow.availability(config.load({"network": True}))
    nowhere = {name for name, available in online.items() if not available}
    assert nowhere == {"imagenet32-old", "imagenet64-old"}, "of which there are only torrents"


def test_published_arrays_come_before_rebuilt_ones_and_samples(mirror):
    """bsds300 with an archive of arrays and the images, then with the images alone; and as the user asks."""
    settings = {"mirror": str(mirror), "data": str(mirror.parent / "data")}
    info = registry.describe("bsds300")
    chosen = [select(info, config.load(settings).store).name]
    chosen.append(select(info, config.load(settings | {"variant": "rebuilt"}).store).name)
    shutil.rmtree(mirror / "maf")
    chosen.append(select(info, config.load(settings).store).name)
    assert chosen == ["published", "rebuilt", "rebuilt"]


def test_half_a_mirror_is_no_mirror(mirror):
    next(mirror.rglob("*train-images*")).unlink()
    here = workflow.availability(config.load({"mirror": str(mirror)}))
    assert not here["mnist"] and here["miniboone"]


def test_options_mirror_the_configuration():
    given = {"tier": "smoke", "mirror": "/a folder", "network": False, "seed": 3, "device": None}
    assert shlex.split(workflow.options(given)) == [
        "--tier",
        "smoke",
        "--mirror",
        "/a folder",
        "--no-network",
        "--seed",
        "3",
    ]


def test_a_cell_depends_on_its_settings_and_the_seed():
    first, again, other = (workflow.plan({"tier": "smoke", "seed": seed}) for seed in (0, 0, 1))
    row, dataset = next(iter(first.cells))
    assert first.training(row, dataset) == again.training(row, dataset) != other.training(row, dataset)
    longer = workflow.plan({"tier": "quick"})
    assert first.training(row, dataset) != longer.training(row, dataset)


def test_a_cell_depends_on_its_familys_code_alone(copied):
    """A change to one family makes its own cells stale; a new family or data set none at all."""
    plan = "p = workflow.plan({'tier': 'smoke'})"
    script = f"from bench import workflow; {plan}; print([(c, p.training(*c)) for c in p.cells])"

    def digests() -> dict[tuple[str, str], str]:
        done = copied.run([sys.executable, "-c", script])
        assert done.returncode == 0, done.stderr
        return dict(eval(done.stdout))

    before = digests()
    (copied.tree / "models" / "newcomer.py").write_text("from models.layer import Model\n")
    loaders = copied.tree / "bench" / "datasets" / "loaders"
    (loaders / "newcomer.py").write_text("DATASETS = ()\n")
    assert digests() == before
    changed = copied.tree / "models" / "latent" / "vae.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    after = digests()
    assert {row for (row, _), digest in after.items() if digest != before[row, _]} == {"vae"}
    trainer = copied.tree / "bench" / "training" / "loop.py"
    trainer.write_text(trainer.read_text() + "\n# changed\n")
    assert all(digest != after[cell] for cell, digest in digests().items())


def test_every_recipe_names_a_family_and_hyperparameters_that_exist():
    for tier in config.tiers():
        loaded = config.load({"tier": tier, "network": True})
        everything = dict.fromkeys(workflow.availability(loaded), True)
        for cell in recipes.matrix(loaded, everything):
            workflow.check_family(cell)


def test_a_gpu_is_taken_only_by_what_may_use_one():
    assert workflow.gpus(config.load({"device": "cpu"})) == 0
    assert workflow.gpus(config.load({"device": "cuda"})) == 1


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_ends(tmp_path):
    held = workflow.lone_run(tmp_path)
    with pytest.raises(UserError, match="another run is at work"):
        workflow.lone_run(tmp_path)
    os.close(held)
    os.close(workflow.lone_run(tmp_path))


def test_the_default_profile_is_the_one_that_snakemake_finds(workspace):
    done = workspace.snakemake("-n", tier="smoke")
    assert "profiles/default" in done.stderr.splitlines()[0]
    assert (Path(workflow.ROOT) / "profiles" / "default" / "config.yaml").is_file()
