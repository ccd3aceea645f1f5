"""One environment in three files: pyproject.toml (needs), constraints.txt (versions), environment.yml (conda)."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bench.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
PIP = next(entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict))


def pins(lines: list[str]) -> dict[str, str]:
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text().splitlines())
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = {
    canonicalize_name(r.name): r for r in map(Requirement, [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["data"]])
}


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_is_needed_is_pinned_within_its_bounds(name):
    assert NEEDED[name].specifier.contains(CONSTRAINTS[name])


def test_every_pin_is_one_exact_public_version():
    for name, version in CONSTRAINTS.items():
        assert Version(version).local is None, f"{name}: a build tag keeps other machines from finding it"
        assert not name.startswith("nvidia-"), f"{name}: torch itself pins these, where it needs them"


def test_conda_users_get_the_same_packages_in_the_same_versions():
    assert "-c constraints.txt" in PIP and "-e ." in PIP
    assert pins(PIP) == {name: CONSTRAINTS[name] for name in NEEDED}


def test_conda_users_get_a_python_that_is_supported():
    python = next(entry for entry in ENVIRONMENT if isinstance(entry, str) and entry.startswith("python="))
    assert python.removeprefix("python=") in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_continuous_integration_does_what_a_developer_does():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run") for step in workflow["jobs"]["run"]["steps"]]
    assert "bash .ci/run" in steps
    commands = re.findall(r"^(?:make|\.venv)\S*.*$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == [
        "make test",
        "make test-dvc",
        "make reproduce SEEDS=1",
        ".venv/bin/relaxbench drift --tier quick --seeds 1",
    ]
