"""gnutls-cli and gnutls-serv."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from quic_tlshd.request import Role
from tests.interop import table
from tests.interop.ours import NAME, PSK, PSK_IDENTITY, REQUEST, RETRY_GROUP, Answers, Files
from tests.interop.table import Scenario
from tests.interop.tcp import TcpPeer, twice


@cache
def listed() -> str:
    """What it has, in lower case and without the differences in spelling."""
    said = subprocess.run(["gnutls-cli", "--list"], capture_output=True, text=True, check=True).stdout
    return said.lower().replace("-", "")


@cache
def version() -> str:
    said = subprocess.run(["gnutls-cli", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[1]


class GnuTls(TcpPeer):
    name = "GnuTLS"

    def missing(self) -> str | None:
        return None if shutil.which("gnutls-cli") else "gnutls-bin is not installed"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        for kind in ("mlkem", "mldsa"):
            if kind in scenario.name and kind not in listed():
                return f"GnuTLS {version()} of Debian has no ML-KEM and ML-DSA (gnutls-cli --list)"
        return None

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        command: list[object] = ["gnutls-cli", "--port", port, "--single-key-share", "--sni-hostname", NAME]
        command += ["--priority", _priority(scenario, server=False)]
        if scenario == table.EXTERNAL_PSK:
            command += ["--pskusername", PSK_IDENTITY, "--pskkey", PSK]
        else:
            command += ["--x509cafile", files.root, "--verify-hostname", NAME]
        if scenario == table.CLIENT_CERTIFICATE:
            certificate, key = files.identity("client")
            command += ["--x509certfile", certificate, "--x509keyfile", key]
        if twice(scenario):
            command += ["--resume", "--waitresumption"]
        if scenario == table.EARLY_DATA:
            return [([*command, "--earlydata", files.request, "127.0.0.1"], b"")]
        return [([*command, "127.0.0.1"], REQUEST)]

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        command: list[object] = ["gnutls-serv", "--port", port, "--http", "--quiet"]
        command += ["--priority", _priority(scenario, server=True)]
        if scenario == table.EXTERNAL_PSK:
            passwords = files.fresh("psk")
            passwords.write_text(f"{PSK_IDENTITY}:{PSK}\n")
            command += ["--pskpasswd", passwords]
        else:
            certificate, key = files.identity("server", scenario)
            command += ["--x509certfile", certificate, "--x509keyfile", key]
        if scenario == table.CLIENT_CERTIFICATE:
            command += ["--require-client-cert", "--verify-client-cert", "--x509cafile", files.root]
        else:
            command += ["--disable-client-cert"]
        if scenario == table.EARLY_DATA:
            command += ["--earlydata", "--maxearlydata", "1000"]
        return command

    def answers(self, scenario: Scenario) -> Answers:
        return Answers.LATER if scenario == table.EARLY_DATA else Answers.ALL


def _priority(scenario: Scenario, *, server: bool) -> str:
    priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
    if scenario == table.EXTERNAL_PSK:
        priority += ":+DHE-PSK:+PSK:+ECDHE-PSK"
    if scenario.group is not None:
        priority += f":-GROUP-ALL:+GROUP-{scenario.group.name}"
    if scenario == table.RETRY:
        priority += f":-GROUP-ALL:{'' if server else '+GROUP-X25519:'}+GROUP-{RETRY_GROUP.name}"
    return priority
