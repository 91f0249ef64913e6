"""What a client refuses in EncryptedExtensions and CertificateRequest, and with which alert.

The RFC is 8446 where a section is given without one.
"""

from __future__ import annotations

import pytest

from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.extensions import Extensions, encode_alpn, encode_uint16_list
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType, NamedGroup
from quic_tlshd.tls.messages import CertificateRequest, EncryptedExtensions, encode_message
from quic_tlshd.tls.parameters import ClientCertificate
from tests.tls.playbook import Duel, Role

A = AlertDescription
ALPN = X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION

REFUSED: dict[str, tuple[dict[int, bytes | None], AlertDescription]] = {
    "an unknown extension (4.3.1)": ({0x2A2A: b""}, A.UNSUPPORTED_EXTENSION),
    "an extension that was not offered (4.2)": ({X.MAX_FRAGMENT_LENGTH: b"\1"}, A.UNSUPPORTED_EXTENSION),
    "early data that was not offered (4.2.10)": ({X.EARLY_DATA: b""}, A.UNSUPPORTED_EXTENSION),
    "key_share (4.3.1)": ({X.KEY_SHARE: b"\0\x1d\0\1x"}, A.ILLEGAL_PARAMETER),
    "supported_versions (4.3.1)": ({X.SUPPORTED_VERSIONS: b"\3\4"}, A.ILLEGAL_PARAMETER),
    "signature_algorithms (4.3.1)": ({X.SIGNATURE_ALGORITHMS: b"\0\2\4\3"}, A.ILLEGAL_PARAMETER),
    "status_request (4.4.2.1)": ({X.STATUS_REQUEST: b""}, A.ILLEGAL_PARAMETER),
    "cookie (4.2)": ({X.COOKIE: b"\0\1c"}, A.ILLEGAL_PARAMETER),
    "a server_name with a name (RFC 6066 3)": ({X.SERVER_NAME: b"\0\4\0\0\1a"}, A.DECODE_ERROR),
    "no ALPN over QUIC (RFC 9001 8.1)": ({ALPN: None}, A.NO_APPLICATION_PROTOCOL),
    "a protocol that was not offered (RFC 7301 3.1)": ({ALPN: encode_alpn((b"h2",))}, A.ILLEGAL_PARAMETER),
    "two protocols (RFC 7301 3.1)": ({ALPN: encode_alpn((b"h3", b"smb"))}, A.ILLEGAL_PARAMETER),
    "no protocol (RFC 7301 3.1)": ({ALPN: b"\0\0"}, A.DECODE_ERROR),
    "an empty protocol (RFC 7301 3.1)": ({ALPN: encode_alpn((b"",))}, A.DECODE_ERROR),
    "ALPN that is cut short": ({ALPN: b"\0\3\3h"}, A.DECODE_ERROR),
    "bytes behind the ALPN list": ({ALPN: encode_alpn((b"h3",)) + b"\0"}, A.DECODE_ERROR),
    "no transport parameters (RFC 9001 8.2)": ({X.QUIC_TRANSPORT_PARAMETERS: None}, A.MISSING_EXTENSION),
}


@pytest.mark.parametrize("what", REFUSED)
def test_encrypted_extensions_are_refused(what: str) -> None:
    changes, alert = REFUSED[what]
    duel = Duel.of(quic=True).until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    merged = {**EncryptedExtensions.decode(duel.next.message).extensions, **changes}
    extensions = {kind: body for kind, body in merged.items() if body is not None}
    duel.refuses(EncryptedExtensions(extensions).encode(), alert)


def test_transport_parameters_without_quic() -> None:
    """RFC 9001 section 8.2."""
    duel = Duel.of().until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    extensions: Extensions = {X.QUIC_TRANSPORT_PARAMETERS: b""}
    duel.refuses(EncryptedExtensions(extensions).encode(), A.UNSUPPORTED_EXTENSION)


def test_alpn_that_was_not_offered() -> None:
    duel = Duel.of(client={"alpn": ()}, choice={"alpn": b"h3"})
    duel.fails(A.UNSUPPORTED_EXTENSION)


MALFORMED: dict[str, tuple[bytes, AlertDescription]] = {
    "an empty message": (b"", A.DECODE_ERROR),
    "half a length": (b"\0", A.DECODE_ERROR),
    "a block longer than the message": (b"\0\4\0\0\0", A.DECODE_ERROR),
    "bytes behind the block": (b"\0\4\0\0\0\0\0", A.DECODE_ERROR),
    "half an extension": (b"\0\2\0\0", A.DECODE_ERROR),
    "an extension longer than its block": (b"\0\4\0\0\0\1", A.DECODE_ERROR),
    "an extension twice (4.2)": (b"\0\x08\0\0\0\0\0\0\0\0", A.ILLEGAL_PARAMETER),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_encrypted_extensions(what: str) -> None:
    body, alert = MALFORMED[what]
    duel = Duel.of().until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    duel.refuses(encode_message(HandshakeType.ENCRYPTED_EXTENSIONS, body), alert)


def arranged(place: HandshakeType, additions: Extensions) -> dict[str, object]:
    """Server parameters that add these extensions to one message."""

    def arrange(of: HandshakeType | str, extensions: Extensions) -> Extensions:
        return {**extensions, **additions} if of == place else extensions

    return {"arrange": arrange}


def test_supported_groups_may_come() -> None:
    """Section 4.2.7: a client must not act on them before the handshake is complete."""
    groups = {X.SUPPORTED_GROUPS: encode_uint16_list((NamedGroup.SECP256R1,))}
    assert Duel.of(server=arranged(HandshakeType.ENCRYPTED_EXTENSIONS, groups)).run().is_complete


def test_our_server_says_which_group_it_would_have_liked_better() -> None:
    """Section 4.2.7: its groups, if the client has sent no share of the one that it prefers."""
    for groups, told in (
        ((NamedGroup.X25519, NamedGroup.SECP256R1), False),
        ((NamedGroup.X25519MLKEM768, NamedGroup.X25519), True),
    ):
        duel = Duel.of(choice={"groups": groups}).until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
        body = EncryptedExtensions.decode(duel.next.message).extensions.get(X.SUPPORTED_GROUPS)
        assert body == (encode_uint16_list(groups) if told else None)
        assert duel.run().is_complete


def test_our_server_says_that_it_used_the_name() -> None:
    """RFC 6066 section 3: an empty server_name; none if the client sent none."""
    duel = Duel.of().until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    assert EncryptedExtensions.decode(duel.next.message).extensions[X.SERVER_NAME] == b""
    duel = Duel.of(client={"server_name": None}).until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    assert X.SERVER_NAME not in EncryptedExtensions.decode(duel.next.message).extensions


# CertificateRequest, section 4.3.2

WHOLE: Extensions = {X.SIGNATURE_ALGORITHMS: b"\0\2\4\3"}
REQUESTS: dict[str, tuple[bytes, AlertDescription]] = {
    "signature_algorithms is missing": (CertificateRequest({}).encode(), A.MISSING_EXTENSION),
    "signature_algorithms is empty": (CertificateRequest({X.SIGNATURE_ALGORITHMS: b"\0\0"}).encode(), A.DECODE_ERROR),
    "signature_algorithms is odd": (
        CertificateRequest({X.SIGNATURE_ALGORITHMS: b"\0\3\4\3\4"}).encode(),
        A.DECODE_ERROR,
    ),
    "certificate_request_context is not empty": (CertificateRequest(WHOLE, b"context").encode(), A.ILLEGAL_PARAMETER),
    "an extension of ClientHello only (4.2)": (
        CertificateRequest({**WHOLE, X.SUPPORTED_GROUPS: b"\0\2\0\x1d"}).encode(),
        A.ILLEGAL_PARAMETER,
    ),
    "an empty message": (encode_message(HandshakeType.CERTIFICATE_REQUEST, b""), A.DECODE_ERROR),
    "bytes behind the block": (
        encode_message(HandshakeType.CERTIFICATE_REQUEST, CertificateRequest(WHOLE).encode()[4:] + b"\0"),
        A.DECODE_ERROR,
    ),
    "an extension twice": (
        encode_message(HandshakeType.CERTIFICATE_REQUEST, b"\0\0\x08\x2a\x2a\0\0\x2a\x2a\0\0"),
        A.ILLEGAL_PARAMETER,
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_certificate_request_is_refused(what: str) -> None:
    """When it comes, not only after the server's Finished."""
    message, alert = REQUESTS[what]
    duel = Duel.of(request=ClientCertificate.REQUEST).until(Role.CLIENT, HandshakeType.CERTIFICATE_REQUEST)
    duel.refuses(message, alert)


IGNORED: dict[str, Extensions] = {
    "an unknown extension (4.3.2)": {0x2A2A: b"anything"},
    "what we don't act on": {
        X.CERTIFICATE_AUTHORITIES: b"\0\3\0\1x",
        X.SIGNATURE_ALGORITHMS_CERT: b"\0\2\4\1",
        X.STATUS_REQUEST: b"\1\0\0\0\0",
        X.SIGNED_CERTIFICATE_TIMESTAMP: b"",
        X.OID_FILTERS: b"\0\0",
    },
}


@pytest.mark.parametrize("what", IGNORED)
def test_ignored_in_a_certificate_request(what: str) -> None:
    duel = Duel.of(
        server=arranged(HandshakeType.CERTIFICATE_REQUEST, IGNORED[what]),
        request=ClientCertificate.REQUIRE,
        client_key="p256",
    )
    assert duel.run().is_complete
