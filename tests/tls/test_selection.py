"""Which certificate is shown (RFC 8446 sections 4.2.3, 4.2.4, 4.4.2.2 and 4.4.2.3), in both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.codec import vector16
from quic_tlshd.tls.extensions import encode_certificate_authorities, encode_uint16_list
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.messages import CertificateRequest, ClientHello
from quic_tlshd.tls.parameters import CERTIFICATE_SIGNATURE_SCHEMES, DEFAULT_SIGNATURE_SCHEMES, ClientCertificate
from tests.tls.playbook import Duel, Identity, Role, identity

P256, P384 = S.ECDSA_SECP256R1_SHA256, S.ECDSA_SECP384R1_SHA384
ONE, OTHER = b"0\x0b1\x090\x07\x06\x03U\x04\x03\x0c\0", b"0\0"  # names, in DER


def ours(key_type: str, usage: str, signed_with: tuple[int, ...], issuers: tuple[bytes, ...]) -> Identity:
    plain = identity(key_type, usage)
    return replace(plain, certificate=replace(plain.certificate, signed_with=signed_with, issuers=issuers))


CASES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    # ours: key, signatures in the chain, issuers; what the peer says; which it shall be
    "the first of all that will do": (
        [("p256", (), ()), ("ed25519", (), ())],
        {},
        0,
    ),
    "the first whose key the peer takes": (
        [("mldsa65", (), ()), ("p256", (), ())],
        {"signature_schemes": (P256, S.RSA_PSS_RSAE_SHA256)},
        1,
    ),
    "the post-quantum one if the peer takes it": (
        [("mldsa65", (S.MLDSA65,), ()), ("p256", (P256,), ())],
        {},
        0,
    ),
    "the first whose chain the peer can verify": (
        [("p384", (S.RSA_PKCS1_SHA256,), ()), ("p256", (P256,), ())],
        {"certificate_signature_schemes": (P256,)},
        1,
    ),
    "the same by signature_algorithms, where nothing else is said": (
        [("p384", (S.RSA_PKCS1_SHA256,), ()), ("p256", (P256,), ())],
        {
            "signature_schemes": (P384, P256),
            "certificate_signature_schemes": (),
        },
        1,
    ),
    "signature_algorithms_cert says nothing of keys": (
        [("p384", (), ()), ("p256", (), ())],
        {
            "signature_schemes": (P256,),
            "certificate_signature_schemes": (P384,),
        },
        1,
    ),
    "a chain that the peer did not speak of, if there is no better one": (
        [("p256", (S.RSA_PKCS1_SHA256,), ()), ("p384", (0,), ())],
        {"certificate_signature_schemes": (S.ED25519,)},
        0,
    ),
}
NAMED: dict[str, tuple[list[Any], tuple[bytes, ...], int]] = {
    "the first of an authority that was named": ([("p256", (), (OTHER,)), ("p384", (), (OTHER, ONE))], (ONE,), 1),
    "any, where none was named": ([("p256", (), (OTHER,)), ("p384", (), (ONE,))], (), 0),
    "the first, where none is of an authority that was named": ([("p256", (), (OTHER,)), ("p384", (), ())], (ONE,), 0),
    "signatures that the peer can verify before authorities": (
        [("p256", (0,), (ONE,)), ("p384", (S.ED25519,), (OTHER,))],
        (ONE,),
        1,
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_the_server_chooses(what: str) -> None:
    certificates, says, wanted = CASES[what]
    identities = [ours(key_type, "server", *facts) for key_type, *facts in certificates]
    choice = {"certificates": tuple(each.certificate for each in identities)}
    duel = Duel.of(client=says, choice=choice, server_key=certificates[wanted][0]).run()
    assert duel.client.complete is not None
    assert duel.client.complete.peer_chain == identities[wanted].chain


@pytest.mark.parametrize("what", CASES)
def test_the_client_chooses(what: str) -> None:
    certificates, says, wanted = CASES[what]
    identities = [ours(key_type, "client", *facts) for key_type, *facts in certificates]
    client = {"certificates": tuple(each.certificate for each in identities)}
    duel = Duel.of(
        client=client, choice=says, request=ClientCertificate.REQUIRE, client_key=certificates[wanted][0]
    ).run()
    assert duel.server.complete is not None
    assert duel.server.complete.peer_chain == identities[wanted].chain


@pytest.mark.parametrize("what", NAMED)
def test_the_client_chooses_by_the_authorities_that_the_server_names(what: str) -> None:
    certificates, names, wanted = NAMED[what]
    identities = [ours(key_type, "client", *facts) for key_type, *facts in certificates]
    duel = Duel.of(
        client={"certificates": tuple(each.certificate for each in identities)},
        choice={"certificate_authorities": names},
        request=ClientCertificate.REQUIRE,
        client_key=certificates[wanted][0],
    ).run()
    assert duel.server.complete is not None
    assert duel.server.complete.peer_chain == identities[wanted].chain


@pytest.mark.parametrize("what", NAMED)
def test_the_server_chooses_by_the_authorities_that_the_client_names(what: str) -> None:
    certificates, names, wanted = NAMED[what]
    identities = [ours(key_type, "server", *facts) for key_type, *facts in certificates]
    duel = Duel.of(
        client={"arrange": lambda _place, block: adding(block, X.CERTIFICATE_AUTHORITIES, names)},
        choice={"certificates": tuple(each.certificate for each in identities)},
        server_key=certificates[wanted][0],
    ).run()
    assert duel.client.complete is not None
    assert duel.client.complete.peer_chain == identities[wanted].chain


def adding(block: dict[int, bytes], kind: X, names: tuple[bytes, ...]) -> dict[int, bytes]:
    return {**block, kind: encode_certificate_authorities(names)} if names else block


def test_what_we_say_of_certificates() -> None:
    """Section 4.2.3: PKCS #1 is for certificates only, and rsa_pss_pss_* for CertificateVerify."""
    duel = Duel.of(
        client={"grease": False},
        request=ClientCertificate.REQUIRE,
        client_key="p256",
        choice={"certificate_authorities": (ONE, OTHER)},
    )
    blocks = [ClientHello.decode(duel.next.message).extensions]
    blocks.append(CertificateRequest.decode(duel.until(Role.CLIENT, H.CERTIFICATE_REQUEST).next.message).extensions)
    for block in blocks:
        assert block[X.SIGNATURE_ALGORITHMS] == encode_uint16_list(DEFAULT_SIGNATURE_SCHEMES)
        assert block[X.SIGNATURE_ALGORITHMS_CERT] == encode_uint16_list(CERTIFICATE_SIGNATURE_SCHEMES)
    assert X.CERTIFICATE_AUTHORITIES not in blocks[0]
    assert blocks[1][X.CERTIFICATE_AUTHORITIES] == vector16(vector16(ONE) + vector16(OTHER))


MALFORMED = {
    "signature_algorithms_cert is empty": (X.SIGNATURE_ALGORITHMS_CERT, b"\0\0"),
    "signature_algorithms_cert is odd": (X.SIGNATURE_ALGORITHMS_CERT, b"\0\1\4"),
    "certificate_authorities is empty": (X.CERTIFICATE_AUTHORITIES, b"\0\0"),
    "an empty name": (X.CERTIFICATE_AUTHORITIES, b"\0\5\0\1x\0\0"),
    "a name that is cut short": (X.CERTIFICATE_AUTHORITIES, b"\0\4\0\3x\0"),
    "bytes behind the names": (X.CERTIFICATE_AUTHORITIES, b"\0\3\0\1x\0"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(what: str) -> None:
    """Sections 4.2.3 and 4.2.4, in both messages that have these extensions."""
    kind, body = MALFORMED[what]
    duel = Duel.of()
    hello = ClientHello.decode(duel.next.message)
    duel.refuses(replace(hello, extensions={**hello.extensions, kind: body}).encode(), A.DECODE_ERROR)
    duel = Duel.of(request=ClientCertificate.REQUIRE, client_key="p256").until(Role.CLIENT, H.CERTIFICATE_REQUEST)
    request = CertificateRequest.decode(duel.next.message)
    duel.refuses(CertificateRequest({**request.extensions, kind: body}).encode(), A.DECODE_ERROR)


def test_filters_and_extensions_that_the_client_does_not_know() -> None:
    """Sections 4.2.5 and 4.3.2: unknown extensions of certificates, and of the request, are ignored."""
    filters = vector16(b"\3\x2a\3\4" + vector16(b""))
    more = {X.OID_FILTERS: filters, 0x2A2A: b"", X.SIGNED_CERTIFICATE_TIMESTAMP: b""}
    duel = Duel.of(
        request=ClientCertificate.REQUIRE,
        client_key="p256",
        server={"arrange": lambda place, block: {**block, **more} if place == H.CERTIFICATE_REQUEST else block},
    ).run()
    assert duel.is_complete
