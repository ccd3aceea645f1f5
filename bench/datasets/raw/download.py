"""One file from one address, by libcurl: resumed, retried with growing pauses, ended when the server stalls."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bench.paths import disk_of

if TYPE_CHECKING:
    import pycurl


@dataclass(frozen=True)
class Patience:
    """How long an address is believed to be alive."""

    attempts: int = 4
    pause: float = 1.0  # seconds before the second attempt; each pause is twice the one before
    connect: int = 30  # seconds to connect
    stalled: int = 30  # seconds below SLOWEST bytes a second, in libcurl's mean of the last 5


SLOWEST = 1024


class DownloadError(Exception):
    """Why an address gave no file, in a few words."""


def download(url: str, part: Path, patience: Patience, title: str) -> None:
    """Bring ``url`` into the file ``part``, going on where an earlier attempt stopped.

    DownloadError when every attempt failed; what has come so far stays in ``part``. Whether the bytes are the right
    ones is for the caller to find out.
    """
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=tenacity.wait_exponential(multiplier=patience.pause, max=60),
        retry=tenacity.retry_if_exception_type(DownloadError),
        reraise=True,
    )
    retrying(_attempt, url, part, patience, title)


def _attempt(url: str, part: Path, patience: Patience, title: str) -> None:
    with disk_of(part.parent), part.open("ab") as file:
        if not _transfer(url, file, patience, title):
            file.seek(0)
            file.truncate()
            _transfer(url, file, patience, title)


def _transfer(url: str, file: BinaryIO, patience: Patience, title: str) -> bool:
    """Append to ``file`` what it still lacks; False where the server cannot go on from there, and nothing is written.

    By the multi interface, so that Ctrl-C is heard between its short waits; and libcurl calls no Python of ours, for
    older versions of pycurl swallow what is raised in a callback (a signal, a full disk).
    """
    import pycurl
    from tqdm import tqdm

    have = file.tell()
    blocks: list[bytes] = []
    handle = _handle(url, patience, have)
    handle.setopt(pycurl.WRITEFUNCTION, blocks.append)
    multi = pycurl.CurlMulti()
    multi.add_handle(handle)
    active = 1
    try:
        with tqdm(desc=title, unit="B", unit_scale=True, initial=have, disable=not sys.stderr.isatty()) as bar:
            while active:
                _, active = multi.perform()
                file.writelines(blocks)
                rest = handle.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)
                bar.total = have + rest if rest > 0 else None
                bar.update(sum(map(len, blocks)))
                blocks.clear()
                if active and multi.select(0.5) < 0:
                    time.sleep(0.05)  # nothing to wait for yet: the name is being resolved
        failures = multi.info_read()[2]
        code, reason = failures[0][1:] if failures else (pycurl.E_OK, "")
        status = handle.getinfo(pycurl.RESPONSE_CODE)
    finally:
        multi.remove_handle(handle)
        multi.close()
        handle.close()
    # libcurl takes 416 for "the file is complete". It may as well be another file.
    if have and (code == pycurl.E_RANGE_ERROR or status == 416):
        return False
    if code:
        raise DownloadError(f"HTTP {status}" if code == pycurl.E_HTTP_RETURNED_ERROR else reason)
    return True


def _handle(url: str, patience: Patience, have: int) -> pycurl.Curl:
    import certifi
    import pycurl

    handle = pycurl.Curl()
    settings = {
        pycurl.URL: url,
        pycurl.FAILONERROR: True,
        pycurl.FOLLOWLOCATION: True,
        pycurl.MAXREDIRS: 10,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,  # of redirects too
        # The variable of OpenSSL, for networks with an authority of their own.
        pycurl.CAINFO: os.environ.get("SSL_CERT_FILE") or certifi.where(),
        pycurl.USERAGENT: "relaxbench",
        pycurl.CONNECTTIMEOUT: patience.connect,
        pycurl.LOW_SPEED_LIMIT: SLOWEST,
        pycurl.LOW_SPEED_TIME: patience.stalled,
        pycurl.RESUME_FROM_LARGE: have,
    }
    for option, value in settings.items():
        handle.setopt(option, value)
    return handle
