"""HTTP pages read once a second, cheaply: a metrics page may have megabytes."""

from __future__ import annotations

import http.client
import socket
import time
from typing import Final
from urllib.parse import urlsplit

from capacity import files
from capacity.errors import UsageError
from capacity.observe.vitals import LATE, NO_ANSWER, NotMeasuredError

CHUNK: Final = 131072
"""Bytes read at a time."""
LARGEST: Final = 256 * 2**20
"""Bytes an answer may have."""


class Site:
    """One HTTP server.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT/path`` or ``https://``.
    option : str
        What a wrong URL is called in the error.
    timeout : float
        For connecting and for each part of an answer [s].
    """

    def __init__(self, url: str, option: str, timeout: float = 0.7) -> None:
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, self.host = urlsplit(""), ""
        if parts.scheme not in ("http", "https") or not 0 < len(self.host) <= 253 or parts.username is not None:
            # A URL with a user in it may hold a password: it is not repeated.
            shown = "a URL with a user in it" if "@" in url else files.shown(url, 100)
            raise UsageError(f"{option} is {shown}", allowed="http://HOST:PORT/PATH or https://…, without a password")
        self.path = parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")
        self._secure = parts.scheme == "https"
        self._timeout = timeout
        self._buffer = bytearray()  # kept: fresh memory for megabytes costs as much as reading them

    def get(self, path: str, patience: float = 5.0) -> tuple[bytearray, int]:
        """Return a buffer and how much of it is an answer's body; the next answer overwrites it.

        Raises
        ------
        NotMeasuredError
            If there is none, another status than 200, or no end of it within `patience` seconds.
        """
        connection: http.client.HTTPConnection | None = None
        until = time.monotonic() + patience
        try:
            kind = _SecureConnection if self._secure else _Connection
            connection = kind(self.host, self.port, timeout=self._timeout)
            connection.connect()
            # The reader is woken once for much instead of for each of the server's small writes; the end wakes it too.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, CHUNK)
            connection.request("GET", path or "/")
            response = connection.getresponse()
            if response.status != 200:
                raise NotMeasuredError(f"HTTP status {response.status} for {path.partition('?')[0] or '/'}")
            return self._filled(response, until)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise NotMeasuredError(f"{LATE} {self._timeout:g} s") from error
            reason = error.strerror or type(error).__name__
            raise NotMeasuredError(f"{NO_ANSWER}: {reason.lower()}") from error
        except (http.client.HTTPException, UnicodeError) as error:  # a host or path that HTTP has no words for
            raise NotMeasuredError(f"{NO_ANSWER}: not an HTTP server ({type(error).__name__})") from error
        finally:
            if connection is not None:
                connection.close()

    def _filled(self, response: http.client.HTTPResponse, until: float) -> tuple[bytearray, int]:
        size = 0
        while True:
            if len(self._buffer) - size < CHUNK:
                self._buffer = self._buffer + bytes(max(len(self._buffer), 2 * CHUNK))
            read = response.readinto(memoryview(self._buffer)[size : size + CHUNK])
            size += read
            if not read:
                return self._buffer, size
            if time.monotonic() > until or size > LARGEST:
                raise NotMeasuredError("the answer has no end")


class _Connection(http.client.HTTPConnection):
    # In HTTP/1.0 an answer is one stream; the many small chunks of 1.1 cost three times the reading.
    _http_vsn, _http_vsn_str = 10, "HTTP/1.0"


class _SecureConnection(http.client.HTTPSConnection):
    _http_vsn, _http_vsn_str = 10, "HTTP/1.0"
