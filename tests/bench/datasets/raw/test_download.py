"""Bytes over HTTP, from servers that misbehave: the right file in the end, or none and one line."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import time

import pytest

from bench.errors import UserError

from .conftest import CONTENT, DEAD, left_in, put, serving
from .server import Site, cut, deaf, drip, redirect, silence, stall, status, whole, without_length

OTHER = bytes(len(CONTENT))


def refused(fetch, raw, *urls: str, **changes: object) -> str:
    """The one line of a fetch that fails and leaves nothing."""
    with pytest.raises(UserError) as error:
        fetch(*urls, **changes)
    assert left_in(raw) == []
    assert "\n" not in str(error.value)
    return str(error.value)


def fetched(fetch, raw, *urls: str, **changes: object) -> str:
    """The address that a fetch took the file from, which is right and alone."""
    found = fetch(*urls, **changes)
    assert found.path == raw / "set" / "raw.bin"
    assert found.path.read_bytes() == CONTENT
    assert left_in(raw) == ["raw.bin"]
    return found.origin


def test_a_good_server_is_asked_once(fetch, raw, site):
    url = site.url("a", whole(CONTENT))
    assert fetched(fetch, raw, url) == url
    assert fetched(fetch, raw, url) == "here"
    assert site.ranges == [None]


def test_a_cut_connection_is_resumed_where_it_was_cut(fetch, raw, site):
    fetched(fetch, raw, site.url("a", cut(CONTENT, 70_000), cut(CONTENT, 50_000), whole(CONTENT)))
    assert site.ranges == [None, "bytes=70000-", "bytes=120000-"]


def test_the_next_address_goes_on_where_the_last_one_stopped(fetch, raw, site):
    broken = site.url("a", cut(CONTENT, 70_000), status(503))
    good = site.url("b", whole(CONTENT))
    assert fetched(fetch, raw, broken, good) == good
    assert site.ranges == [None, "bytes=70000-", "bytes=70000-", "bytes=70000-"]


def test_a_server_that_ignores_range_begins_anew_at_once(fetch, raw, site):
    fetched(fetch, raw, site.url("a", deaf(CONTENT, 70_000), deaf(CONTENT)))
    assert site.ranges == [None, "bytes=70000-", None]


@pytest.mark.parametrize("changes", [{}, {"digest": None}])
def test_416_begins_anew(fetch, raw, site, changes):
    """libcurl takes 416 for "complete"; without a hash half a file would be believed."""
    found = fetch(site.url("a", cut(CONTENT, 70_000), status(416), whole(CONTENT)), **changes)
    assert found.path.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=70000-", None]


def test_wrong_bytes_are_refused_and_the_next_address_is_tried(fetch, raw, site):
    wrong, good = site.url("a", whole(OTHER)), site.url("b", whole(CONTENT))
    assert fetched(fetch, raw, wrong, good) == good
    assert site.ranges == [None, None]


def test_wrong_bytes_alone_leave_nothing(fetch, raw, site):
    url = site.url("a", whole(OTHER))
    assert f"tried {url} (wrong hash); give a folder" in refused(fetch, raw, url)


def test_two_halves_of_different_files_are_begun_anew(fetch, raw, site):
    wrong, good = site.url("a", cut(OTHER, 70_000), status(404)), site.url("b", whole(CONTENT))
    assert fetched(fetch, raw, wrong, good) == good
    assert site.ranges[-2:] == ["bytes=70000-", None]


@pytest.mark.parametrize(
    ("part", "ranges"),
    [
        (CONTENT[:90_000], ["bytes=90000-"]),  # of a run that was killed
        (OTHER[:90_000], ["bytes=90000-", None]),  # of another file
        (CONTENT, []),  # killed before it took its name
        (CONTENT + b"more", ["bytes=200004-", None]),
        (b"", [None]),
    ],
)
def test_what_an_earlier_run_left_is_used_if_it_fits(fetch, raw, site, part, ranges):
    put(raw / "set" / ".raw.bin.part", part)
    fetched(fetch, raw, site.url("a", whole(CONTENT)))
    assert site.ranges == ranges


def test_without_a_hash_an_earlier_part_is_not_trusted(fetch, raw, site):
    put(raw / "set" / ".raw.bin.part", CONTENT[:90_000])
    assert fetch(site.url("a", whole(CONTENT)), digest=None).path.read_bytes() == CONTENT
    assert site.ranges == [None]


@pytest.mark.parametrize("code", [404, 503])
def test_an_error_is_retried_with_growing_pauses_then_the_next_address(fetch, raw, site, code):
    broken, good = site.url("a", status(code)), site.url("b", whole(CONTENT))
    assert fetched(fetch, raw, broken, good) == good
    assert [asked.path for asked in site.asked] == ["/a", "/a", "/a", "/b"]
    first, second = (b.at - a.at for a, b in itertools.pairwise(site.asked[:3]))
    assert first >= 0.01 and second >= 0.02


def test_503_may_turn_200(fetch, raw, site):
    url = site.url("a", status(503), whole(CONTENT))
    assert fetched(fetch, raw, url) == url
    assert len(site.asked) == 2


def test_all_dead_is_one_line(fetch, raw, site):
    broken = site.url("a", status(404))
    line = refused(fetch, raw, DEAD, broken)
    assert line.startswith("raw file set/raw.bin: no mirror was given; tried http://127.0.0.1:9/raw.bin (")
    assert "connect" in line and f", {broken} (HTTP 404); give a folder that holds set/raw.bin: `--mirror" in line
    assert "`mirror=FOLDER`" in line


def test_a_redirect_is_followed(fetch, raw, site):
    fetched(fetch, raw, site.url("a", redirect(site.url("b", cut(CONTENT, 70_000), whole(CONTENT)))))
    assert [(asked.path, asked.range) for asked in site.asked[1::2]] == [("/b", None), ("/b", "bytes=70000-")]


def test_a_redirect_to_itself_ends(fetch, raw, site):
    url = site.url("a", redirect("/a"))
    assert "redirects" in refused(fetch, raw, url)


def test_neither_an_address_nor_a_redirect_reads_files(fetch, raw, site, tmp_path):
    secret = put(tmp_path / "secret").as_uri()
    for url in (secret, site.url("a", redirect(secret))):
        assert "file" in refused(fetch, raw, url).partition("tried")[2]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl(1) makes the certificate")
def test_a_certificate_is_checked_and_an_authority_of_ones_own_may_be_named(fetch, raw, tmp_path, monkeypatch):
    file = tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -addext subjectAltName=IP:127.0.0.1 -days 2"
    subprocess.run([*command.split(), "-keyout", file, "-out", tmp_path / "c"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (tmp_path / "c").read_bytes())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(Site(str(file))) as site:
        url = site.url("a", whole(CONTENT))
        assert "certificate" in refused(fetch, raw, url).partition("tried")[2] and site.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert fetched(fetch, raw, url) == url


def test_no_content_length(fetch, raw, site):
    fetched(fetch, raw, site.url("a", without_length(CONTENT)))


def test_a_cut_without_content_length_is_found_by_the_hash(fetch, raw, site):
    url = site.url("a", without_length(CONTENT[:70_000]))
    assert "wrong hash" in refused(fetch, raw, url)


@pytest.mark.parametrize(
    "slow", [silence, stall(CONTENT, 500), drip(CONTENT, 1, 0.3)], ids=["silence", "stall", "drip"]
)
def test_a_server_that_stalls_is_left_for_the_next(fetch, raw, site, slow):
    began = time.monotonic()
    good = site.url("b", whole(CONTENT))
    assert fetched(fetch, raw, site.url("a", slow, status(404)), good) == good
    assert 1 <= time.monotonic() - began < 4


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(child, fetch, raw, site):
    url = site.url("a", whole(CONTENT))
    full = child(url, limit=65_536)
    assert full.communicate()[1].startswith(f"UserError: no space left on the disk of {raw / 'set'}; free some")
    assert full.returncode == 1 and left_in(raw) == [".raw.bin.part"]
    assert site.ranges == [None]  # a full disk is no reason to ask again
    fetched(fetch, raw, url)
    assert site.ranges == [None, "bytes=65536-"]


def test_two_fetches_at_the_same_time_download_once(child, raw, site):
    url = site.url("a", whole(CONTENT, pause=0.5))
    both = [child(url), child(url)]
    assert sorted(process.communicate()[0].strip() for process in both) == sorted([url, "here"])
    assert site.ranges == [None] and left_in(raw) == ["raw.bin"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("answer", [stall(CONTENT, 70_000), drip(CONTENT, 65_536, 0.001)], ids=["idle", "busy"])
def test_a_signal_ends_it_at_once_and_leaves_only_the_part(child, raw, site, number, answer):
    process = child(site.url("a", answer))
    part = raw / "set" / ".raw.bin.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 60_000)
    process.send_signal(number)
    _, said = process.communicate(timeout=2)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert left_in(raw) == [".raw.bin.part"]
    assert part.read_bytes()[:60_000] == CONTENT[:60_000]
    assert site.ranges == [None]  # nobody took the signal for an error of the server


def test_a_signal_is_heard_whatever_it_interrupts(fetch, raw, site):
    """Not every pycurl passes on what is raised in a callback; the download would be tried again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    url = site.url("a", drip(CONTENT[:16_384], 16_384, 0))
    try:
        for trial in range(1, 21):
            signal.setitimer(signal.ITIMER_REAL, 0.015 + 0.001 * trial)
            with pytest.raises(KeyboardInterrupt):
                fetch(url)
            assert len(site.asked) <= trial
            (raw / "set" / ".raw.bin.part").unlink(missing_ok=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wait_until(true) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
