"""-www: HTTP/1.0 (RFC 1945), as much of it as one page needs."""

from __future__ import annotations

from html import escape

from quic_tlshd.tls.events import Complete
from quic_tlshd.tools.drive import describe
from quic_tlshd.tools.stream import TlsStream

_MAX_REQUEST = 64 * 1024


async def serve_page(stream: TlsStream, complete: Complete) -> None:
    """Answer one request, whatever it is for, with a page that says what was negotiated."""
    request = b""
    while not request.endswith((b"\r\n\r\n", b"\n\n")) and len(request) < _MAX_REQUEST:
        data = await stream.read()
        if not data:
            break
        request += data
    if request:
        body = f"<!DOCTYPE html>\n<title>s_server</title>\n<p>{escape(describe(complete))}\n".encode()
        head = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        await stream.write(head + body)
    await stream.end()
