"""Two applications that share a UDP port: HTTP/3 pages, and a greeting that stands for SMB or anything else.

`ByAlpn` is for quic_tlshd.adapters.aioquic.serve; which application gets a connection is what ALPN says.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Protocol

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.events import ProtocolNegotiated, QuicEvent, StreamDataReceived

from quic_tlshd.adapters.aioquic import Connection, connection_of

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>quic-tlshd</title><link rel="icon" href="data:,"></head>
<body>
<h1>It works</h1>
<p>This connection's handshake was done by the handshake daemon, with the registry entry
<b id="entry">{entry}</b>, for the server name <b id="server-name">{server_name}</b>.</p>
<p>The browser came by <b id="protocol">something without JavaScript</b>.</p>
<script>
document.getElementById("protocol").textContent = performance.getEntriesByType("navigation")[0].nextHopProtocol;
</script>
</body>
</html>
"""


class Application(Protocol):
    """What is done with a connection's events; it sends through the connection, and ByAlpn transmits."""

    def take(self, event: QuicEvent) -> None: ...


class Http3Pages:
    """An HTTP/3 server (RFC 9114) with one page, which says who did the handshake."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http = H3Connection(connection)

    def take(self, event: QuicEvent) -> None:
        for each in self._http.handle_event(event):
            if isinstance(each, HeadersReceived):
                self._answer(each.stream_id, dict(each.headers))

    def _answer(self, stream_id: int, request: dict[bytes, bytes]) -> None:
        method = request.get(b":method")
        if method not in (b"GET", b"HEAD"):
            status, page = 405, ""
        elif request.get(b":path") != b"/":
            status, page = 404, "There is only one page here.\n"
        else:
            status, page = 200, self._page()
        headers = [
            (b":status", str(status).encode()),
            (b"content-type", b"text/html; charset=utf-8" if status == 200 else b"text/plain; charset=utf-8"),
            (b"content-length", str(len(page.encode())).encode()),
        ]
        self._http.send_headers(stream_id, headers, end_stream=method == b"HEAD")
        if method != b"HEAD":
            self._http.send_data(stream_id, page.encode(), end_stream=True)

    def _page(self) -> str:
        done = self._connection.handshake
        assert done is not None  # no request is read before the handshake is over
        return _PAGE.format(entry=escape(done.entry or "none"), server_name=escape(done.server_name or "none"))


class Greeting:
    """Answers on every stream of the client with who served it, once the client has said its name there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._said: dict[int, bytes] = {}

    def take(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            name = self._said.pop(event.stream_id, b"") + event.data
            if len(name) > 100 or event.stream_id & 2:  # 2: a stream that can't be answered on
                self._connection.stop_stream(event.stream_id, 0)
            elif event.end_stream:
                done = self._connection.handshake
                assert done is not None
                answer = f"Good day, {name.decode(errors='replace')}! Entry {done.entry} served you."
                self._connection.send_stream_data(event.stream_id, answer.encode(), end_stream=True)
            else:
                self._said[event.stream_id] = name


APPLICATIONS: dict[str, Callable[[Connection], Application]] = {"h3": Http3Pages, "smb": Greeting}


class ByAlpn(QuicConnectionProtocol):
    """Gives a connection to the application that its ALPN names."""

    _application: Application | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated) and event.alpn_protocol in APPLICATIONS:
            self._application = APPLICATIONS[event.alpn_protocol](connection_of(self))
        if self._application is not None:
            self._application.take(event)
