"""What of an ACCEPT reaches a worker, and which entries it opens."""

from __future__ import annotations

import time
from errno import EINVAL
from pathlib import Path
from typing import cast

import pytest

from netlink.handshake import Accept, AuthMode, MessageType
from quic_tlshd.monitor.admission import MAXIMUM_TIMEOUT, Origin, RequestError, admit
from quic_tlshd.monitor.keyring import Keyrings
from quic_tlshd.monitor.sessions import Sessions
from quic_tlshd.policy import config, entries
from quic_tlshd.request import HandshakeRequest
from tests.peers import pki

USER = Origin("pid 1 uid 2")
KERNEL = Origin("the kernel", keyrings=cast(Keyrings, object()))  # no request here names a key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("admission")
    (folder / "registry.d").mkdir()
    pki.Authority("pinned").write(folder / "ca.pem")
    pki.Authority("public").write(folder / "public.pem")
    (folder / "config").write_text("[authenticate.client]\nx509.truststore=public.pem\n")
    (folder / "registry.d" / "a.conf").write_text(
        "[entry pinned]\nrole=client\nserver_name=A.example;2001:0DB8::1\ntruststore=../ca.pem\n"
        "[entry smb]\nrole=client\nalpn=smb\ntruststore=../ca.pem\n"
    )
    return folder


def admitted(folder: Path, accept: Accept, origin: Origin = USER) -> HandshakeRequest:
    configuration = config.load(folder / "config")
    return admit(1, accept, origin, configuration, entries.load(configuration), Sessions(())).request


def client(peername: str | None, *alpn: bytes, timeout: int = 0) -> Accept:
    return Accept(
        message_type=MessageType.CLIENTHELLO,
        auth_mode=AuthMode.UNAUTH,
        peername=peername,
        alpn=alpn,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("peername", "canonical"),
    [
        ("a.example", "a.example"),
        ("A.eXample", "a.example"),
        ("a.example.", "a.example"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
    ],
)
def test_no_spelling_of_a_name_evades_its_entry(folder: Path, peername: str, canonical: str) -> None:
    request = admitted(folder, client(peername))
    assert request.peername == canonical
    assert "pinned" in request.entries


@pytest.mark.parametrize(
    ("peername", "address", "verified"),
    [
        (None, ("192.0.2.1", 443), "192.0.2.1"),
        (None, ("2001:db8::1", 443), "2001:db8::1"),
        ("b.example", ("192.0.2.1", 443), "b.example"),
        (None, None, None),
    ],
)
def test_a_server_without_a_name_is_its_address(
    folder: Path, peername: str | None, address: tuple[str, int] | None, verified: str | None
) -> None:
    request = admitted(folder, client(peername), Origin("the caller", address))
    assert request.peername == verified
    assert ("pinned" in request.entries) == (verified == "2001:db8::1")


def test_the_network_namespace_reaches_the_request(folder: Path) -> None:
    origin = Origin("the kernel", ("192.0.2.1", 443), "blue")
    request = admitted(folder, client("b.example"), origin)
    assert (request.netns, request.peer) == ("blue", "192.0.2.1 port 443")
    assert admitted(folder, client("b.example")).netns is None


@pytest.mark.parametrize(
    "peername", ["", ".", "a b.example", "a.example ", "a\n.example", "a\x7f", "bücher.example", "x" * 256]
)
def test_what_is_no_name_is_refused(folder: Path, peername: str) -> None:
    with pytest.raises(RequestError) as caught:
        admitted(folder, client(peername))
    assert caught.value.errno == EINVAL
    assert len(str(caught.value)) < 200


def test_a_server_verifies_no_name(folder: Path) -> None:
    accept = Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509, peername="\n")
    assert admitted(folder, accept).peername is None


def test_entries_with_alpn_are_for_the_kernels_sockets_too(folder: Path) -> None:
    """A kernel QUIC socket has its ALPN list in a socket option, which ACCEPT does not repeat."""
    assert admitted(folder, client("b.example"), KERNEL).entries == ("smb", "authenticate.client")
    assert admitted(folder, client("b.example", b"h3"), KERNEL).entries == ("authenticate.client",)
    assert admitted(folder, client("b.example")).entries == ("authenticate.client",)
    assert admitted(folder, client("b.example", b"smb")).entries == ("smb", "authenticate.client")


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 10.0), (1, 0.001), (60_000, 60.0), (60_001, MAXIMUM_TIMEOUT), (2**32 - 1, MAXIMUM_TIMEOUT)]
)
def test_no_caller_may_take_longer_than_a_minute(folder: Path, asked: int, given: float) -> None:
    before = time.monotonic()
    deadline = admitted(folder, client("b.example", timeout=asked)).deadline
    assert before + given <= deadline <= time.monotonic() + given
