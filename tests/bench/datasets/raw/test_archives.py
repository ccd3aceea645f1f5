"""A member comes out of an archive, or nothing does."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from bench.datasets.raw.archives import extract
from bench.errors import UserError

from .conftest import CONTENT, left_in, put

FILES = {"set/a.bin": CONTENT, "set/train/b.bin": b"two", "setting.bin": b"near", "z.bin": b"last"}
TEXT = b"".join(b"%d,%d\n" % (i, i * i) for i in range(20_000))
KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]


def pack(kind: str, folder: Path, files: dict[str, bytes], *more: tarfile.TarInfo | zipfile.ZipInfo) -> Path:
    """An archive of ``files``; ``more`` are empty entries with attributes of their own."""
    archive = folder / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.mkdir("set")
            for name, content in files.items():
                opened.writestr(name, content)
            for entry in more:
                opened.writestr(entry, b"/etc/passwd")
        return archive
    with tarfile.open(archive, f"w:{kind[4:]}") as opened:
        entries = [(name, content, tarfile.TarInfo(name)) for name, content in files.items()]
        for _, content, entry in entries:
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
        for entry in more:
            opened.addfile(entry)
    return archive


def refused(archive: Path, member: str = "set") -> str:
    """The one line of an extraction that fails and leaves nothing outside of its target."""
    target = archive.parent / "deep" / "down" / "target"
    with pytest.raises(UserError) as error:
        extract(archive, member, target)
    assert set(left_in(archive.parent)) <= {archive.name, *(Path(name).name for name in FILES)}
    assert all(p in (archive, target) or target in p.parents for p in archive.parent.rglob("*") if p.is_file())
    assert str(error.value).startswith(f"{archive}: ")
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_or_a_folder_comes_out(tmp_path, kind):
    archive = pack(kind, tmp_path, FILES)
    extract(archive, "set/a.bin", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    extract(archive, "set", tmp_path / "folder")
    assert left_in(tmp_path / "folder") == ["a.bin", "b.bin"]
    assert (tmp_path / "folder" / "train" / "b.bin").read_bytes() == b"two"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_member_is_named(tmp_path, kind):
    assert "there is no set/c.bin in it" in refused(pack(kind, tmp_path, FILES), "set/c.bin")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["../../escaped", "set/../../escaped", "/escaped", "set\\..\\..\\escaped", "C:/escaped"]
)
def test_a_name_that_leads_outside_is_refused(tmp_path, kind, name):
    """Wherever it stands, and even where it is not what is asked for."""
    assert "refused while extracting" in refused(pack(kind, tmp_path, FILES | {name: b"x"}))


def entry(kind: bytes, linkname: str = "", name: str = "set/entry") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize(
    "bad",
    [
        entry(tarfile.SYMTYPE, "../../outside"),
        entry(tarfile.SYMTYPE, "/etc/passwd"),
        entry(tarfile.LNKTYPE, "../outside"),
        entry(tarfile.LNKTYPE, "/etc/passwd"),
        entry(tarfile.CHRTYPE),
        entry(tarfile.BLKTYPE),
        entry(tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.type.decode()}-{info.linkname}",
)
def test_links_outside_and_devices_in_a_tar_are_refused(tmp_path, bad):
    assert "refused while extracting" in refused(pack("tar.gz", tmp_path, FILES, bad))


def test_a_link_inside_a_tar_is_passed_over(tmp_path):
    archive = pack("tar.gz", tmp_path, FILES, entry(tarfile.SYMTYPE, "a.bin"))
    extract(archive, "set", tmp_path / "folder")
    assert left_in(tmp_path / "folder") == ["a.bin", "b.bin"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    bad = zipfile.ZipInfo("set/entry")
    bad.external_attr = (kind | 0o777) << 16
    assert "'set/entry' is a link or a device" in refused(pack("zip", tmp_path, FILES, bad))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_broken(tmp_path, kind, share):
    archive = pack(kind, tmp_path, FILES)
    whole = archive.read_bytes()
    # A tar ends in blocks of zeros, that it can do without.
    end = whole.rstrip(b"\0") if kind == "tar" else whole
    archive.write_bytes(end[: int(share * len(end))])
    line = refused(archive, "z.bin")
    assert "a broken archive" in line or "there is no z.bin in it" in line and kind == "tar"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("content", [CONTENT, TEXT], ids=["noise", "text"])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path, kind, content):
    archive = pack(kind, tmp_path, {"set/a.bin": content})
    whole = archive.read_bytes()
    for twentieth in range(1, 20):
        flipped = bytearray(whole)
        flipped[twentieth * len(whole) // 20] ^= 0xFF
        archive.write_bytes(flipped)
        assert "a broken archive" in refused(archive)


def test_what_is_no_archive_is_broken(tmp_path):
    assert "a broken archive" in refused(put(tmp_path / "page.html", b"<html>sorry</html>"))
