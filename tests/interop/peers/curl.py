"""curl, with the TLS library that it was built with, over HTTP/1.1."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from quic_tlshd.request import Role
from tests.interop import table
from tests.interop.ours import NAME, RETRY_GROUP, Files
from tests.interop.peers import openssl
from tests.interop.table import Scenario
from tests.interop.tcp import TcpPeer, twice


@cache
def library() -> str:
    """Its version line: curl 7.88.1 (…) libcurl/7.88.1 OpenSSL/3.0.17 …"""
    return subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class Curl(TcpPeer):
    name = "curl"

    def missing(self) -> str | None:
        if shutil.which("curl") is None:
            return "curl is not installed"
        return None if "OpenSSL" in library() else f"written for a curl with OpenSSL, not {library()}"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        if role is Role.CLIENT:
            return "a client only"
        if scenario == table.EARLY_DATA:
            return "curl sends early data with GnuTLS only, since 8.11 (--tls-earlydata)"
        if scenario == table.EXTERNAL_PSK:
            return "curl has no external PSKs"
        return openssl.OpenSsl().cannot(role, scenario)

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        command: list[object] = ["curl", "--silent", "--show-error", "--max-time", 20, "--cacert", files.root]
        command += ["--noproxy", "*", "--resolve", f"{NAME}:{port}:127.0.0.1"]
        if scenario.group is not None:
            command += ["--curves", openssl.GROUPS[scenario.group]]
        if scenario == table.RETRY:
            command += ["--curves", f"X25519:{openssl.GROUPS[RETRY_GROUP]}"]
        if scenario == table.CLIENT_CERTIFICATE:
            certificate, key = files.identity("client")
            command += ["--cert", certificate, "--key", key]
        address = f"https://{NAME}:{port}/"
        return [([*command, *[address] * (2 if twice(scenario) else 1)], b"")]
