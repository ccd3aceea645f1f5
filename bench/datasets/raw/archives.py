"""Taking one member out of an archive. An archive with a name or a link that leaves its folder is refused whole."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from bench.errors import UserError

# RuntimeError: a zip archive with a password, or by a method that zipfile does not know.
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def extract(archive: Path, member: str, target: Path) -> None:
    """Write the file ``member`` of the archive to ``target``; or the files below it, if it is a folder.

    UserError for a truncated or unreadable archive, a missing member, or a name or link that leaves the folder.
    """
    wanted = PurePosixPath(member)
    found = False
    with _refusing(archive):
        for name, content in _tar(archive) if tarfile.is_tarfile(archive) else _zip(archive):
            if name != wanted and wanted not in name.parents:
                continue
            found = True
            place = target / name.relative_to(wanted)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as out:
                shutil.copyfileobj(content, out)
    if not found:
        raise UserError(f"{archive}: there is no {member} in it; replace the archive or leave it out")


def _tar(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = _inside(entry.name)
            tarfile.data_filter(entry, "/nowhere")  # refuses links that lead outside, and devices
            if entry.isfile():
                yield name, tar.extractfile(entry)
        while tar.fileobj.read(1 << 20):  # the checksum comes after the last entry
            pass


def _zip(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            name = _inside(entry.filename)
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise tarfile.FilterError(f"{entry.filename!r} is a link or a device")
            if not entry.is_dir():
                with opened.open(entry) as content:
                    yield name, content


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise tarfile.FilterError(f"{name!r} leads outside")
    return path


@contextmanager
def _refusing(archive: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: refused while extracting ({error})") from error
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; gzip and bz2 complain of their input by one without a number
        raise UserError(f"{archive}: a broken archive ({error}); delete it and fetch it again") from error
