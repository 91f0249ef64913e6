"""What a worker can have of the keys, and what not even one that was taken over can."""

from __future__ import annotations

import pytest

from quic_tlshd.monitor.sessions import Sessions
from quic_tlshd.monitor.signer import MOST_IDENTITIES, MOST_SEARCHES, MOST_TICKETS, Grant, RefusedError
from quic_tlshd.policy.credentials import Credential
from quic_tlshd.request import Role
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.parameters import CertificateChain, Psk
from quic_tlshd.tls.signature import certificate_verify_content, schemes_of, verify
from quic_tlshd.tls.ticket import MAX_STATE
from tests.peers import pki

ISSUED = pki.Authority("root").issue(("a.example",))
HASH = b"h" * 32
PSK = Psk(b"known", b"k" * 32)


def credential() -> Credential:
    key = ISSUED.private_key
    return Credential(CertificateChain("id", ISSUED.chain, schemes_of(key.public_key())), key, ISSUED.certificate)


def grant(role: Role = Role.SERVER) -> Grant:
    return Grant(role, {"id": credential()})


@pytest.mark.parametrize("role", list(Role))
def test_a_signature_is_over_a_certificate_verify_of_the_requests_role(role: Role) -> None:
    signature = grant(role).sign("id", S.ECDSA_SECP256R1_SHA256, HASH)
    content = certificate_verify_content(HASH, server=role is Role.SERVER)
    verify(ISSUED.private_key.public_key(), S.ECDSA_SECP256R1_SHA256, signature, content)


def test_one_signature_and_no_more() -> None:
    once = grant()
    once.sign("id", S.ECDSA_SECP256R1_SHA256, HASH)
    with pytest.raises(RefusedError, match="already"):
        once.sign("id", S.ECDSA_SECP256R1_SHA256, HASH)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 64, b"a whole document"])
def test_nothing_but_a_hash(content: bytes) -> None:
    with pytest.raises(RefusedError, match="no transcript hash"):
        grant().sign("id", S.ECDSA_SECP256R1_SHA256, content)


def test_no_certificate_but_the_requests() -> None:
    with pytest.raises(RefusedError, match="may not use certificate"):
        grant().sign("another", S.ECDSA_SECP256R1_SHA256, HASH)
    with pytest.raises(RefusedError, match="may not use certificate"):
        Grant(Role.CLIENT, {}).sign("id", S.ECDSA_SECP256R1_SHA256, HASH)


@pytest.mark.parametrize("scheme", [S.ED25519, S.RSA_PKCS1_SHA256, 0xFFFF])
def test_no_scheme_but_the_keys(scheme: int) -> None:
    with pytest.raises(RefusedError, match="can't sign with"):
        grant().sign("id", scheme, HASH)


def find(identity: bytes) -> Psk | None:
    return PSK if identity == PSK.identity else None


def test_a_psk_is_found_once() -> None:
    once = Grant(Role.SERVER, {}, find)
    assert once.find_psk("psk", (b"unknown", b"known")) == (1, PSK)
    assert once.find_psk("psk", (b"known",)) is None


def test_only_so_many_searches() -> None:
    """Or a worker could try identities until one is there."""
    granted = Grant(Role.SERVER, {}, find)
    for _ in range(MOST_SEARCHES):
        assert granted.find_psk("psk", (b"unknown",)) is None
    with pytest.raises(RefusedError):
        granted.find_psk("psk", (b"known",))


def test_not_every_identity_is_looked_up() -> None:
    asked: list[bytes] = []

    def count(identity: bytes) -> Psk | None:
        asked.append(identity)
        return None

    granted, many = Grant(Role.SERVER, {}, count), tuple([b"%d" % number for number in range(1000)])
    for _ in range(MOST_SEARCHES):
        assert granted.find_psk("psk", many) is None
    assert len(asked) == MOST_IDENTITIES


def test_no_psk_for_a_request_that_is_not_for_one() -> None:
    with pytest.raises(RefusedError):
        grant().find_psk("psk", (b"known",))


def resuming(*entries: str) -> Grant:
    return Grant(Role.SERVER, {"id": credential()}, sessions=SESSIONS.of(entries))


SESSIONS = Sessions(())
BINDER = b"b" * 32


def test_tickets_go_from_one_request_to_another_of_the_same_entry() -> None:
    tickets = resuming("h3", "smb").seal("h3", (b"one", b"two"))
    assert [resuming("h3").find_psk("h3", (b"?", ticket)) for ticket in tickets] == [(1, b"one"), (1, b"two")]
    assert resuming("h3", "smb").find_psk("smb", tickets) is None
    assert resuming("smb").find_psk("smb", tickets) is None
    assert Grant(Role.SERVER, {}, find, Sessions(()).of(("h3",))).find_psk("h3", tickets) is None


def test_nothing_of_an_entry_that_is_not_the_requests() -> None:
    (ticket,) = resuming("h3").seal("h3", (b"state",))
    assert resuming("smb").find_psk("h3", (ticket,)) is None
    assert resuming("smb").seal("h3", (b"state",)) == ()


def test_tickets_are_sealed_once_and_for_what_is_a_session() -> None:
    once = resuming("h3")
    assert len(once.seal("h3", (b"state",) * MOST_TICKETS)) == MOST_TICKETS
    with pytest.raises(RefusedError):
        once.seal("h3", (b"state",))
    for states in ((b"state",) * (MOST_TICKETS + 1), (bytes(MAX_STATE + 1),)):
        with pytest.raises(RefusedError):
            resuming("h3").seal("h3", states)
    with pytest.raises(RefusedError):
        grant().seal("h3", (b"state",))


def test_a_signature_after_a_session_that_was_not_resumed() -> None:
    granted = resuming("h3")
    assert granted.find_psk("h3", (b"a stranger's ticket",)) is None
    granted.sign("id", S.ECDSA_SECP256R1_SHA256, HASH)


def test_early_data_is_for_who_resumes() -> None:
    with pytest.raises(RefusedError):
        resuming("h3").claim(BINDER)
    sessions = Sessions(()).of(("h3",))
    (ticket,) = sessions.seal((b"state",), "h3")
    granted = Grant(Role.SERVER, {}, sessions=sessions)
    granted.find_psk("h3", (ticket,))
    with pytest.raises(RefusedError):
        granted.claim(b"not a binder")
    assert granted.claim(BINDER) is True
    with pytest.raises(RefusedError):
        granted.claim(BINDER)
