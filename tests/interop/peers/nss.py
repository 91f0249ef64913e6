"""tstclnt and selfserv, NSS's own test programs. Their keys are in a database."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from quic_tlshd.request import Role
from quic_tlshd.tls.iana import NamedGroup
from tests.interop import table
from tests.interop.ours import NAME, PSK, PSK_IDENTITY, RETRY_GROUP, Files, issued
from tests.interop.table import KEY_TYPES, Scenario
from tests.interop.tcp import TcpPeer, twice

_PASSWORD = "interop"
_GROUPS = {
    NamedGroup.X25519: "x25519",
    NamedGroup.SECP256R1: "P256",
    NamedGroup.SECP384R1: "P384",
    NamedGroup.SECP521R1: "P521",
}


class Nss(TcpPeer):
    name = "NSS"

    def missing(self) -> str | None:
        return None if shutil.which("selfserv") else "libnss3-tools is not installed"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        if scenario.group is not None and scenario.group not in _GROUPS:
            return "NSS's test programs have no option for that group (tstclnt -I)"
        if scenario.name in ("ed25519", "ed448") or "mldsa" in scenario.name:
            return "NSS's TLS has no EdDSA and ML-DSA (tstclnt -J)"
        if scenario == table.EXTERNAL_PSK and role is Role.CLIENT:
            return "selfserv -z uses no external PSK, with tstclnt neither (3.87)"
        return None

    def settling(self, scenario: Scenario) -> float:
        return 10.5 if scenario == table.EARLY_DATA else 0.0  # its first window refuses all early data

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        database = _database(files)
        command: list[object] = ["tstclnt", "-h", "127.0.0.1", "-p", port, "-d", f"sql:{database}", "-a", NAME]
        command += ["-V", "tls1.3:tls1.3", "-A", files.request]
        if scenario == table.EXTERNAL_PSK:
            command += ["-z", f"0x{PSK}:{PSK_IDENTITY}"]
        if scenario == table.RETRY:
            command += ["-I", f"x25519,{_GROUPS[RETRY_GROUP]}"]
        if scenario.group is not None:
            command += ["-I", _GROUPS[scenario.group]]
        if scenario.scheme is not None:
            command += ["-J", f"{scenario.name},ecdsa_secp256r1_sha256"]  # the second for the issuer's signature
        if scenario == table.CLIENT_CERTIFICATE:
            _add(database, "client", "p256")
            command += ["-n", "client", "-w", _PASSWORD]
        if twice(scenario):
            command += ["-L", 2]
        if scenario == table.EARLY_DATA:
            command += ["-Z"]
        return [(command, b"")]

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        database = _database(files)
        command: list[object] = [
            "selfserv",
            "-p",
            port,
            "-d",
            f"sql:{database}",
            "-V",
            "tls1.3:tls1.3",
            "-w",
            _PASSWORD,
        ]
        key_type = "p256" if scenario.scheme is None else KEY_TYPES[scenario.scheme]
        _add(database, "server", key_type)
        command += ["-n" if key_type.startswith("rsa") else "-e", "server"]
        if scenario == table.EXTERNAL_PSK:
            command += ["-z", f"0x{PSK}:{PSK_IDENTITY}"]
        if scenario == table.RETRY:
            command += ["-I", _GROUPS[RETRY_GROUP]]
        if scenario.group is not None:
            command += ["-I", _GROUPS[scenario.group]]
        if scenario.scheme is not None:
            command += ["-J", f"{scenario.name},ecdsa_secp256r1_sha256"]
        if scenario == table.CLIENT_CERTIFICATE:
            command += ["-r", "-r"]
        if twice(scenario):
            command += ["-u"]
        if scenario == table.EARLY_DATA:
            command += ["-Z"]
        return command


def _database(files: Files) -> Path:
    """A new one, which trusts the root."""
    database = files.fresh("nss")
    database.mkdir()
    passwords = database / "password"
    passwords.write_text(_PASSWORD)
    _run("certutil", "-N", "-d", f"sql:{database}", "-f", passwords)
    _run("certutil", "-A", "-d", f"sql:{database}", "-f", passwords, "-n", "root", "-t", "CT,,", "-a", "-i", files.root)
    return database


def _add(database: Path, usage: str, key_type: str) -> None:
    certificate, key = issued(key_type, usage).write(database, usage)
    file = database / f"{usage}.p12"
    out = ("-passout", f"pass:{_PASSWORD}", "-name", usage, "-out", file)
    _run("openssl", "pkcs12", "-export", "-in", certificate, "-inkey", key, *out)
    _run("pk12util", "-i", file, "-d", f"sql:{database}", "-K", _PASSWORD, "-W", _PASSWORD)


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=30)
