"""Certificate, CertificateVerify and Finished, which are the same for both roles (RFC 8446 section 4.4), and keys that
are none: what is refused, and with which alert.

The RFC is 8446 where a section is given without one.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import vector24
from quic_tlshd.tls.extensions import decode_key_shares, encode_key_share_entry, encode_key_shares
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType, NamedGroup, SignatureScheme
from quic_tlshd.tls.messages import (
    Certificate,
    CertificateEntry,
    CertificateVerify,
    ClientHello,
    Finished,
    ServerHello,
    encode_message,
)
from quic_tlshd.tls.parameters import DEFAULT_GROUPS, ClientCertificate
from quic_tlshd.tls.signature import certificate_verify_content, pss_schemes, schemes_of, sign, verify
from tests.peers import pki
from tests.tls.playbook import Duel, Role, identity

A, H, S = AlertDescription, HandshakeType, SignatureScheme


def duel_at(to: Role, kind: HandshakeType, key_type: str = "p256") -> Duel:
    """A mutual handshake; `to` is about to receive that message."""
    return Duel.of(request=ClientCertificate.REQUIRE, client_key=key_type, server_key=key_type).until(to, kind)


# Certificate, section 4.4.2

LEAF = identity().chain[0]

CERTIFICATES: dict[str, tuple[bytes, AlertDescription]] = {
    "certificate_request_context is not empty (4.4.2)": (
        Certificate((CertificateEntry(LEAF),), b"context").encode(),
        A.ILLEGAL_PARAMETER,
    ),
    "an SCT that was not asked for (4.4.2)": (
        Certificate((CertificateEntry(LEAF, {X.SIGNED_CERTIFICATE_TIMESTAMP: b"\0\3\0\1x"}),)).encode(),
        A.UNSUPPORTED_EXTENSION,
    ),
    "an unknown extension (4.4.2)": (
        Certificate((CertificateEntry(LEAF), CertificateEntry(LEAF, {0x2A2A: b""}))).encode(),
        A.UNSUPPORTED_EXTENSION,
    ),
    "an extension of another message (4.2)": (
        Certificate((CertificateEntry(LEAF, {X.KEY_SHARE: b""}),)).encode(),
        A.ILLEGAL_PARAMETER,
    ),
    "an extension twice (4.2)": (
        encode_message(H.CERTIFICATE, b"\0" + vector24(vector24(LEAF) + b"\0\x08" + b"\x2a\x2a\0\0" * 2)),
        A.ILLEGAL_PARAMETER,
    ),
    "an empty certificate (4.4.2)": (Certificate((CertificateEntry(b""),)).encode(), A.DECODE_ERROR),
    "a certificate without extensions": (
        encode_message(H.CERTIFICATE, b"\0" + vector24(vector24(LEAF))),
        A.DECODE_ERROR,
    ),
    "a certificate that is cut short": (
        encode_message(H.CERTIFICATE, b"\0" + vector24(vector24(LEAF)[:-1])),
        A.DECODE_ERROR,
    ),
    "extensions that are cut short": (
        encode_message(H.CERTIFICATE, b"\0" + vector24(vector24(LEAF) + b"\0\2\x2a")),
        A.DECODE_ERROR,
    ),
    "a list longer than the message": (encode_message(H.CERTIFICATE, b"\0\0\1\0"), A.DECODE_ERROR),
    "bytes behind the list": (
        encode_message(H.CERTIFICATE, Certificate((CertificateEntry(LEAF),)).encode()[4:] + b"\0"),
        A.DECODE_ERROR,
    ),
    "an empty message": (encode_message(H.CERTIFICATE, b""), A.DECODE_ERROR),
}


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("what", CERTIFICATES)
def test_a_certificate_is_refused(to: Role, what: str) -> None:
    message, alert = CERTIFICATES[what]
    duel_at(to, H.CERTIFICATE).refuses(message, alert)


def test_a_server_without_a_certificate() -> None:
    """Section 4.4.2.4."""
    duel_at(Role.CLIENT, H.CERTIFICATE).refuses(Certificate(()).encode(), A.DECODE_ERROR)


def test_a_client_without_a_certificate() -> None:
    """Section 4.4.2.4."""
    duel_at(Role.SERVER, H.CERTIFICATE).refuses(Certificate(()).encode(), A.CERTIFICATE_REQUIRED)


def test_a_context_on_an_empty_certificate() -> None:
    duel_at(Role.SERVER, H.CERTIFICATE).refuses(Certificate((), b"c").encode(), A.ILLEGAL_PARAMETER)


# CertificateVerify, section 4.4.3

KEY_TYPES = ("p256", "p384", "p521", "ed25519", "ed448", "rsa", "rsa_pss", "mldsa44", "mldsa65", "mldsa87")


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("key_type", KEY_TYPES)
@pytest.mark.parametrize("spoilt", ["a flipped bit", "another content", "empty", "garbage", "too long"])
def test_a_signature_is_wrong(to: Role, key_type: str, spoilt: str) -> None:
    """Section 4.4.3: "If the verification fails, the receiver MUST terminate the handshake with a "decrypt_error"." """
    duel = duel_at(to, H.CERTIFICATE_VERIFY, key_type)
    good = CertificateVerify.decode(duel.next.message)
    signatures = {
        "a flipped bit": good.signature[:-1] + bytes((good.signature[-1] ^ 1,)),
        "another content": sign(identity(key_type).private_key, S(good.algorithm), b"content"),
        "empty": b"",
        "garbage": b"garbage",
        "too long": good.signature + b"\0",
    }
    duel.refuses(replace(good, signature=signatures[spoilt]).encode(), A.DECRYPT_ERROR)


@pytest.mark.parametrize("to", list(Role))
def test_a_signature_of_the_other_role(to: Role) -> None:
    """Section 4.4.3: the context strings keep what one side signs from being shown by the other."""
    duel = Duel.of(request=ClientCertificate.REQUIRE, client_key="p256", sign_at_once=False)
    wanted = duel.until_signing(to.peer).party(to.peer).wanted
    assert wanted is not None
    content = certificate_verify_content(wanted.transcript_hash, server=to is Role.SERVER)
    duel.answer(to.peer, sign(duel.party(to.peer).key, wanted.scheme, content))
    duel.fails(A.DECRYPT_ERROR)


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("key_type", KEY_TYPES)
@pytest.mark.parametrize(
    "scheme", [*S, 0x2A2A, 0x0201, 0x0203], ids=lambda scheme: getattr(scheme, "name", hex(scheme))
)
def test_a_scheme_that_is_not_for_the_key(to: Role, key_type: str, scheme: int) -> None:
    """Section 4.4.3: it has to be one of those that were offered and fit the key; PKCS #1 and SHA-1 never do."""
    duel = duel_at(to, H.CERTIFICATE_VERIFY, key_type)
    good = CertificateVerify.decode(duel.next.message)
    if scheme == good.algorithm:
        assert duel.run().is_complete
        return
    fits = scheme in identity(key_type).certificate.schemes
    duel.refuses(replace(good, algorithm=scheme).encode(), A.DECRYPT_ERROR if fits else A.ILLEGAL_PARAMETER)


def test_a_scheme_that_was_not_offered() -> None:
    """Section 4.2.3, though it fits the key."""
    duel = Duel.of(client={"signature_schemes": (S.RSA_PSS_RSAE_SHA256,)}, server_key="rsa")
    duel.until(Role.CLIENT, H.CERTIFICATE_VERIFY)
    good = CertificateVerify.decode(duel.next.message)
    duel.refuses(replace(good, algorithm=S.RSA_PSS_RSAE_SHA384).encode(), A.ILLEGAL_PARAMETER)


MALFORMED_VERIFY = {
    "an empty message": b"",
    "half a scheme": b"\4",
    "no signature": b"\4\3",
    "half a length": b"\4\3\0",
    "a signature that is cut short": b"\4\3\0\2x",
    "bytes behind the signature": b"\4\3\0\1xx",
}


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("what", MALFORMED_VERIFY)
def test_a_malformed_certificate_verify(to: Role, what: str) -> None:
    message = encode_message(H.CERTIFICATE_VERIFY, MALFORMED_VERIFY[what])
    duel_at(to, H.CERTIFICATE_VERIFY).refuses(message, A.DECODE_ERROR)


# Finished, section 4.4.4


@pytest.mark.parametrize("to", list(Role))
def test_a_finished_is_wrong(to: Role) -> None:
    """Section 4.4.4: "Recipients of Finished messages MUST verify that the contents are correct and if incorrect MUST
    terminate the connection with a "decrypt_error" alert." """
    duel = duel_at(to, H.FINISHED)
    verify_data = Finished.decode(duel.next.message, 32).verify_data
    duel.refuses(Finished(verify_data[:-1] + bytes((verify_data[-1] ^ 1,))).encode(), A.DECRYPT_ERROR)


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("length", [0, 1, 31, 33, 48])
def test_a_finished_of_the_wrong_length(to: Role, length: int) -> None:
    duel_at(to, H.FINISHED).refuses(Finished(bytes(length)).encode(), A.DECODE_ERROR)


def test_a_finished_that_was_ours() -> None:
    """Reflected: each side has a key of its own (section 4.4)."""
    duel = Duel.of().until(Role.CLIENT, H.FINISHED)
    ours = duel.next.message
    duel.until(Role.SERVER, H.FINISHED).refuses(ours, A.DECRYPT_ERROR)


def test_a_change_on_the_way_shows_in_the_finished() -> None:
    """What a server can't see, because it is legal, it sees in the client's Finished."""
    duel = Duel.of().change(lambda message: replace(ClientHello.decode(message), random=bytes(32)).encode())
    duel.deliver()
    with pytest.raises(PeerError) as refusal:
        duel.run()
    assert refusal.value.alert is A.DECRYPT_ERROR


# Key shares, sections 4.2.8.1 and 4.2.8.2


def point(curve: ec.EllipticCurve, form: PublicFormat) -> bytes:
    return ec.generate_private_key(curve).public_key().public_bytes(Encoding.X962, form)


def off_curve(size: int) -> bytes:
    return b"\4" + b"\1" * (2 * size)


def hybrid(mlkem_share: bytes, ecdhe_share: bytes, group: NamedGroup) -> bytes:
    """The shares in the order of draft-ietf-tls-ecdhe-mlkem section 4."""
    parts = (mlkem_share, ecdhe_share)
    return b"".join(parts if group is NamedGroup.X25519MLKEM768 else reversed(parts))


MLKEM768 = mlkem.MLKEM768PrivateKey.generate().public_key()
MLKEM1024 = mlkem.MLKEM1024PrivateKey.generate().public_key()
# Hybrids with an ML-KEM key, a ciphertext, a share of the curve, and one that is none.
HYBRIDS = {
    NamedGroup.X25519MLKEM768: (MLKEM768, 1088, b"\x09" + bytes(31), bytes(32)),
    NamedGroup.SECP256R1MLKEM768: (
        MLKEM768,
        1088,
        point(ec.SECP256R1(), PublicFormat.UncompressedPoint),
        off_curve(32),
    ),
    NamedGroup.SECP384R1MLKEM1024: (
        MLKEM1024,
        1568,
        point(ec.SECP384R1(), PublicFormat.UncompressedPoint),
        off_curve(48),
    ),
}

SMALL_ORDER = {  # RFC 7748 section 6.1; the points of small order of curve25519
    "zero": bytes(32),
    "one": b"\1" + bytes(31),
    "order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "order 8, the other": bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    "p-1": b"\xec" + b"\xff" * 30 + b"\x7f",
    "p": b"\xed" + b"\xff" * 30 + b"\x7f",
    "p+1": b"\xee" + b"\xff" * 30 + b"\x7f",
}
SHARES: dict[str, tuple[NamedGroup, bytes]] = {
    "X25519 too short": (NamedGroup.X25519, bytes(31)),
    "X25519 too long": (NamedGroup.X25519, bytes(33)),
    **{f"X25519 of small order: {name}": (NamedGroup.X25519, key) for name, key in SMALL_ORDER.items()},
    "P-256 compressed": (NamedGroup.SECP256R1, point(ec.SECP256R1(), PublicFormat.CompressedPoint)),
    "P-256 hybrid form": (NamedGroup.SECP256R1, b"\6" + point(ec.SECP256R1(), PublicFormat.UncompressedPoint)[1:]),
    "P-256 at infinity": (NamedGroup.SECP256R1, b"\0"),
    "P-256 not on the curve": (NamedGroup.SECP256R1, off_curve(32)),
    "P-256 too short": (NamedGroup.SECP256R1, point(ec.SECP256R1(), PublicFormat.UncompressedPoint)[:-1]),
    "P-256 too long": (NamedGroup.SECP256R1, point(ec.SECP256R1(), PublicFormat.UncompressedPoint) + b"\0"),
    "P-256 is P-384": (NamedGroup.SECP256R1, point(ec.SECP384R1(), PublicFormat.UncompressedPoint)),
    "P-384 compressed": (NamedGroup.SECP384R1, point(ec.SECP384R1(), PublicFormat.CompressedPoint)),
    "P-384 not on the curve": (NamedGroup.SECP384R1, off_curve(48)),
    "P-384 is P-256": (NamedGroup.SECP384R1, point(ec.SECP256R1(), PublicFormat.UncompressedPoint)),
    "P-521 not on the curve": (NamedGroup.SECP521R1, off_curve(66)),
    "P-521 too short": (NamedGroup.SECP521R1, point(ec.SECP521R1(), PublicFormat.UncompressedPoint)[:-1]),
    "X448 too short": (NamedGroup.X448, bytes(55)),
    "X448 too long": (NamedGroup.X448, b"\5" + bytes(56)),
    **{
        f"X448 of small order: {name}": (NamedGroup.X448, key)
        for name, key in {
            "zero": bytes(56),
            "one": b"\1" + bytes(55),
            "p-1": b"\xfe" + b"\xff" * 27 + b"\xfe" + b"\xff" * 27,
            "p": b"\xff" * 28 + b"\xfe" + b"\xff" * 27,
            "p+1": bytes(28) + b"\xff" * 28,
        }.items()
    },
}
CLIENT_SHARES = SHARES | {
    f"{group.name}: {what}": (group, share)
    for group, (key, _, good, bad) in HYBRIDS.items()
    for mlkem_share in (key.public_bytes_raw(),)
    for what, share in {
        "one byte": b"x",
        "ML-KEM alone": mlkem_share,
        "ECDHE alone": good,
        "ML-KEM too short": hybrid(mlkem_share[:-1], good, group),
        "ML-KEM too long": hybrid(mlkem_share + b"\0", good, group),
        "ECDHE too short": hybrid(mlkem_share, good[:-1], group),
        "no key of the curve": hybrid(mlkem_share, bad, group),
        "a coefficient above q": hybrid(b"\xff" * len(mlkem_share), good, group),
        "the other order": hybrid(mlkem_share, good, group)[len(good) :]
        + hybrid(mlkem_share, good, group)[: len(good)],
    }.items()
}
SERVER_SHARES = SHARES | {
    f"{group.name}: {what}": (group, share)
    for group, (_, size, good, bad) in HYBRIDS.items()
    for what, share in {
        "one byte": b"x",
        "ML-KEM alone": bytes(size),
        "ML-KEM too short": hybrid(bytes(size - 1), good, group),
        "ML-KEM too long": hybrid(bytes(size + 1), good, group),
        "ECDHE too short": hybrid(bytes(size), good[:-1], group),
        "ECDHE too long": hybrid(bytes(size), good + b"\0", group),
        "no key of the curve": hybrid(bytes(size), bad, group),
    }.items()
}


@pytest.mark.parametrize("what", CLIENT_SHARES)
def test_a_client_s_key_share_is_no_key(what: str) -> None:
    """Sections 4.2.8.1, 4.2.8.2 and 7.4.2; draft-ietf-tls-ecdhe-mlkem section 4.2."""
    group, share = CLIENT_SHARES[what]
    duel = Duel.of(client={"key_shares": (group,)})
    hello = ClientHello.decode(duel.next.message)
    extensions = {**hello.extensions, X.KEY_SHARE: encode_key_shares(((group, share),))}
    duel.refuses(replace(hello, extensions=extensions).encode(), A.ILLEGAL_PARAMETER)


@pytest.mark.parametrize("what", SERVER_SHARES)
def test_a_server_s_key_share_is_no_key(what: str) -> None:
    group, share = SERVER_SHARES[what]
    duel = Duel.of(client={"key_shares": (group,)}).until(Role.CLIENT, H.SERVER_HELLO)
    hello = ServerHello.decode(duel.next.message)
    extensions = {**hello.extensions, X.KEY_SHARE: encode_key_share_entry(group, share)}
    duel.refuses(replace(hello, extensions=extensions).encode(), A.ILLEGAL_PARAMETER)


@pytest.mark.parametrize("group", DEFAULT_GROUPS, ids=lambda group: group.name)
def test_shares_are_fresh_and_of_the_right_size(group: NamedGroup) -> None:
    """Section 4.2.8; draft-ietf-tls-ecdhe-mlkem section 4."""
    sizes = {
        NamedGroup.X448: (56, 56),
        NamedGroup.SECP521R1: (133, 133),
        NamedGroup.SECP256R1MLKEM768: (1249, 1153),
        NamedGroup.SECP384R1MLKEM1024: (1665, 1665),
        NamedGroup.X25519: (32, 32),
        NamedGroup.SECP256R1: (65, 65),
        NamedGroup.SECP384R1: (97, 97),
        NamedGroup.X25519MLKEM768: (1216, 1120),
    }
    seen = set()
    for _ in range(2):
        duel = Duel.of(client={"key_shares": (group,), "grease": False})
        ((offered, share),) = decode_key_shares(ClientHello.decode(duel.next.message).extensions[X.KEY_SHARE]).items()
        duel.deliver()
        answer = ServerHello.decode(duel.next.message).extensions[X.KEY_SHARE]
        assert offered == group
        assert (len(share), len(answer) - 4) == sizes[group]
        seen |= {share, answer}
    assert len(seen) == 4


# Keys that TLS 1.3 has no use for


def test_schemes_of_keys() -> None:
    """Section 4.2.3: an ECDSA scheme names its curve; P-224 and brainpool have none."""
    for key_type in KEY_TYPES:
        assert len(identity(key_type).certificate.schemes) == (3 if "rsa" in key_type else 1)
    for key_type in ("p224", "brainpool"):
        assert schemes_of(pki.generate_key(key_type).public_key()) == ()
    assert schemes_of(x25519.X25519PrivateKey.generate().public_key()) == ()


def test_rsa_keys_for_pss_alone() -> None:
    """Section 4.2.3: rsa_pss_rsae_* are for rsaEncryption and rsa_pss_pss_* for RSASSA-PSS."""
    plain, pss = identity("rsa").certificate.schemes, identity("rsa_pss").certificate.schemes
    assert {scheme.name[:11] for scheme in plain} == {"RSA_PSS_RSA"}
    assert {scheme.name[:11] for scheme in pss} == {"RSA_PSS_PSS"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, which makes id-RSASSA-PSS keys")
@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
def test_rsa_keys_for_pss_and_one_hash_alone(hash_name: str) -> None:
    """Section 4.2.3: "If the corresponding public key's parameters are present, then the parameters in the signature
    MUST be identical to those in the public key"."""
    issued = pki.self_signed_pss("server.example", hash_name)
    (scheme,) = pss_schemes(issued.certificate)
    assert scheme.name == f"RSA_PSS_PSS_{hash_name.upper()}"
    public_key: Any = issued.private_key.public_key()
    verify(public_key, scheme, sign(issued.private_key, scheme, b"content"), b"content", (scheme,))
    for other in {S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512} - {scheme}:
        with pytest.raises(PeerError) as refusal:
            verify(public_key, other, sign(issued.private_key, other, b"content"), b"content", (scheme,))
        assert refusal.value.alert is A.ILLEGAL_PARAMETER


def test_signing_with_a_scheme_of_another_key() -> None:
    with pytest.raises(ValueError, match="can't sign ed25519"):
        sign(identity("p256").private_key, S.ED25519, b"")


@pytest.mark.parametrize("key_type", ["p224", "brainpool"])
def test_verifying_with_a_key_of_no_use(key_type: str) -> None:
    public_key: Any = pki.generate_key(key_type).public_key()
    with pytest.raises(PeerError) as refusal:
        verify(public_key, S.ECDSA_SECP256R1_SHA256, b"", b"")
    assert refusal.value.alert is A.ILLEGAL_PARAMETER
