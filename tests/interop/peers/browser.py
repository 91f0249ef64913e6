"""Headless Chromium over TCP. One run of it visits the servers of all cells that wait for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path

from quic_tlshd.request import Role
from quic_tlshd.tls.iana import NamedGroup, SignatureScheme
from tests.interop import ours, table
from tests.interop.ours import NAME, Files, Visit, issued
from tests.interop.peer import output_of
from tests.interop.table import KEY_TYPES, Scenario
from tests.interop.tcp import twice
from tests.peers import chromium

_GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1, NamedGroup.X25519MLKEM768)
_SCHEMES = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
)
_GATHERING = 1.0  # seconds in which others may join a run
_PAGE = """<!DOCTYPE html>
<script>
for (const port of {ports}) {{
  const request = new XMLHttpRequest();
  request.open("GET", "https://{name}:" + port + "/" + Math.random(), false);
  try {{ request.send() }} catch {{}}  // it may not read the answer
}}
document.write("all visited");
</script>
"""


class Chromium:
    name = "Chromium"

    def __init__(self) -> None:
        self._ports: list[int] = []
        self._run: Awaitable[None] | None = None

    def missing(self) -> str | None:
        return None if chromium.find() else f"none of {', '.join(chromium.NAMES)} is installed"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        if role is Role.CLIENT:
            return "a client only"
        if scenario == table.EXTERNAL_PSK:
            return "Chromium has no external PSKs"
        if scenario == table.CLIENT_CERTIFICATE:
            return "Chromium shows a certificate unasked only by a policy in /etc (AutoSelectCertificateForUrls)"
        if scenario.group is not None and scenario.group not in _GROUPS:
            return "Chromium's BoringSSL offers X25519MLKEM768, X25519, P-256 and P-384"
        if scenario.scheme is not None and scenario.scheme not in _SCHEMES:
            return "Chromium's BoringSSL offers ECDSA with P-256 and P-384, and RSA-PSS with RSA keys"
        return None

    def prepare(self, files: Files) -> None:
        """Nothing to do."""

    async def run(self, role: Role, scenario: Scenario, files: Files) -> list[Visit]:
        async with ours.serving(files, scenario) as server:
            self._ports += [server.port] * (2 if twice(scenario) else 1)
            if self._run is None:
                self._run = asyncio.create_task(self._browse(files.fresh("chromium")))
            await asyncio.shield(self._run)
            assert server.visits, server.failures
            return server.visits

    async def _browse(self, directory: Path) -> None:
        await asyncio.sleep(_GATHERING)
        self._run, ports, self._ports = None, self._ports, []
        directory.mkdir()
        page = directory / "page.html"
        page.write_text(_PAGE.format(ports=ports, name=NAME))
        browser = chromium.find()
        assert browser is not None
        key_types = {"p256", *[KEY_TYPES[scheme] for scheme in _SCHEMES]}
        pins = ",".join([chromium.pin(issued(key_type, "server").certificate) for key_type in key_types])
        command = [browser, *chromium.OPTIONS, f"--user-data-dir={directory / 'profile'}"]
        command += [f"--ignore-certificate-errors-spki-list={pins}", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        command += ["--enable-features=EnableTLS13EarlyData", "--no-proxy-server"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        said = await output_of([*command, "--dump-dom", page.as_uri()])
        assert "all visited" in said, said
