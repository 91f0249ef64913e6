"""A browser loads a page over HTTP/3 whose handshake the daemon did."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration

from quic_tlshd.adapters.aioquic import serve
from quic_tlshd.demo.applications import ByAlpn
from tests.peers import chromium
from tests.peers.aioquic_peer import HOST, closing
from tests.peers.daemon import Daemon
from tests.peers.pki import Issued

BROWSER = chromium.find()


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(chromium.NAMES)} is installed: apt install chromium")
async def test_a_browser_loads_a_page_over_quic(daemon: Daemon, identities: dict[str, Issued], tmp_path: Path) -> None:
    assert BROWSER is not None
    before = len(daemon.log())
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3", "smb"])
    async with closing(
        await serve(HOST, 0, configuration=configuration, create_protocol=ByAlpn, daemon=daemon.socket)
    ) as server:
        dom, errors = await asyncio.to_thread(
            chromium.load, BROWSER, server.port, identities["h3"].certificate, tmp_path / "profile"
        )
    said = dict(re.findall(r'<b id="([a-z-]+)">([^<]*)</b>', dom))
    assert said == {"entry": "h3", "server-name": "localhost", "protocol": "h3"}, (dom, errors, daemon.log()[before:])
    line, *_ = daemon.lines_since(before)
    assert "done: entry h3, ALPN h3, server name localhost" in line
