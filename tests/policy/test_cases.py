"""The table of chains against ourselves, `openssl verify -x509_strict` and GnuTLS's `certtool --verify`.

Where one of them decides otherwise, the table has the reason.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.text import is_address
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.tls.alert import AlertDescription, PeerError
from tests.peers.crafted import NOW
from tests.policy.cases import CASES, Case


def _name(case: Case) -> str:
    return case.id


def _openssl_version() -> tuple[int, int]:
    if shutil.which("openssl") is None:
        return (0, 0)
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    major, minor = said.split()[1].split(".")[:2]
    return int(major), int(minor)


def _comparable(other: str) -> list[Case]:
    version = _openssl_version()
    return [case for case in CASES if getattr(case, other) is None and (other != "openssl" or case.since <= version)]


def judge(case: Case) -> AlertDescription | None:
    trust = TrustStore(TrustAnchors("test", tuple(anchor.der for anchor in case.anchors)))
    chain = tuple(member.der for member in case.chain)
    try:
        if case.host is None:
            trust.verify_client(chain, NOW)
        else:
            trust.verify_server(chain, case.host, NOW)
    except PeerError as error:
        return error.alert
    return None


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_our_verdict(case: Case) -> None:
    assert judge(case) is case.alert


def test_the_table_is_a_table() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    for other in ("openssl", "gnutls"):
        assert sum(getattr(case, other) is None for case in CASES) >= 60


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
@pytest.mark.parametrize("case", _comparable("openssl"), ids=_name)
def test_openssl_agrees(case: Case, tmp_path: Path) -> None:
    anchors, others, end = tmp_path / "anchors", tmp_path / "others", tmp_path / "end"
    anchors.write_bytes(b"".join(anchor.pem for anchor in case.anchors))
    others.write_bytes(b"".join(member.pem for member in case.chain[1:]))
    end.write_bytes(case.chain[0].pem)
    command = ["openssl", "verify", "-x509_strict", "-partial_chain", "-auth_level", "2"]
    command += ["-CAfile", str(anchors), "-no-CApath", "-no-CAstore"]
    command += ["-untrusted", str(others)] if len(case.chain) > 1 else []
    command += ["-purpose", "sslclient" if case.host is None else "sslserver"]
    if case.host is not None:
        command += ["-verify_ip" if is_address(case.host) else "-verify_hostname", case.host]
    result = subprocess.run([*command, str(end)], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is (case.alert is None), result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("certtool") is None, reason="no certtool (gnutls-bin)")
@pytest.mark.parametrize("case", _comparable("gnutls"), ids=_name)
def test_gnutls_agrees(case: Case, tmp_path: Path) -> None:
    anchors, chain = tmp_path / "anchors", tmp_path / "chain"
    anchors.write_bytes(b"".join(anchor.pem for anchor in case.anchors))
    chain.write_bytes(b"".join(member.pem for member in case.chain))
    purpose = "1.3.6.1.5.5.7.3.2" if case.host is None else "1.3.6.1.5.5.7.3.1"
    command = ["certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", str(anchors)]
    command += ["--infile", str(chain), "--verify-purpose", purpose]
    if case.host is not None:
        command += ["--verify-hostname", str(ip_address(case.host)) if is_address(case.host) else case.host]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is (case.alert is None), result.stdout + result.stderr
