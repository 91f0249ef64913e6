"""openssl s_client and s_server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from quic_tlshd.request import Role
from quic_tlshd.tls.iana import NamedGroup
from tests.interop import table
from tests.interop.ours import NAME, PSK, PSK_IDENTITY, REQUEST, RETRY_GROUP, Answers, Files
from tests.interop.table import Scenario
from tests.interop.tcp import TcpPeer, twice

GROUPS = {
    NamedGroup.SECP256R1: "P-256",
    NamedGroup.SECP384R1: "P-384",
    NamedGroup.SECP521R1: "P-521",
    NamedGroup.X25519: "X25519",
    NamedGroup.X448: "X448",
    NamedGroup.X25519MLKEM768: "X25519MLKEM768",
    NamedGroup.SECP256R1MLKEM768: "SecP256r1MLKEM768",
    NamedGroup.SECP384R1MLKEM1024: "SecP384r1MLKEM1024",
}


@cache
def version() -> tuple[int, ...]:
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.split()[1].split(".")[:2]))


class OpenSsl(TcpPeer):
    name = "OpenSSL"

    def missing(self) -> str | None:
        return None if shutil.which("openssl") else "openssl is not installed"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        is_post_quantum = "mlkem" in scenario.name or "mldsa" in scenario.name
        if is_post_quantum and version() < (3, 5):
            return f"OpenSSL {'.'.join(map(str, version()))} has no ML-KEM and ML-DSA: they came with 3.5"
        return None

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        command: list[object] = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            "-servername",
            NAME,
            "-ign_eof",
        ]
        if scenario == table.EXTERNAL_PSK:
            command += ["-psk", PSK, "-psk_identity", PSK_IDENTITY]
        else:
            command += ["-CAfile", files.root, "-verify_return_error", "-verify_hostname", NAME]
        if scenario == table.RETRY:
            command += ["-groups", f"X25519:{GROUPS[RETRY_GROUP]}"]
        if scenario.group is not None:
            command += ["-groups", GROUPS[scenario.group]]
        if scenario == table.CLIENT_CERTIFICATE:
            certificate, key = files.identity("client")
            command += ["-cert", certificate, "-key", key]
        if not twice(scenario):
            return [(command, REQUEST)]
        session = files.fresh("session")
        again = [*command, "-sess_in", session]
        if scenario == table.EARLY_DATA:
            return [([*command, "-sess_out", session], REQUEST), ([*again, "-early_data", files.request], b"")]
        return [([*command, "-sess_out", session], REQUEST), (again, REQUEST)]

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        command: list[object] = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}"]
        command += ["-early_data"] if scenario == table.EARLY_DATA else ["-www"]
        if scenario == table.EXTERNAL_PSK:
            command += ["-nocert", "-psk", PSK, "-psk_identity", PSK_IDENTITY]
        else:
            certificate, key = files.identity("server", scenario)
            command += ["-cert", certificate, "-key", key]
        if scenario == table.RETRY:
            command += ["-groups", GROUPS[RETRY_GROUP]]
        if scenario.group is not None:
            command += ["-groups", GROUPS[scenario.group]]
        if scenario == table.CLIENT_CERTIFICATE:
            command += ["-Verify", 3, "-verify_return_error", "-CAfile", files.root]
        return command

    def answers(self, scenario: Scenario) -> Answers:
        return Answers.NONE if scenario == table.EARLY_DATA else Answers.ALL  # it can't be had with -www
