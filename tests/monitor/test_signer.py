"""What a worker can have of the keys, and what not even one that was taken over can."""

from __future__ import annotations

import pytest

from quic_tlshd.monitor.signer import Grant, RefusedError
from quic_tlshd.policy.credentials import Credential
from quic_tlshd.request import Role
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.parameters import CertificateChain, Psk
from quic_tlshd.tls.signature import certificate_verify_content, schemes_of, verify
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
    assert once.find_psk((b"unknown", b"known")) == (1, PSK)
    with pytest.raises(RefusedError):
        once.find_psk((b"known",))


def test_a_search_without_a_find_is_a_search() -> None:
    """Or a worker could try identities until one is there."""
    once = Grant(Role.SERVER, {}, find)
    assert once.find_psk((b"unknown",)) is None
    with pytest.raises(RefusedError):
        once.find_psk((b"known",))


def test_not_every_identity_is_looked_up() -> None:
    asked: list[bytes] = []

    def count(identity: bytes) -> Psk | None:
        asked.append(identity)
        return None

    assert Grant(Role.SERVER, {}, count).find_psk(tuple([b"%d" % number for number in range(1000)])) is None
    assert len(asked) < 100


def test_no_psk_for_a_request_that_is_not_for_one() -> None:
    with pytest.raises(RefusedError):
        grant().find_psk((b"known",))
