"""A real HTTP server on the loopback that misbehaves as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        asked = Asked(self.path, self.headers.get("Range"), time.monotonic())
        self.server.asked.append(asked)
        answers = self.server.answers[self.path]
        with contextlib.suppress(ConnectionError):  # the client hung up
            (answers.pop(0) if len(answers) > 1 else answers[0])(self, asked.start)
        self.close_connection = True

    def head(self, status: int, **fields: object) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Asked:
    """One request: its path, its Range header, when it came."""

    path: str
    range: str | None
    at: float

    @property
    def start(self) -> int:
        return int(self.range.removeprefix("bytes=").rstrip("-")) if self.range else 0


Answer = Callable[[Handler, int], None]


class Site(http.server.ThreadingHTTPServer):
    """``site.url("a", status(503), whole(content))`` answers the first request for /a by an error, all others well."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()

    def url(self, name: str, *answers: Answer) -> str:
        self.answers[f"/{name}"] = list(answers)
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, *_: object) -> None:
        """A handshake that the client refuses is no news."""

    @property
    def ranges(self) -> list[str | None]:
        return [asked.range for asked in self.asked]


def whole(content: bytes, pause: float = 0) -> Answer:
    """A good server: it resumes where it is asked to."""

    def answer(handler: Handler, start: int) -> None:
        time.sleep(pause)
        if start and start >= len(content):
            return handler.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        _begin(handler, start, len(content))
        handler.wfile.write(content[start:])

    return answer


def cut(content: bytes, size: int) -> Answer:
    """Hangs up after ``size`` bytes of the rest."""

    def answer(handler: Handler, start: int) -> None:
        _begin(handler, start, len(content))
        handler.wfile.write(content[start : start + size])

    return answer


def deaf(content: bytes, size: int | None = None) -> Answer:
    """Ignores Range; hangs up after ``size`` bytes."""

    def answer(handler: Handler, _: int) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[:size])

    return answer


def without_length(content: bytes) -> Answer:
    def answer(handler: Handler, _: int) -> None:
        handler.head(200)
        handler.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    """An error, with a page that nobody wants."""

    def answer(handler: Handler, _: int) -> None:
        handler.head(code, Content_Length=5)
        handler.wfile.write(b"sorry")

    return answer


def redirect(address: str) -> Answer:
    return lambda handler, _: handler.head(302, Location=address, Content_Length=0)


def drip(content: bytes, size: int, pause: float) -> Answer:
    """``size`` bytes at a time, with a pause after each; for ever, by beginning again."""

    def answer(handler: Handler, start: int) -> None:
        _begin(handler, start, 1 << 40)
        while not handler.server.closing.wait(pause):
            handler.wfile.write(content[:size])

    return answer


def stall(content: bytes, size: int) -> Answer:
    """``size`` bytes, then silence."""

    def answer(handler: Handler, start: int) -> None:
        _begin(handler, start, len(content))
        handler.wfile.write(content[start : start + size])
        handler.server.closing.wait()

    return answer


def silence(handler: Handler, _: int) -> None:
    """Not even a header."""
    handler.server.closing.wait()


def _begin(handler: Handler, start: int, length: int) -> None:
    if start:
        span = f"bytes {start}-{length - 1}/{length}"
        handler.head(206, Content_Length=length - start, Content_Range=span)
    else:
        handler.head(200, Content_Length=length)
