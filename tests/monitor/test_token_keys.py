"""Entries whose keys are in a PKCS #11 token, in the real daemon."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from errno import EIO
from pathlib import Path

import pytest

from netlink.upcall import UpcallConnection
from quic_tlshd.control.check import check
from quic_tlshd.policy import config
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.credentials import Pace
from quic_tlshd.policy.entries import load
from quic_tlshd.tls.alert import AlertDescription as A
from tests.peers import pki, quic_stack, softhsm
from tests.peers.daemon import Daemon, Entry, entry, running

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: see the extra `pkcs11`")
pytestmark = [softhsm.needed, softhsm.quiet]

ROOT = pki.Authority("root")
KEY_TYPES = ("rsa", "p384", "ed25519")


def in_token(folder: Path, name: str, issued: pki.Issued, **options: str) -> Entry:
    certificate = folder / f"{name}.pem"
    certificate.write_bytes(issued.pem)
    return entry(certificate=str(certificate), private_key=softhsm.token().store(issued.private_key), **options)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("token")
    store = ROOT.write(folder / "root.pem")
    entries = {name: in_token(folder, name, ROOT.issue(("a.example",), key_type=name), alpn=name) for name in KEY_TYPES}
    entries["file"] = entry(ROOT.issue(("a.example",)), alpn="file")
    with running(entries, client={"x509.truststore": str(store)}) as started:
        yield started


async def handshake(daemon: Daemon, alpn: str) -> quic_stack.Result:
    async with await UpcallConnection.open(daemon.socket) as connection:
        return await quic_stack.handshake(connection, connection, peername="a.example", alpn=(alpn.encode(),))


@pytest.mark.parametrize("key_type", KEY_TYPES)
async def test_the_token_signs(daemon: Daemon, key_type: str) -> None:
    results = await asyncio.gather(*[handshake(daemon, key_type) for _ in range(8)])
    assert {(result.client.status, result.server.status) for result in results} == {(0, 0)}
    assert {result.server.entry for result in results} == {key_type}


async def test_a_reload_goes_on_with_the_session(daemon: Daemon) -> None:
    for number in range(1, 4):
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for_log("reloaded:", number)
        result = await handshake(daemon, "rsa")
        assert (result.client.status, result.server.status) == (0, 0)


async def test_without_the_token_its_handshakes_fail_and_others_do_not(daemon: Daemon) -> None:
    hsm = softhsm.token()
    hsm.tokens.rename(hsm.folder / "gone")
    try:
        result = await handshake(daemon, "rsa")
        assert (result.server.status, result.server.alert) == (EIO, A.INTERNAL_ERROR)
        assert "the private key can't be used" in (result.server.reason or "")
        assert result.client_stack.alert is None
        result = await handshake(daemon, "file")
        assert (result.client.status, result.server.status) == (0, 0)
    finally:
        (hsm.folder / "gone").rename(hsm.tokens)
    async with asyncio.timeout(quic_stack.TIMEOUT):
        while (result := await handshake(daemon, "rsa")).server.status != 0:  # the module is not started anew each time
            await asyncio.sleep(0.1)
    assert result.client.status == 0


def configure(folder: Path, entry: str, main: str = "") -> Path:
    (folder / "registry.d").mkdir()
    (folder / "registry.d" / "a.conf").write_text(entry)
    (folder / "config").write_text(f"[authenticate.client]\nx509.truststore={folder}/root.pem\n{main}")
    ROOT.write(folder / "root.pem")
    return folder / "config"


def test_a_list_of_files_and_urls(tmp_path: Path) -> None:
    first, second = ROOT.issue(key_type="rsa"), ROOT.issue()
    certificate, key = second.write(tmp_path, "second")
    (tmp_path / "first.pem").write_bytes(first.pem)
    url = softhsm.token().store(first.private_key)
    entry = f"[entry a]\ncertificate={tmp_path}/first.pem;{certificate}\nprivate_key={url};{key}\n"
    result = load(config.load(configure(tmp_path, entry)))
    chains = result.registry.entries[0].certificates
    assert [chain.chain for chain in chains] == [first.chain, second.chain]
    assert [result.credentials[chain.id].pace for chain in chains] == [Pace.ANY, Pace.QUICK]


def test_quic_tlshdctl_tells_that_a_key_is_in_a_token(tmp_path: Path) -> None:
    issued = ROOT.issue()
    (tmp_path / "a.pem").write_bytes(issued.pem)
    url = softhsm.token().store(issued.private_key)
    report = check(configure(tmp_path, f"[entry a]\ncertificate={tmp_path}/a.pem\nprivate_key={url}\n"))
    assert report.errors == ()
    assert [row.key for row in report.certificates] == ["secp256r1 in a token"]


def test_a_url_where_tlshd_has_it_too(tmp_path: Path) -> None:
    issued = ROOT.issue()
    (tmp_path / "a.pem").write_bytes(issued.pem)
    url = softhsm.token().store(issued.private_key)
    main = f"[authenticate.server]\nx509.certificate={tmp_path}/a.pem\nx509.private_key={url}\n"
    result = load(config.load(configure(tmp_path, "", main)))
    assert result.registry.entries[0].certificates[0].chain == issued.chain


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("pkcs11:token=a", "the private key's URL can't be used: it names no key"),
        ("pkcs11:object=a?module-path=/nowhere.so", "can't be used"),
        ("pkcs11:object=a?pin-value=1234", "use pin-source"),
    ],
)
def test_errors_name_file_line_and_reason(tmp_path: Path, key: str, reason: str) -> None:
    (tmp_path / "a.pem").write_bytes(ROOT.issue().pem)
    path = configure(tmp_path, f"[entry a]\ncertificate={tmp_path}/a.pem\nprivate_key={key}\n")
    with pytest.raises(ConfigError) as caught:
        load(config.load(path))
    assert (caught.value.path, caught.value.line) == (tmp_path / "registry.d" / "a.conf", 3)
    assert reason in caught.value.reason
    assert "1234" not in str(caught.value)
