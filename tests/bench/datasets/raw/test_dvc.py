"""The pins are DVC's: what is fetched here can be pushed by DVC, and what DVC pulls is found here."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from bench.datasets.raw import pins
from bench.datasets.raw.fetch import fetch_pin
from bench.datasets.raw.pins import digest_of, read_pin
from bench.datasets.raw.store import Store
from bench.errors import UserError
from bench.paths import ROOT

from .conftest import left_in, put

DVC = [found] if (found := shutil.which("dvc")) else [sys.executable, "-m", "dvc"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (found or importlib.util.find_spec("dvc")), reason="dvc is not installed: relaxbench[data]"),
]

FILE, FOLDER, UNKNOWN = "mnist-test-images", "bsds300-images", "bsds300-archive"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git and DVC repository with our pins of a file, a folder and a file without md5, of crafted content."""
    folder = tmp_path / "repository"
    for name in (FILE, FOLDER, UNKNOWN):
        put(folder / "data" / f"{name}.dvc", (ROOT / "data" / f"{name}.dvc").read_bytes())
    shutil.copy(ROOT / ".gitignore", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pins, "PIN_FOLDER", folder / "data")
    for name in ("DVC_NO_ANALYTICS", "CI"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    subprocess.run(["git", "init", "-q"], check=True)
    dvc("init", "-q")
    dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    return folder


def dvc(*arguments: str, fails: bool = False) -> str:
    """What DVC says to the command, on either channel."""
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, env=os.environ)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def pinned(name: str, **out: object) -> str:
    """Our pin as it is, but for the hash and size of crafted content; its text."""
    file = pins.PIN_FOLDER / f"{name}.dvc"
    document = yaml.safe_load(file.read_text())
    document["outs"][0].update(out)
    document["meta"].pop("sha256", None)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file.read_text()


def a_tree(folder):
    """Names that sort otherwise as paths than as strings, and a hidden one."""
    for name, content in {"a/b": b"1", "a.txt": b"2", "a-b/c/d": b"", "B": b"3", ".hidden": b"4", "é": b"5"}.items():
        put(folder / name, content)
    return folder


def test_what_is_fetched_here_travels_by_dvc(repository, tmp_path):
    mirror = tmp_path / "mirror"
    file = put(mirror / read_pin(FILE).path, b"a crafted file")
    tree = a_tree(mirror / read_pin(FOLDER).path)
    texts = {
        FILE: pinned(FILE, md5=hashlib.md5(b"a crafted file").hexdigest(), size=14),
        FOLDER: pinned(FOLDER, md5=digest_of(tree, "md5.dir"), size=5, nfiles=6),
    }
    targets = [f"data/{name}.dvc" for name in texts]
    store = Store(repository / "data" / "raw", mirror)
    assert [fetch_pin(name, store).origin for name in texts] == ["mirror", "mirror"]

    # Without --force DVC refuses what is not as pinned: that it does not refuse says that our hashes are its own.
    dvc("commit", *targets)
    assert {name: (pins.PIN_FOLDER / f"{name}.dvc").read_text() for name in texts} == texts
    assert "up to date" in dvc("status", *targets)
    assert "8 files pushed" in dvc("push", *targets)  # the file, six in the folder, the folder's list

    for folder in (store.raw, repository / ".dvc" / "cache", mirror):
        shutil.rmtree(folder)
    dvc("pull", *targets)
    offline = Store(store.raw)
    assert [fetch_pin(name, offline).origin for name in texts] == ["here", "here"]
    assert (store.raw / read_pin(FILE).path).read_bytes() == b"a crafted file"
    assert left_in(store.raw / read_pin(FOLDER).path) == sorted(["b", "a.txt", "d", "B", ".hidden", "é"])
    assert file.name in left_in(store.raw)

    put(store.raw / read_pin(FOLDER).path / "a" / "b", b"0")
    assert "modified" in dvc("status", *targets)
    with pytest.raises(UserError, match="has the wrong hash"):
        fetch_pin(FOLDER, offline)


def test_dvc_adds_the_same_hash_to_a_folder(repository):
    tree = a_tree(repository / "tree")
    dvc("add", "-q", "tree")
    assert yaml.safe_load((repository / "tree.dvc").read_text())["outs"][0]["md5"] == digest_of(tree, "md5.dir")


def test_a_pin_without_md5_gets_one_only_by_force_and_keeps_the_rest(repository):
    """DVC can neither push nor pull such a file; the sha256 in ``meta`` is for us alone."""
    before = pinned(UNKNOWN)
    target = f"data/{UNKNOWN}.dvc"
    pin = read_pin(UNKNOWN)
    put(repository / "data" / "raw" / pin.path, b"first seen")
    assert fetch_pin(UNKNOWN, Store(repository / "data" / "raw")).origin == "here"  # by a seal beside it
    assert "modified" in dvc("status", target)
    assert "unable to commit changed stage" in dvc("commit", target, fails=True)
    dvc("commit", "--force", target)
    after = read_pin(UNKNOWN)
    assert after.digest == ("md5", hashlib.md5(b"first seen").hexdigest()) and after.size == 10
    old, new = yaml.safe_load(before), yaml.safe_load((pins.PIN_FOLDER / f"{UNKNOWN}.dvc").read_text())
    assert new["meta"] == old["meta"] and new["outs"][0].items() >= old["outs"][0].items()
    assert "1 file pushed" in dvc("push", target)
