"""Raw files come verified, from the nearest place that has them, or not at all."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile

import pytest

from bench.datasets.preparation import fetch as fetch_set
from bench.datasets.raw import pins
from bench.datasets.raw.fetch import fetch_pin
from bench.datasets.raw.pins import digest_of
from bench.datasets.raw.store import Store
from bench.errors import UserError

from .conftest import CONTENT, DEAD, PATIENCE, a_pin, left_in, put
from .server import status, whole


@pytest.fixture
def mirror(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def tree(mirror):
    """A folder in the mirror; its pin's changes."""
    put(mirror / "set" / "images" / "train" / "b.jpg", b"two")
    put(mirror / "set" / "images" / "a.jpg", b"one")
    digest = digest_of(mirror / "set" / "images", "md5.dir")
    return {"path": (mirror / "set" / "images").relative_to(mirror), "digest": ("md5.dir", digest)}


def test_a_verified_local_copy_is_enough(fetch, raw):
    file = put(raw / "set" / "raw.bin")
    found = fetch(DEAD)
    assert (found.path, found.origin) == (file, "here")
    assert [p.name for p in raw.rglob("*")] == ["set", "raw.bin"]  # not even a lock: the folder may be read-only


def test_a_wrong_local_copy_is_replaced_from_the_mirror(fetch, raw, mirror):
    put(raw / "set" / "raw.bin", b"half")
    put(mirror / "set" / "raw.bin")
    found = fetch(DEAD, mirror=mirror)
    assert found.path.read_bytes() == CONTENT and found.origin == "mirror"
    assert left_in(raw) == ["raw.bin"]


def test_a_wrong_local_copy_that_nothing_replaces_is_named(fetch, raw):
    file = put(raw / "set" / "raw.bin", b"half")
    with pytest.raises(UserError, match=f"{file} has the wrong hash; no mirror was given; it has no public address"):
        fetch()
    assert file.read_bytes() == b"half"


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "git"])
def test_a_wrong_file_in_the_mirror_is_refused(fetch, raw, mirror, site, algorithm):
    right = digest_of(put(mirror / "right"), algorithm)
    wrong = put(mirror / "set" / "raw.bin", b"other bytes")
    with pytest.raises(UserError) as error:
        fetch(site.url("a", whole(CONTENT)), mirror=mirror, digest=(algorithm, right))
    found = digest_of(wrong, algorithm)
    assert str(error.value) == (
        f"{wrong}: raw.bin: {algorithm} is {found}, expected {right}; replace the file or leave it out"
    )
    assert left_in(raw) == [] and site.asked == []


def test_a_mirror_must_exist(fetch, mirror):
    with pytest.raises(UserError, match="is not a folder; correct `mirror`"):
        fetch(mirror=mirror)


def test_a_file_without_an_address_asks_for_a_mirror(fetch, raw, mirror):
    mirror.mkdir()
    with pytest.raises(UserError, match=r"not in the mirror as .*raw.bin; it has no public address of its own; give"):
        fetch(mirror=mirror)
    assert left_in(raw) == []


def test_the_network_is_asked_only_with_leave(fetch, site):
    url = site.url("a", whole(CONTENT))
    with pytest.raises(UserError, match=rf"the network was not asked \(network=true takes it from {url}\)"):
        fetch(url, network=False)
    assert site.asked == []


def test_what_a_killed_copy_left_is_cleared_away(fetch, raw, mirror, tree):
    put(raw / "set" / ".images.part" / "half.jpg", b"half")
    fetch(mirror=mirror, **tree)
    assert left_in(raw) == ["a.jpg", "b.jpg"]


def test_a_full_disk_leaves_nothing_of_a_copy(child, raw, mirror):
    put(mirror / "set" / "raw.bin")
    process = child(mirror=mirror, limit=65_536)
    assert process.communicate()[1].startswith(f"UserError: no space left on the disk of {raw / 'set'}; free some")
    assert process.returncode == 1 and left_in(raw) == []


def test_a_folder_comes_whole_and_is_mended(fetch, raw, mirror, tree):
    folder = fetch(mirror=mirror, **tree).path
    assert folder == raw / "set" / "images" and left_in(raw) == ["a.jpg", "b.jpg"]
    (folder / "a.jpg").unlink()
    assert fetch(mirror=mirror, **tree).origin == "mirror" and left_in(raw) == ["a.jpg", "b.jpg"]
    put(folder / "train" / "more.jpg", b"")
    assert fetch(mirror=mirror, **tree).origin == "mirror" and left_in(raw) == ["a.jpg", "b.jpg"]
    assert fetch(mirror=mirror, **tree).origin == "here"


def test_a_folder_takes_the_place_of_a_file_or_a_link_and_a_file_that_of_a_folder(fetch, raw, mirror, tree):
    put(raw / "set" / "images", b"a file")
    assert left_in(fetch(mirror=mirror, **tree).path) == ["a.jpg", "b.jpg"]
    (raw / "set" / "images").rename(raw / "elsewhere")
    (raw / "elsewhere" / "a.jpg").unlink()
    (raw / "set" / "images").symlink_to(raw / "elsewhere")
    assert left_in(fetch(mirror=mirror, **tree).path) == ["a.jpg", "b.jpg"]
    assert left_in(raw / "elsewhere") == ["b.jpg"]  # what a link leads to belongs to someone else
    put(mirror / "set" / "raw.bin")
    put(raw / "set" / "raw.bin" / "inside", b"")
    assert fetch(mirror=mirror).path.read_bytes() == CONTENT


def test_a_folder_that_differs_by_one_file_is_refused(fetch, raw, mirror, tree):
    put(mirror / "set" / "images" / "a.jpg", b"other")
    with pytest.raises(UserError, match=rf"images: md5.dir is \w+.dir, expected {tree['digest'][1]}; replace"):
        fetch(mirror=mirror, **tree)
    assert left_in(raw) == []


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused(fetch, raw, mirror, tree):
    (mirror / "set" / "raw.bin").mkdir()
    for changes in ({}, {"digest": None}):
        with pytest.raises(UserError, match="found a folder, expected a file"):
            fetch(mirror=mirror, **changes)
    with pytest.raises(UserError, match="found a file, expected a folder"):
        fetch(mirror=mirror, **tree | {"path": put(mirror / "set" / "file").relative_to(mirror)})
    assert left_in(raw) == []


@pytest.fixture
def archive(site, tmp_path, monkeypatch):
    """The pin of an archive that holds ``in/raw.bin`` and ``in/other.bin``, by its bytes; at the address /archive."""

    def pinned(content: bytes) -> str:
        url = site.url("archive", whole(content))
        text = f"outs: [{{path: raw/set/a.tgz, md5: {hashlib.md5(content).hexdigest()}}}]\n"
        put(tmp_path / "pins" / "a.dvc", f"{text}meta: {{licence: none, urls: ['{url}']}}\n".encode())
        return "a"

    monkeypatch.setattr(pins, "PIN_FOLDER", tmp_path / "pins")
    return pinned


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"in/{name}.bin")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_a_member_comes_out_of_its_archive_and_is_verified(fetch, raw, site, archive):
    name = archive(packed(raw=CONTENT, other=b"other"))
    found = fetch(archive=name, member="in/raw.bin")
    assert found.path.read_bytes() == CONTENT and found.origin == "from a.tgz"
    assert left_in(raw) == ["a.tgz", "raw.bin"] and len(site.asked) == 1
    with pytest.raises(UserError, match=r"a.tgz: raw.bin: md5 is .* expected"):
        found.path.unlink()
        fetch(archive=name, member="in/other.bin")
    assert left_in(raw) == ["a.tgz"] and len(site.asked) == 1


def test_an_archive_at_hand_goes_before_an_address_and_that_before_its_download(fetch, raw, mirror, site, archive):
    content = packed(raw=CONTENT)
    name = archive(content)
    own = site.url("own", whole(CONTENT))
    found = fetch(own, archive=name, member="in/raw.bin")
    assert found.origin == own and left_in(raw) == ["raw.bin"]
    found.path.unlink()
    put(mirror / "set" / "a.tgz", content)
    assert fetch(own, archive=name, member="in/raw.bin", mirror=mirror).origin == "from a.tgz"
    assert [asked.path for asked in site.asked] == ["/own"]


def test_an_archive_that_cannot_be_had_is_named(fetch, raw, site, archive):
    name = archive(packed(raw=CONTENT))
    site.url("archive", status(404))
    with pytest.raises(UserError, match=r"raw file set/a.tgz: .*/archive \(HTTP 404\)"):
        fetch(archive=name, member="in/raw.bin")
    assert left_in(raw) == []


@pytest.mark.parametrize("origin", ["network", "mirror", "by hand", "archive"])
def test_a_file_without_a_hash_is_sealed_on_first_sight_and_then_held_to_it(fetch, raw, mirror, site, archive, origin):
    put(mirror / "empty")
    url = [site.url("a", whole(CONTENT))] if origin == "network" else []
    changes = {"archive": archive(packed(raw=CONTENT)), "member": "in/raw.bin"} if origin == "archive" else {}
    if origin in ("mirror", "by hand"):
        put((mirror if origin == "mirror" else raw) / "set" / "raw.bin")
    found = fetch(*url, mirror=mirror, digest=None, **changes)
    assert found.path.read_bytes() == CONTENT
    check = subprocess.run(["md5sum", "-c", "raw.bin.md5"], cwd=raw / "set", capture_output=True, text=True)
    assert check.stdout == "raw.bin: OK\n"
    assert fetch(mirror=mirror, digest=None, **changes).origin == "here"

    put(mirror / "set" / "raw.bin", b"changed")
    assert fetch(mirror=mirror, digest=None, **changes).origin == "here"
    found.path.unlink()
    with pytest.raises(
        UserError, match=rf"expected {hashlib.md5(CONTENT).hexdigest()} as first seen \(delete .*raw.bin.md5"
    ):
        fetch(mirror=mirror, digest=None, **changes)
    (mirror / "set" / "raw.bin").unlink()
    with pytest.raises(UserError, match=r"\(not the file noted in .*raw.bin.md5\)"):
        fetch(site.url("b", whole(b"changed")), digest=None)
    put(found.path, b"changed")
    with pytest.raises(UserError, match="raw.bin has the wrong hash"):
        fetch(digest=None)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(raw, tmp_path):
    """The command line prints it in one line (``bench.options.OneLineErrors``)."""
    put(raw.parent / "file")
    with pytest.raises(NotADirectoryError):
        fetch_pin(a_pin(), Store(raw.parent / "file" / "raw"), PATIENCE)


def test_embedded_sets_need_no_file(raw):
    assert fetch_set("rings", Store(raw)) == []
    assert not raw.exists()
