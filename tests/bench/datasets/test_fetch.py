"""Raw files come verified, from the nearest place that has them, or not at all."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

from bench.datasets import pins
from bench.datasets.fetch import fetch, fetch_pin
from bench.datasets.pins import Pin, Tree, read_pin, tree_hash
from bench.errors import UserError

CONTENT = b"raw bytes"
NOWHERE = "http://127.0.0.1:9/raw.bin"


def pin(*urls: str, **changes: object) -> Pin:
    values = {"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return Pin(**{"name": "x", "path": Path("set/raw.bin"), "licence": "none", "urls": urls, **values, **changes})


@pytest.fixture
def server(tmp_path):
    """A real server of the folder ``served``; yields its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.bin").write_bytes(CONTENT)
    (folder / "bad.bin").write_bytes(b"other bytes")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def a_mirror(tmp_path: Path, content: bytes = CONTENT) -> Path:
    file = tmp_path / "mirror" / "set" / "raw.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return tmp_path / "mirror"


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_verified_local_copy_is_enough(raw):
    (raw / "set").mkdir(parents=True)
    (raw / "set" / "raw.bin").write_bytes(CONTENT)
    assert fetch_pin(pin(NOWHERE), raw=raw, mirror=None, network=True) == raw / "set" / "raw.bin"


def test_a_wrong_local_copy_is_replaced_from_the_mirror(raw, tmp_path):
    (raw / "set").mkdir(parents=True)
    (raw / "set" / "raw.bin").write_bytes(b"half")
    assert fetch_pin(pin(NOWHERE), raw=raw, mirror=a_mirror(tmp_path)).read_bytes() == CONTENT
    assert left_in(raw) == ["raw.bin"]


def test_a_wrong_file_in_the_mirror_is_refused(raw, tmp_path):
    folder = a_mirror(tmp_path, b"other bytes")
    with pytest.raises(UserError) as error:
        fetch_pin(pin(NOWHERE), raw=raw, mirror=folder)
    line = str(error.value)
    assert str(folder / "set" / "raw.bin") in line
    assert hashlib.sha256(CONTENT).hexdigest() in line and hashlib.sha256(b"other bytes").hexdigest() in line
    assert left_in(raw) == []


def test_only_an_md5_will_do(raw, tmp_path):
    with pytest.raises(UserError, match="md5 is"):
        fetch_pin(pin(sha256=None), raw=raw, mirror=a_mirror(tmp_path, b"other bytes"))


def test_a_mirror_must_exist(raw, tmp_path):
    with pytest.raises(UserError, match="is not a folder; correct `mirror`"):
        fetch_pin(pin(), raw=raw, mirror=tmp_path / "nowhere")


def test_addresses_are_tried_in_turn(raw, server):
    addresses = NOWHERE, f"{server}/missing.bin", f"{server}/bad.bin", f"{server}/good.bin"
    assert fetch_pin(pin(*addresses), raw=raw, mirror=None, network=True).read_bytes() == CONTENT
    assert left_in(raw) == ["raw.bin"]


def test_when_all_addresses_fail_one_line_says_so(raw, server, tmp_path):
    addresses = NOWHERE, f"{server}/missing.bin", f"{server}/bad.bin"
    with pytest.raises(UserError) as error:
        fetch_pin(pin(*addresses), raw=raw, mirror=None, network=True)
    line = str(error.value)
    assert "\n" not in line and "raw file set/raw.bin: no mirror was given" in line
    assert f"{NOWHERE} (ConnectionError), {server}/missing.bin (HTTP 404), {server}/bad.bin (wrong hash)" in line
    assert "`mirror=FOLDER`" in line
    assert left_in(raw) == []


def test_a_file_without_an_address_asks_for_a_mirror(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"not in the mirror as .*raw.bin; it has no public address of its own; give"):
        fetch_pin(pin(), raw=raw, mirror=tmp_path / "empty")


def test_a_full_disk_leaves_nothing(raw, tmp_path, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="no space left"):
        fetch_pin(pin(), raw=raw, mirror=a_mirror(tmp_path))
    assert left_in(raw) == []


def a_tree(root: Path) -> Tree:
    (root / "SET" / "images" / "train").mkdir(parents=True)
    (root / "SET" / "images" / "train" / "b.jpg").write_bytes(b"two")
    (root / "SET" / "images" / "a.jpg").write_bytes(b"one")
    by_hand = hashlib.sha256(b"SET/images/a.jpg\0oneSET/images/train/b.jpg\0two").hexdigest()
    assert tree_hash(root / "SET" / "images", Path("SET/images")) == by_hand
    return Tree(Path("SET/images"), by_hand)


def test_a_mirror_may_hold_the_tree_instead_of_the_archive(raw, tmp_path):
    tree = a_tree(tmp_path / "mirror" / "set")
    folder = fetch_pin(pin(tree=tree), raw=raw, mirror=tmp_path / "mirror")
    assert folder == raw / "set" / "SET" / "images" and left_in(folder) == ["a.jpg", "b.jpg"]
    (folder / "a.jpg").unlink()
    assert left_in(fetch_pin(pin(tree=tree), raw=raw, mirror=tmp_path / "mirror")) == ["a.jpg", "b.jpg"]


def test_a_changed_tree_is_refused(raw, tmp_path):
    tree = a_tree(tmp_path / "mirror" / "set")
    (tmp_path / "mirror" / "set" / "SET" / "images" / "a.jpg").write_bytes(b"other")
    with pytest.raises(UserError, match=f"sha256 of the tree is .*expected {tree.sha256}"):
        fetch_pin(pin(tree=tree), raw=raw, mirror=tmp_path / "mirror")
    assert left_in(raw) == []


def test_an_archive_is_unpacked_and_its_tree_verified(raw, tmp_path):
    tree = a_tree(tmp_path / "content")
    archive = tmp_path / "mirror" / "set" / "raw.bin"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "content" / "SET", "SET")
    found = pin(tree=tree, md5=None, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    assert left_in(fetch_pin(found, raw=raw, mirror=tmp_path / "mirror")) == ["a.jpg", "b.jpg"]


def test_an_archive_that_reaches_outside_is_refused(raw, tmp_path):
    tree = a_tree(tmp_path / "content")
    archive = tmp_path / "mirror" / "set" / "raw.bin"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "content" / "SET" / "images" / "a.jpg", "../../escaped.jpg")
    found = pin(tree=tree, md5=None, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="refused while extracting"):
        fetch_pin(found, raw=raw, mirror=tmp_path / "mirror")
    assert not list(tmp_path.rglob("escaped.jpg"))


def test_every_pin_of_the_repository_reads():
    names = sorted(file.stem for file in pins.PIN_FOLDER.glob("*.dvc"))
    assert "mnist-train-images" in names and "bsds300-images" in names
    for name in names:
        found = read_pin(name)
        assert found.licence and not found.path.is_absolute()
        assert all(url.startswith("https://") for url in found.urls)


@pytest.mark.parametrize(
    "text", ["", "outs: []\nmeta: {}", "outs: [{path: raw/a}]\nmeta: {licence: x, urls: []}", "a: ["]
)
def test_a_malformed_pin_is_one_line(tmp_path, text):
    (tmp_path / "x.dvc").write_text(text)
    with pytest.raises(UserError, match="x.dvc: n"):
        read_pin("x", tmp_path)


def test_embedded_sets_need_no_file(raw):
    assert fetch("rings", raw=raw, mirror=None) == []
