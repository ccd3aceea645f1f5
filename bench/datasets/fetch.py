"""Raw files: a verified local copy, else the mirror folder, else the addresses in turn. Nothing unverified is read."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.datasets.pins import Pin, Tree, file_hash, read_pin, tree_hash
from bench.datasets.registry import describe
from bench.errors import UserError
from bench.paths import disk_of

TIMEOUT = 30
"""Seconds without an answer after which an address counts as dead."""


def fetch(name: str, *, raw: Path, mirror: Path | None, network: bool = False) -> list[Path]:
    """Bring every raw file of a data set into ``raw``, verified; none for the embedded ones."""
    return [fetch_pin(pin, raw=raw, mirror=mirror, network=network) for pin in describe(name).pins]


def fetch_pin(pin: str | Pin, *, raw: Path, mirror: Path | None, network: bool = False) -> Path:
    """One raw file, or the folder of an archive's verified content, below ``raw``.

    A mirror has the layout of ``raw``. A wrong hash in the mirror is an error, not a reason to look elsewhere: the
    user believes in that file. A wrong hash in ``raw`` (an interrupted copy by hand, say) is replaced.
    """
    pin = read_pin(pin) if isinstance(pin, str) else pin
    if mirror is not None and not mirror.is_dir():
        raise UserError(f"the mirror {mirror} is not a folder; correct `mirror` in the configuration")
    return _fetch_tree(pin, pin.tree, raw, mirror, network) if pin.tree else _fetch_file(pin, raw, mirror, network)


def _fetch_tree(pin: Pin, tree: Tree, raw: Path, mirror: Path | None, network: bool) -> Path:
    inside = pin.path.parent / tree.folder
    target = raw / inside
    if target.is_dir() and tree_hash(target, tree.folder) == tree.sha256:
        return target
    if mirror and (mirror / inside).is_dir():
        with _whole(target) as temporary:
            shutil.copytree(mirror / inside, temporary, copy_function=shutil.copyfile)
            _require(tree_hash(temporary, tree.folder), tree.sha256, mirror / inside, "sha256 of the tree")
        return target
    archive = _fetch_file(pin, raw, mirror, network)
    with _whole(target) as temporary:
        unpacked = temporary.with_name("unpacked")
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
        except tarfile.TarError as error:
            raise UserError(f"{archive}: refused while extracting ({error})") from error
        _require(tree_hash(unpacked / tree.folder, tree.folder), tree.sha256, archive, "sha256 of the tree")
        os.replace(unpacked / tree.folder, temporary)
    return target


def _fetch_file(pin: Pin, raw: Path, mirror: Path | None, network: bool) -> Path:
    target = raw / pin.path
    verified = target.is_file() and file_hash(target, pin.hash[0]) == pin.hash[1]
    if not verified and not _from_mirror(pin, target, mirror):
        _download(pin, target, mirror, network)
    return target


def _from_mirror(pin: Pin, target: Path, mirror: Path | None) -> bool:
    if mirror is None or not (mirror / pin.path).is_file():
        return False
    source = mirror / pin.path
    algorithm, expected = pin.hash
    with _whole(target) as temporary:
        shutil.copyfile(source, temporary)
        # The copy is what will be read, so the copy is what is verified.
        _require(file_hash(temporary, algorithm), expected, source, algorithm)
    return True


def _download(pin: Pin, target: Path, mirror: Path | None, network: bool) -> None:
    import pooch
    import requests

    tried = []
    for url in pin.urls if network else ():
        try:
            with _whole(target) as temporary:
                downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=True)
                known_hash = ":".join(pin.hash)
                pooch.retrieve(url, known_hash, fname=temporary.name, path=temporary.parent, downloader=downloader)
            return
        except (requests.RequestException, ValueError) as error:
            tried.append(f"{url} ({_reason(error)})")
    looked = f"not in the mirror as {mirror / pin.path}" if mirror else "no mirror was given"
    if not pin.urls:
        addresses = "it has no public address of its own"
    elif network:
        addresses = f"tried {', '.join(tried)}"
    else:
        addresses = f"the network was not asked (network=true takes it from {pin.urls[0]})"
    raise UserError(
        f"raw file {pin.path}: {looked}; {addresses}; give a folder that holds {pin.path}: `--mirror FOLDER`, "
        "or after snakemake's --config `mirror=FOLDER`"
    )


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else "wrong hash" if "hash" in str(error).lower() else type(error).__name__


def _require(found: str, expected: str, file: Path, algorithm: str) -> None:
    if found != expected:
        raise UserError(f"{file}: {algorithm} is {found}, expected {expected}; replace the file or leave it out")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A temporary name beside ``target`` that becomes it on success; whatever lies there is removed on failure."""
    with disk_of(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            temporary = Path(folder) / target.name
            yield temporary
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(temporary, target)
