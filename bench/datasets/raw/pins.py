"""The registry of raw files: one DVC pin, ``data/NAME.dvc``, for each file, folder or archive."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.paths import ROOT, replacing

PIN_FOLDER = ROOT / "data"

Digest = tuple[str, str]
"""(algorithm, hexadecimal digest); see ``digest_of`` for the algorithms."""


@dataclass(frozen=True)
class Pin:
    """A raw file, or a folder of them: its ``path`` below the raw folder and any mirror alike, its hash, its origin.

    ``urls`` are tried in turn. ``archive`` names the pin of the archive that holds it as ``member``, so a mirror may
    hold the archive or what comes out of it. ``digest`` is None where no hash was ever published: such a file is
    pinned on first sight (``seal``).
    """

    name: str
    path: Path
    licence: str
    urls: tuple[str, ...] = ()
    digest: Digest | None = None
    size: int | None = None
    archive: str | None = None
    member: str | None = None
    note: str | None = None  # what a user should know of the file or its hash

    @property
    def is_folder(self) -> bool:
        return self.digest is not None and self.digest[0] == "md5.dir"


def read_pin(name: str, folder: Path | None = None) -> Pin:
    """Read ``folder/name.dvc``; UserError where it is missing or malformed."""
    import yaml

    file = (folder or PIN_FOLDER) / f"{name}.dvc"
    try:
        document = yaml.safe_load(file.read_text())
        (out,), meta = document["outs"], document["meta"]
        pin = Pin(
            name=name,
            path=Path(out["path"]).relative_to("raw"),
            licence=meta["licence"],
            urls=tuple(meta.get("urls", ())),
            digest=_digest(out, meta),
            size=out.get("size"),
            archive=meta.get("archive"),
            member=meta.get("member"),
            note=meta.get("note"),
        )
        if ".." in pin.path.parts or not all("://" in url for url in pin.urls) or bool(pin.archive) != bool(pin.member):
            raise ValueError("a path that leads outside, urls that are none, or an archive without its member")
        return pin
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not a pin of a raw file ({type(error).__name__}: {error})") from error


def _digest(out: dict, meta: dict) -> Digest | None:
    """The strongest of the hashes that the pin gives."""
    md5 = out.get("md5")
    for algorithm, value in (("sha256", meta.get("sha256")), ("sha1", meta.get("sha1")), ("git", meta.get("git"))):
        if value:
            return algorithm, value
    return (("md5.dir" if md5.endswith(".dir") else "md5"), md5) if md5 else None


def digest_of(path: Path, algorithm: str) -> str:
    """The hash of a file (``md5``, ``sha1``, ``sha256``, ``git``: git's blob id) or of a folder (``md5.dir``: DVC's).

    DVC's hash of a folder is the md5 of a JSON list of the md5 and the relative path of each file in it.
    """
    if algorithm == "md5.dir":
        content = [{"md5": digest_of(file, "md5"), "relpath": name} for name, file in files_in(path)]
        return hashlib.md5(json.dumps(content, sort_keys=True).encode()).hexdigest() + ".dir"
    with path.open("rb") as stream:
        if algorithm != "git":
            return hashlib.file_digest(stream, algorithm).hexdigest()
        total = hashlib.sha1(b"blob %d\0" % os.fstat(stream.fileno()).st_size)
        while block := stream.read(1 << 20):
            total.update(block)
        return total.hexdigest()


def files_in(folder: Path) -> list[tuple[str, Path]]:
    """The files below ``folder``, through links too: relative name and path, sorted by name."""
    paths = (Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted((path.relative_to(folder).as_posix(), path) for path in paths if path.is_file())


def expected(pin: Pin, raw: Path) -> Digest | None:
    """What the file must hash to: as published, else as ``seal`` found it first; None before anyone has seen it."""
    note = seal_of(pin, raw)
    if pin.digest or not note.exists():
        return pin.digest
    md5, _, name = note.read_text().strip().partition("  ")
    if not name:
        raise UserError(f"{note}: not a line of md5sum; delete it, and the file counts as new")
    return "md5", md5


def seal(pin: Pin, raw: Path, content: Path) -> None:
    """Pin on first sight: note the md5 of ``content`` beside where it will lie, in the format of md5sum(1)."""
    note = seal_of(pin, raw)
    with replacing(note) as part:
        part.write_text(f"{digest_of(content, 'md5')}  {pin.path.name}\n")


def seal_of(pin: Pin, raw: Path) -> Path:
    return raw / pin.path.with_name(f"{pin.path.name}.md5")
