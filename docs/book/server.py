"""A server for this machine alone, that answers with the policy the site is made for."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from docs.book.policy import POLICY


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with the right types, and the policy."""

    protocol_version = "HTTP/1.1"  # one connection for a page's many files
    extensions_map = {  # noqa: RUF012 - as the base class has it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        # a system's own table may say something else, with which no script would start
        ".css": "text/css",
        ".html": "text/html",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".svg": "image/svg+xml",
    }

    def end_headers(self) -> None:
        """Add the policy."""
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def handle(self) -> None:
        """Answer; a reader may turn the page while it still comes."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _server(site: Path, port: int) -> http.server.ThreadingHTTPServer:
    if not (site / "index.html").exists():
        raise SystemExit(f"no site at {site}: run first: python -m docs.book build")
    try:
        return http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), partial(Handler, directory=site)
        )
    except OSError as error:
        raise SystemExit(f"port {port}: {error.strerror}: name another with --port") from None


def serve(site: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    with _server(site, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """Serve while the block runs; yield the address."""
    with _server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
