"""Which source files a result depends on, read from their import statements; nothing is imported, so nothing is slow.

A new model or data set is a new file that no other result depends on: adding one retrains nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.paths import ROOT

PLUMBING = (
    *(f"{name}.py" for name in ("config", "errors", "paths", "provenance", "recipes", "records", "schema", "workflow")),
    "datasets/hazards.py",
    "datasets/raw",
)
"""What carries numbers below ``bench`` and never changes them; a raw file that verifies is the same however it came."""


# Regular expressions and not ``ast``: a third of a second of every start of Snakemake. A test holds the two to agree.
IMPORT = re.compile(
    r"^[ \t]*(?:from ((?:bench|models)[\w.]*) import (\([^)]*\)|[^\n]*)|import ((?:bench|models)[\w.]*))", re.M
)
FAMILY = re.compile(r"^@register\(\"([^\"]+)\"\)\n(def .*?:\n)", re.M | re.S)


@dataclass(frozen=True)
class Family:
    """A registered family: its file, and the hyperparameters it accepts (None: whatever is given)."""

    path: Path
    hyperparameters: tuple[str, ...] | None


@cache
def families() -> dict[str, Family]:
    """Every ``@register("name")`` below ``models/``."""
    found = {}
    for path in sorted((ROOT / "models").rglob("*.py")):
        for name, signature in FAMILY.findall(path.read_text(encoding="utf-8")):
            arguments = ast.parse(signature + "    ...").body[0].args
            found[name] = Family(path, None if arguments.kwarg else tuple(a.arg for a in arguments.kwonlyargs))
    return found


@cache
def imported(path: Path) -> frozenset[Path]:
    """The files of this repository that a file imports, anywhere in it, with the packages they lie in."""
    found: set[Path] = set()
    for package, names, module in IMPORT.findall(path.read_text(encoding="utf-8")):
        # An imported name may be a module of the package, or something defined in it.
        for name in [f"{package}.{word}" for word in re.findall(r"\w+", names)] or [module]:
            found.update(_files(name))
    return frozenset(found)


@cache
def _files(module: str) -> tuple[Path, ...]:
    parts = module.split(".")
    places = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return tuple(file for file in candidates if file.is_file())


def training_sources() -> list[Path]:
    """The sources whose change may change some trained cell, in a stable order; tables and reports are not in it."""
    parts = [*(ROOT / "models").rglob("*.py"), *(ROOT / "bench" / "datasets").rglob("*.py")]
    return closure(ROOT / "bench" / "cell.py", *parts)


def closure(*roots: Path) -> list[Path]:
    """The files, and whatever of this repository they import in turn, in a stable order."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        path = waiting.pop()
        if path not in found and not _is_plumbing(path):
            found.add(path)
            waiting.extend(imported(path))
    return sorted(found)


def _is_plumbing(path: Path) -> bool:
    return any(place in (path, path.parent) for place in (ROOT / "bench" / name for name in PLUMBING))


@cache
def digest(*roots: Path) -> str:
    """One hash over the text of ``closure(*roots)``."""
    total = hashlib.sha256()
    for path in closure(*roots):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + _content(path))
    return total.hexdigest()


@cache
def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
