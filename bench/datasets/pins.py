"""The registry of raw files: one DVC pin, ``data/NAME.dvc``, for each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError

PIN_FOLDER = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class Tree:
    """An archive's content that is verified as a whole, so that a mirror may hold it in place of the archive.

    ``sha256`` is over the sorted files under ``folder``: name from the archive's root, NUL, bytes.
    """

    folder: Path
    sha256: str


@dataclass(frozen=True)
class Pin:
    """A raw file: its ``path`` below the raw folder and below a mirror alike, its hash, where it comes from."""

    name: str
    path: Path
    licence: str
    urls: tuple[str, ...]
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    tree: Tree | None = None

    @property
    def hash(self) -> tuple[str, str]:
        """(algorithm, digest): the stronger of the two that are known."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", str(self.md5))


def read_pin(name: str, folder: Path = PIN_FOLDER) -> Pin:
    """Read ``folder/name.dvc``; UserError where it is missing or malformed."""
    import yaml

    file = folder / f"{name}.dvc"
    try:
        document = yaml.safe_load(file.read_text())
        (out,), meta = document["outs"], document["meta"]
        tree = meta.get("tree")
        pin = Pin(
            name=name,
            path=Path(out["path"]).relative_to("raw"),
            licence=meta["licence"],
            urls=tuple(meta["urls"]),
            md5=out.get("md5"),
            sha256=meta.get("sha256"),
            size=out.get("size"),
            tree=Tree(Path(tree["folder"]), tree["sha256"]) if tree else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not a pin of a raw file ({type(error).__name__}: {error})") from error
    if not (pin.md5 or pin.sha256):
        raise UserError(f"{file}: neither outs.md5 nor meta.sha256 is given")
    return pin


def file_hash(path: Path, algorithm: str) -> str:
    """The file's digest, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def tree_hash(folder: Path, name: Path) -> str:
    """The digest of ``Tree`` for a ``folder`` whose name in the archive is ``name``."""
    digest = hashlib.sha256()
    files = {(name / p.relative_to(folder)).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    for inside in sorted(files):
        digest.update(inside.encode() + b"\0" + files[inside].read_bytes())
    return digest.hexdigest()
