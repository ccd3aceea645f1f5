"""A verified local copy, else the mirror folder, else the archive that holds the file, else its addresses in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.datasets.raw.archives import extract
from bench.datasets.raw.download import DownloadError, Patience, download
from bench.datasets.raw.pins import Pin, digest_of, expected, files_in, read_pin, seal, seal_of
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
    if verifies(pin, store.raw, target):  # before the lock: a shared folder of raw files may be read-only
        return Fetched(target, "here")
    with _alone(target):
        if verifies(pin, store.raw, target):  # by now, thanks to another process
            return Fetched(target, "here")
        return _bring(pin, store, patience or Patience())


def verifies(pin: Pin, raw: Path, path: Path) -> bool:
    """Does ``path`` hold what the pin says? A file that nobody has seen yet does not."""
    known = expected(pin, raw)
    return (
        known is not None and path.exists() and path.is_dir() == pin.is_folder and digest_of(path, known[0]) == known[1]
    )


def _bring(pin: Pin, store: Store, patience: Patience) -> Fetched:
    target = store.raw / pin.path
    if target.is_file() and expected(pin, store.raw) is None:  # put here by hand
        seal(pin, store.raw, target)
        return Fetched(target, "here")
    if store.mirror and (store.mirror / pin.path).exists():
        return _copy(pin, store, store.mirror / pin.path)
    if pin.archive:
        archive = read_pin(pin.archive)
        if store.is_here(archive) or (store.has(archive) and not pin.urls):
            return _unpack(pin, archive, store, patience)
    return _download(pin, store, patience)


def _copy(pin: Pin, store: Store, source: Path) -> Fetched:
    target = store.raw / pin.path
    with _whole(target) as part:
        if source.is_dir():
            part.mkdir()
        for name, file in files_in(source) if source.is_dir() else [("", source)]:
            place = part / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        # The copy is what will be read, so the copy is what is verified.
        _require(pin, store.raw, part, source)
    return Fetched(target, "mirror")


def _unpack(pin: Pin, archive: Pin, store: Store, patience: Patience) -> Fetched:
    packed = fetch_pin(archive, store, patience).path
    target = store.raw / pin.path
    with _whole(target) as part:
        extract(packed, str(pin.member), part)
        _require(pin, store.raw, part, packed)
    return Fetched(target, f"from {packed.name}")


def _download(pin: Pin, store: Store, patience: Patience) -> Fetched:
    tried = []
    target = store.raw / pin.path
    part = part_of(target)  # outlives an interrupted run, so that the next one goes on
    for url in pin.urls if store.network else ():
        try:
            _verified_download(pin, url, part, store.raw, patience)
        except DownloadError as error:
            tried.append(f"{url} ({error})")
            continue
        _replace(part, target)
        return Fetched(target, url)
    if part.is_file() and not part.stat().st_size:
        part.unlink()
    raise UserError(
        f"raw file {pin.path}: {_looked(pin, store)}; {_addresses(pin, store, tried)}; give a folder that holds "
        f"{pin.path}: `--mirror FOLDER`, or after snakemake's --config `mirror=FOLDER`"
    )


def _verified_download(pin: Pin, url: str, part: Path, raw: Path, patience: Patience) -> None:
    """``url`` into ``part``; DownloadError unless it is what the pin says."""
    if expected(pin, raw) is None:
        _remove(part)  # without a hash nothing says that two halves belong together
    resumed = part.exists() and part.stat().st_size > 0
    if resumed and verifies(pin, raw, part):  # the run ended between the last byte and the new name
        return
    download(url, part, patience, pin.path.name)
    if expected(pin, raw) is None:
        seal(pin, raw, part)
    if not verifies(pin, raw, part):
        part.unlink()
        if resumed:  # what we had may have been of another file
            return _verified_download(pin, url, part, raw, patience)
        raise DownloadError("wrong hash" if pin.digest else f"not the file noted in {seal_of(pin, raw)}")


def _looked(pin: Pin, store: Store) -> str:
    looked = [f"{store.raw / pin.path} has the wrong hash"] if (store.raw / pin.path).exists() else []
    mirror = f"not in the mirror as {store.mirror / pin.path}" if store.mirror else "no mirror was given"
    return "; ".join([*looked, mirror])


def _addresses(pin: Pin, store: Store, tried: list[str]) -> str:
    if tried:
        return f"tried {', '.join(tried)}"
    if not pin.urls:
        return "it has no public address of its own"
    return f"the network was not asked (network=true takes it from {pin.urls[0]})"


def _require(pin: Pin, raw: Path, content: Path, source: Path) -> None:
    """UserError unless ``content``, taken from ``source``, is what the pin says; seal it if nobody has seen it."""
    if content.is_dir() != pin.is_folder:
        kinds = ("a folder", "a file") if content.is_dir() else ("a file", "a folder")
        raise UserError(f"{source}: {pin.path.name}: found {kinds[0]}, expected {kinds[1]}; replace it or leave it out")
    known = expected(pin, raw)
    if known is None:
        seal(pin, raw, content)
    elif (found := digest_of(content, known[0])) != known[1]:
        noted = "" if pin.digest else f" as first seen (delete {seal_of(pin, raw)} to forget it)"
        raise UserError(
            f"{source}: {pin.path.name}: {known[0]} is {found}, expected {known[1]}{noted}; replace the file or "
            "leave it out"
        )


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time, by a lock that the kernel drops when its holder ends."""
    import filelock

    with disk_of(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        yield


def part_of(target: Path) -> Path:
    """Where ``target`` is made, by the one process that holds its lock."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A name beside ``target`` that becomes it on success; on failure what lies there is removed."""
    part = part_of(target)
    _remove(part)
    try:
        with disk_of(target.parent):
            yield part
        _replace(part, target)
    finally:
        _remove(part)


def _replace(part: Path, target: Path) -> None:
    if part.is_dir() or target.is_dir():
        _remove(target)  # a folder takes no place but an empty one
    os.replace(part, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
