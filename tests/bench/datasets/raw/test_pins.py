"""Pins are read whole or refused; hashes are those of md5sum, sha1sum, sha256sum, git and DVC."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from bench.datasets.raw import pins
from bench.datasets.raw.pins import digest_of, expected, files_in, read_pin, seal, seal_of
from bench.errors import UserError

from .conftest import CONTENT, a_pin, put


def test_every_pin_of_the_repository_reads():
    names = sorted(file.stem for file in pins.PIN_FOLDER.glob("*.dvc"))
    assert "mnist-train-images" in names and "bsds300-images" in names
    for name in names:
        pin = read_pin(name)
        assert pin.name == name and pin.licence
        assert not pin.path.is_absolute() and ".." not in pin.path.parts
        assert all(url.startswith(("https://", "http://")) for url in pin.urls)
        assert (pin.archive is None) == (pin.member is None)
        assert pin.archive is None or pin.archive in names


def test_the_published_files_are_as_pinned(mirror):
    every = [read_pin(file.stem) for file in sorted(pins.PIN_FOLDER.glob("*.dvc"))]
    found = [pin for pin in every if (mirror / pin.path).exists()]
    assert found
    for pin in found:
        assert pin.digest is None or digest_of(mirror / pin.path, pin.digest[0]) == pin.digest[1], pin.name


def test_a_pin_as_written(tmp_path):
    (tmp_path / "x.dvc").write_text(
        "outs:\n- {md5: abc, size: 3, hash: md5, path: raw/set/x.bin}\n"
        "meta: {licence: CC0, urls: [https://a/x, https://b/x], archive: y, member: in/x}\n"
    )
    assert read_pin("x", tmp_path) == pins.Pin(
        "x", Path("set/x.bin"), "CC0", ("https://a/x", "https://b/x"), ("md5", "abc"), 3, "y", "in/x"
    )


@pytest.mark.parametrize(
    ("out", "meta", "digest"),
    [
        ("", "", None),
        ("md5: aa, ", "", ("md5", "aa")),
        ("md5: aa.dir, ", "", ("md5.dir", "aa.dir")),
        ("md5: aa, ", ", git: dd", ("git", "dd")),
        ("md5: aa, ", ", git: dd, sha1: bb", ("sha1", "bb")),
        ("md5: aa, ", ", git: dd, sha1: bb, sha256: cc", ("sha256", "cc")),
    ],
)
def test_the_strongest_hash_counts(tmp_path, out, meta, digest):
    (tmp_path / "x.dvc").write_text(f"outs: [{{{out}path: raw/x}}]\nmeta: {{licence: none{meta}}}\n")
    pin = read_pin("x", tmp_path)
    assert pin.digest == digest and pin.is_folder == (out == "md5: aa.dir, ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "outs: []\nmeta: {}",
        "outs: [{path: raw/a}]\nmeta: {urls: []}",
        "outs: [{path: elsewhere/a}]\nmeta: {licence: x}",
        "outs: [{path: raw/../../a}]\nmeta: {licence: x}",
        "outs: [{path: raw/a}]\nmeta: {licence: x, urls: https://a/x}",
        "outs: [{path: raw/a}]\nmeta: {licence: x, archive: y}",
        "outs: [{path: raw/a, md5: 11111111111111111111111111111111}]\nmeta: {licence: x}",
        "a: [",
        "x",
    ],
)
def test_a_malformed_pin_is_one_line(tmp_path, text):
    (tmp_path / "x.dvc").write_text(text)
    with pytest.raises(UserError, match="x.dvc: not a pin"):
        read_pin("x", tmp_path)


def test_a_missing_pin_is_one_line(tmp_path):
    with pytest.raises(UserError, match="x.dvc: not a pin"):
        read_pin("x", tmp_path)


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_hashes_are_those_of_the_usual_tools(tmp_path, content):
    file = put(tmp_path / "x", content)
    for algorithm, command in [
        ("md5", ["md5sum"]),
        ("sha1", ["sha1sum"]),
        ("sha256", ["sha256sum"]),
        ("git", ["git", "hash-object", "--no-filters"]),
    ]:
        said = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True).stdout
        assert digest_of(file, algorithm) == said.split()[0]


def a_tree(folder: Path) -> Path:
    """Names that sort otherwise as paths than as strings."""
    for name, content in {"a/b": b"1", "a.txt": b"2", "a-b/c/d": b"", "B": b"3", ".hidden": b"4", "é": b"5"}.items():
        put(folder / name, content)
    return folder


def test_the_hash_of_a_folder_by_hand(tmp_path):
    folder = a_tree(tmp_path / "t")
    files = [(".hidden", b"4"), ("B", b"3"), ("a-b/c/d", b""), ("a.txt", b"2"), ("a/b", b"1"), ("\\u00e9", b"5")]
    listed = ", ".join(f'{{"md5": "{hashlib.md5(c).hexdigest()}", "relpath": "{name}"}}' for name, c in files)
    assert digest_of(folder, "md5.dir") == hashlib.md5(f"[{listed}]".encode()).hexdigest() + ".dir"


@pytest.mark.parametrize("change", ["content", "name", "missing", "more"])
def test_one_file_changes_the_hash_of_a_folder(tmp_path, change):
    folder = a_tree(tmp_path / "t")
    before = digest_of(folder, "md5.dir")
    {
        "content": lambda: put(folder / "a" / "b", b"0"),
        "name": lambda: (folder / "a" / "b").rename(folder / "a" / "c"),
        "missing": lambda: (folder / "a-b" / "c" / "d").unlink(),
        "more": lambda: put(folder / "z", b""),
    }[change]()
    assert digest_of(folder, "md5.dir") != before


def test_a_folder_of_links_counts_as_what_it_leads_to(tmp_path):
    folder = a_tree(tmp_path / "t")
    links = tmp_path / "links"
    links.mkdir()
    for entry in folder.iterdir():
        (links / entry.name).symlink_to(entry)
    assert [name for name, _ in files_in(links)] == [name for name, _ in files_in(folder)]
    assert digest_of(links, "md5.dir") == digest_of(folder, "md5.dir")


def test_a_seal_is_what_md5sum_checks(raw):
    pin = a_pin(digest=None)
    assert expected(pin, raw) is None
    seal(pin, raw, put(raw / pin.path))
    assert expected(pin, raw) == ("md5", hashlib.md5(CONTENT).hexdigest())
    note = seal_of(pin, raw)
    check = ["md5sum", "-c", "--strict", note.name]
    assert subprocess.run(check, cwd=note.parent, capture_output=True).stdout == b"raw.bin: OK\n"
    put(raw / pin.path, b"changed")
    assert subprocess.run(check, cwd=note.parent, capture_output=True).returncode == 1


def test_a_published_hash_goes_before_a_seal(raw):
    pin = a_pin()
    seal(pin, raw, put(raw / pin.path, b"other"))
    assert expected(pin, raw) == pin.digest


@pytest.mark.parametrize("text", ["", "0cc175b9c0f1b6a831c399e269772661\n"])
def test_a_broken_seal_is_one_line(raw, text):
    pin = a_pin(digest=None)
    put(seal_of(pin, raw), text.encode())
    with pytest.raises(UserError, match="raw.bin.md5: not a line of md5sum; delete it"):
        expected(pin, raw)
