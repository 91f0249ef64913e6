"""REMOTE_AUTH: what a consumer hears of who the peer is."""

from __future__ import annotations

from errno import EACCES
from typing import cast

import pytest
from msgspec.structs import replace

from netlink.handshake import Accept
from quic_tlshd.monitor import done
from quic_tlshd.monitor.admission import Admission, Origin
from quic_tlshd.monitor.done import done_of
from quic_tlshd.monitor.keyring import Keyrings
from quic_tlshd.monitor.signer import Grant
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role

USER = Origin("pid 1 uid 2")
KERNEL = Origin("the kernel", keyrings=cast(Keyrings, object()))
SERVER = HandshakeRequest(id=1, role=Role.SERVER, auth_mode=AuthMode.X509, deadline=5, peer="a peer")
CLIENT = replace(SERVER, role=Role.CLIENT, peername="a.example")
ANONYMOUS = replace(CLIENT, auth_mode=AuthMode.UNAUTH)
VERIFIED = HandshakeOutcome(status=0, peer_chain=(b"end", b"issuer"))
UNKNOWN = HandshakeOutcome(status=0)
SERIALS = (11, 12)


@pytest.mark.parametrize(
    ("origin", "request_", "outcome", "expected"),
    [
        pytest.param(KERNEL, SERVER, VERIFIED, (0xFFFFFFFF,), id="a client that was verified"),
        pytest.param(KERNEL, SERVER, UNKNOWN, (), id="a client that showed nothing"),
        pytest.param(KERNEL, SERVER, replace(VERIFIED, status=EACCES), (), id="a client that was refused"),
        pytest.param(KERNEL, CLIENT, VERIFIED, SERIALS, id="a server"),
        pytest.param(KERNEL, CLIENT, replace(VERIFIED, status=EACCES), (), id="a server that was refused"),
        pytest.param(KERNEL, ANONYMOUS, VERIFIED, (), id="a client that shows nothing is told nothing"),
        pytest.param(USER, CLIENT, VERIFIED, (), id="no keys for who can't use them"),
    ],
)
def test_remote_auth(
    monkeypatch: pytest.MonkeyPatch,
    origin: Origin,
    request_: HandshakeRequest,
    outcome: HandshakeOutcome,
    expected: tuple[int, ...],
) -> None:
    monkeypatch.setattr(done, "peer_keys", lambda chain, name: SERIALS)
    admission = Admission(request_, Grant(request_.role, {}))
    assert done_of(Accept(sockfd=3), origin, admission, outcome).remote_auth == expected


def test_the_psk_that_was_used() -> None:
    request = replace(SERVER, auth_mode=AuthMode.PSK)
    admission = Admission(request, Grant(request.role, {}), {b"one": 21, b"two": 22})
    outcome = HandshakeOutcome(status=0, psk_identity=b"two")
    assert done_of(Accept(sockfd=3), KERNEL, admission, outcome).remote_auth == (22,)
    failed = replace(outcome, status=EACCES)
    assert done_of(Accept(sockfd=3), KERNEL, admission, failed).remote_auth == ()
    assert done_of(Accept(sockfd=3), KERNEL, admission, UNKNOWN).remote_auth == ()
