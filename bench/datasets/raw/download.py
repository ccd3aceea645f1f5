"""One file from one address, by libcurl: resumed, retried with growing pauses, ended when the server stalls."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.paths import disk_of

if TYPE_CHECKING:
    import pycurl


@dataclass(frozen=True)
class Patience:
    """How long an address is believed to be alive."""

    attempts: int = 4
    pause: float = 1.0  # seconds before the second attempt; each pause is twice the one before
    connect: int = 30  # seconds to connect
    stalled: int = 30  # seconds below SLOWEST bytes a second


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
    import pycurl

    with disk_of(part.parent), part.open("ab") as file:
        have = file.tell()
        handle = _handle(url, patience, have)
        failed: list[OSError] = []

        def write(block: bytes) -> int:
            try:
                return file.write(block)
            except OSError as error:  # libcurl would swallow it
                failed.append(error)
                return -1

        handle.setopt(pycurl.WRITEFUNCTION, write)
        code, reason = _perform(handle, title, have)
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        handle.close()
        if failed:
            raise failed[0]
        if code and have and (code == pycurl.E_RANGE_ERROR or status == 416):
            file.truncate(0)  # this server cannot resume, or what we have is not a beginning of what it has
            raise DownloadError("cannot resume")
    if code:
        raise DownloadError(f"HTTP {status}" if status >= 400 else reason)


def _handle(url: str, patience: Patience, have: int) -> pycurl.Curl:
    import certifi
    import pycurl

    handle = pycurl.Curl()
    settings = {
        pycurl.URL: url,
        pycurl.FAILONERROR: True,
        pycurl.FOLLOWLOCATION: True,
        pycurl.MAXREDIRS: 10,
        pycurl.PROTOCOLS_STR: "http,https",
        pycurl.REDIR_PROTOCOLS_STR: "http,https",
        pycurl.CAINFO: certifi.where(),
        pycurl.USERAGENT: "relaxbench",
        pycurl.CONNECTTIMEOUT: patience.connect,
        pycurl.LOW_SPEED_LIMIT: SLOWEST,
        pycurl.LOW_SPEED_TIME: patience.stalled,
        pycurl.RESUME_FROM_LARGE: have,
    }
    for option, value in settings.items():
        handle.setopt(option, value)
    return handle


def _perform(handle: pycurl.Curl, title: str, have: int) -> tuple[int, str]:
    """Run the transfer; (libcurl's error code, its words), (0, "") if all went well.

    By the multi interface, so that Ctrl-C is heard between its short waits.
    """
    import pycurl
    from tqdm import tqdm

    multi = pycurl.CurlMulti()
    multi.add_handle(handle)
    active = 1
    try:
        with tqdm(desc=title, unit="B", unit_scale=True, initial=have, disable=not sys.stderr.isatty()) as bar:
            while active:
                _, active = multi.perform()
                if (length := handle.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)) > 0:
                    bar.total = have + length
                bar.update(have + handle.getinfo(pycurl.SIZE_DOWNLOAD_T) - bar.n)
                multi.select(0.5)
        failures = multi.info_read()[2]
        return (failures[0][1], failures[0][2]) if failures else (0, "")
    finally:
        multi.remove_handle(handle)
