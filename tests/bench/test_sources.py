"""Dependencies read by regular expressions agree with Python's own parser and with the registry."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from bench import sources
from bench.paths import ROOT
from models import registry

FILES = sorted(path for part in ("models", "bench") for path in (ROOT / part).rglob("*.py"))


def parsed_imports(path: Path) -> set[Path]:
    """What ``sources.imported`` finds, by the parser."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, which no digest would follow"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {file for name in names if name.split(".")[0] in ("bench", "models") for file in sources._files(name)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_agree_with_the_parser(path):
    assert sources.imported(path) == parsed_imports(path)


def test_families_agree_with_the_registry():
    registered = registry.families()
    assert set(sources.families()) == set(registered)
    for name, family in sources.families().items():
        builder = inspect.unwrap(registered[name])
        assert family.path == Path(inspect.getsourcefile(builder)).resolve()
        names = [n for n, p in inspect.signature(builder).parameters.items() if p.kind is p.KEYWORD_ONLY]
        assert family.hyperparameters is None or list(family.hyperparameters) == names


def test_a_closure_follows_imports_and_leaves_out_what_only_carries_numbers():
    found = {path.relative_to(ROOT).as_posix() for path in sources.closure(ROOT / "bench" / "cell.py")}
    assert {"bench/training/loop.py", "bench/evaluation.py", "models/layer.py"} <= found
    assert not found & {"bench/cli.py", "bench/config.py", "bench/records.py", "models/latent/vae.py"}
