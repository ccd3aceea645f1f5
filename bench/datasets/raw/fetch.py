"""A verified local copy, else the mirror folder, else the archive that holds the file, else its addresses in turn."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.datasets.raw.archives import extract
from bench.datasets.raw.download import DownloadError, Patience, download
from bench.datasets.raw.pins import Pin, digest_of, expected, read_pin, seal
from bench.datasets.raw.store import Store
from bench.errors import UserError
from bench.paths import disk_of


@dataclass(frozen=True)
class Fetched:
    """A raw file, or folder of them, that was verified; ``origin`` says where it came from."""

    path: Path
    origin: str


def fetch_pin(pin: str | Pin, store: Store, patience: Patience | None = None) -> Fetched:
    """Bring one raw file (or folder) into ``store.raw``, verified before it takes its name.

    A wrong hash in the mirror is an error, not a reason to look elsewhere: the user believes in that file. A wrong
    file in ``raw`` (an interrupted copy by hand, say) is replaced. Two fetches of one file take turns.
    """
    pin = read_pin(pin) if isinstance(pin, str) else pin
    if store.mirror is not None and not store.mirror.is_dir():
        raise UserError(f"the mirror {store.mirror} is not a folder; correct `mirror` in the configuration")
    target = store.raw / pin.path
    with _alone(target):
        if target.exists() and verifies(pin, store.raw, target):
            return Fetched(target, "here")
        if store.mirror and (store.mirror / pin.path).exists():
            return _copy(pin, store, store.mirror / pin.path)
        # Addresses of its own come last: they are slower than an archive in the mirror, and mostly there are none.
        if pin.archive and store.has(read_pin(pin.archive)):
            return _unpack(pin, store, patience)
        return _download(pin, store, patience or Patience())


def verifies(pin: Pin, raw: Path, path: Path) -> bool:
    """Does ``path`` hold what the pin says? A file that nobody has seen yet does not."""
    known = expected(pin, raw)
    return known is not None and path.is_dir() == pin.is_folder and digest_of(path, known[0]) == known[1]


def _copy(pin: Pin, store: Store, source: Path) -> Fetched:
    target = store.raw / pin.path
    with _whole(target) as temporary:
        if source.is_dir():
            shutil.copytree(source, temporary, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, temporary)
        # The copy is what will be read, so the copy is what is verified.
        _require(pin, store.raw, temporary, source)
    return Fetched(target, "mirror")


def _unpack(pin: Pin, store: Store, patience: Patience | None) -> Fetched:
    archive = fetch_pin(str(pin.archive), store, patience).path
    target = store.raw / pin.path
    with _whole(target) as temporary:
        extract(archive, str(pin.member), temporary)
        _require(pin, store.raw, temporary, archive)
    return Fetched(target, f"from {archive.name}")


def _download(pin: Pin, store: Store, patience: Patience) -> Fetched:
    tried = []
    target = store.raw / pin.path
    part = target.with_name(f".{target.name}.part")  # outlives an interrupted run, so that the next one goes on
    for url in pin.urls if store.network else ():
        if expected(pin, store.raw) is None:
            part.unlink(missing_ok=True)  # without a hash nothing says that two halves belong together
        try:
            _verified_download(pin, url, part, store.raw, patience)
        except DownloadError as error:
            tried.append(f"{url} ({error})")
            continue
        os.replace(part, target)
        return Fetched(target, url)
    raise UserError(
        f"raw file {pin.path}: {_looked(pin, store)}; {_addresses(pin, store, tried)}; give a folder that holds "
        f"{pin.path}: `--mirror FOLDER`, or after snakemake's --config `mirror=FOLDER`"
    )


def _verified_download(pin: Pin, url: str, part: Path, raw: Path, patience: Patience) -> None:
    """``url`` into ``part``; DownloadError unless it is what the pin says."""
    resumed = part.exists() and part.stat().st_size > 0
    download(url, part, patience, pin.path.name)
    if expected(pin, raw) is None:
        seal(pin, raw, part)
    if not verifies(pin, raw, part):
        part.unlink()
        if resumed:  # what we had may have been of another file
            return _verified_download(pin, url, part, raw, patience)
        raise DownloadError("wrong hash")


def _looked(pin: Pin, store: Store) -> str:
    return f"not in the mirror as {store.mirror / pin.path}" if store.mirror else "no mirror was given"


def _addresses(pin: Pin, store: Store, tried: list[str]) -> str:
    if tried:
        return f"tried {', '.join(tried)}"
    if not pin.urls:
        return "it has no public address of its own"
    return f"the network was not asked (network=true takes it from {pin.urls[0]})"


def _require(pin: Pin, raw: Path, content: Path, source: Path) -> None:
    """UserError unless ``content``, taken from ``source``, is what the pin says; seal it if nobody has seen it."""
    known = expected(pin, raw)
    if known is None:
        seal(pin, raw, content)
    elif not verifies(pin, raw, content):
        found = digest_of(content, known[0]) if content.is_dir() == pin.is_folder else "of another kind"
        raise UserError(
            f"{source}: {pin.path.name}: {known[0]} is {found}, expected {known[1]}; replace the file or leave it out"
        )


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time, by a lock that the kernel drops when its holder ends."""
    import filelock

    with disk_of(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        yield


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A temporary name beside ``target`` that becomes it on success; whatever lies there is removed on failure."""
    with (
        disk_of(target.parent),
        tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder,
    ):
        temporary = Path(folder) / target.name
        yield temporary
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
