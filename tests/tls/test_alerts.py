"""The alerts of RFC 8446 section 6.2, each in the situations that the RFCs name: rows of rule, step and alert.

A row takes a handshake that is well to the point where one side is to receive a message, puts another message there,
and says which alert ends it. More cases of the same rules are in the files of the messages; alerts of the record layer
are in test_record.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EACCES, EIO, EKEYREJECTED
from functools import partial
from typing import Any

import pytest

from quic_tlshd.request import HandshakeOutcome
from quic_tlshd.status import alert_of, outcome_of
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.codec import vector16, vector24
from quic_tlshd.tls.extensions import (
    encode_alpn,
    encode_key_share_entry,
    encode_key_shares,
    encode_server_name,
)
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
    encode_message,
)
from quic_tlshd.tls.parameters import ClientCertificate, Level, Psk
from tests.tls.playbook import Duel, Role, distrust, identity, trust

Change = Callable[[bytes], bytes]
CLIENT, SERVER = Role.CLIENT, Role.SERVER
MUTUAL: dict[str, Any] = {"request": ClientCertificate.REQUIRE, "client_key": "p256"}
PSK = Psk(b"identity", b"k" * 32)
BY_PSK: dict[str, Any] = {"client": {"psks": (PSK,)}, "server": {"find_psk": True}, "server_psks": (PSK,)}
STRANGER: dict[str, Any] = {**BY_PSK, "server_psks": (), "choice": {"certificates": ()}}
LEAF = identity().chain[0]


@dataclass(frozen=True)
class Row:
    """rule: RFC, section, and what of it is broken. to, message, nth: who is to receive what.

    change: what comes instead; None if the handshake of these options fails by itself. level: where, if elsewhere.
    """

    rule: str
    to: Role
    message: H
    change: Change | None
    alert: A
    options: dict[str, Any]
    nth: int = 1
    level: Level | None = None

    def __str__(self) -> str:
        return f"{self.to}, {self.rule}"


ROWS: list[Row] = []


def rules(
    to: Role,
    message: H,
    broken: dict[str, tuple[Change | None, A]],
    *,
    nth: int = 1,
    level: Level | None = None,
    **options: Any,
) -> None:
    """Rows of one step in one kind of handshake."""
    ROWS.extend(Row(rule, to, message, change, alert, options, nth, level) for rule, (change, alert) in broken.items())


def edit(kind: Any, extensions: dict[int, bytes | None] | None = None, **fields: Any) -> Change:
    """Decode, set these extensions (None removes one) and fields, and encode."""

    def change(message: bytes) -> bytes:
        decoded = kind.decode(message)
        if extensions is not None:
            merged = {**decoded.extensions, **extensions}
            decoded = replace(decoded, extensions={name: body for name, body in merged.items() if body is not None})
        return bytes(replace(decoded, **fields).encode())

    return change


hello, answer = partial(edit, ClientHello), partial(edit, ServerHello)
in_encrypted, in_verify = partial(edit, EncryptedExtensions), partial(edit, CertificateVerify)


def shares(*entries: tuple[int, bytes]) -> Change:
    """A ClientHello with these key shares."""
    return hello({X.KEY_SHARE: encode_key_shares(entries)})


def share(group: int, key_exchange: bytes) -> Change:
    """A ServerHello with this one."""
    return answer({X.KEY_SHARE: encode_key_share_entry(group, key_exchange)})


def instead(message: bytes) -> Change:
    return lambda _message: message


def other(kind: H, body: bytes = b"") -> Change:
    return instead(encode_message(kind, body))


def behind(extra: bytes) -> Change:
    """The message with something behind its structure."""
    return lambda message: encode_message(H(message[0]), message[4:] + extra)


def refusing(alert: A) -> dict[str, Any]:
    """A server whose registry refuses the ClientHello."""

    def choose(_name: str | None, _alpn: tuple[bytes, ...]) -> Any:
        raise PeerError(alert, "the registry says no")

    return {"choose": choose}


def compressed(data: bytes, length: int, algorithm: int = 1) -> Change:
    """A CompressedCertificate by zlib, whatever `algorithm` says."""
    head = algorithm.to_bytes(2, "big") + length.to_bytes(3, "big")
    return other(H.COMPRESSED_CERTIFICATE, head + vector24(zlib.compress(data)))


ALPN = X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION
POINT = b"\x09" + bytes(31)  # of X25519
FIRST_CLIENT_HELLO = ClientHello(bytes(32), b"", (0x1301,), {})
REQUEST = instead(CertificateRequest({X.SIGNATURE_ALGORITHMS: b"\0\2\4\3"}).encode())
END_OF_EARLY_DATA, KEY_UPDATE = other(H.END_OF_EARLY_DATA), other(H.KEY_UPDATE, b"\0")

rules(
    SERVER,
    H.CLIENT_HELLO,
    {
        "8446 4: a message out of order": (END_OF_EARLY_DATA, A.UNEXPECTED_MESSAGE),
        "8446 4: a message that nobody knows": (instead(b"\x63\0\0\0"), A.UNEXPECTED_MESSAGE),
        "8446 4.1.1: no group in common": (
            hello({X.SUPPORTED_GROUPS: b"\0\2\1\0", X.KEY_SHARE: b"\0\0"}),
            A.HANDSHAKE_FAILURE,
        ),
        "8446 4.1.1: no cipher suite in common": (hello(cipher_suites=(0x00FF,)), A.HANDSHAKE_FAILURE),
        "8446 4.1.2: compression": (hello(legacy_compression_methods=b"\0\1"), A.ILLEGAL_PARAMETER),
        "8446 4.2: data behind a structure": (hello({X.SUPPORTED_GROUPS: b"\0\2\0\x1d\0"}), A.DECODE_ERROR),
        "8446 4.2: an extension of another message": (hello({X.OID_FILTERS: b"\0\0"}), A.ILLEGAL_PARAMETER),
        "8446 4.2.1: no supported_versions": (hello({X.SUPPORTED_VERSIONS: None}), A.PROTOCOL_VERSION),
        "8446 4.2.1: no TLS 1.3": (hello({X.SUPPORTED_VERSIONS: b"\2\3\3"}), A.PROTOCOL_VERSION),
        "8446 D.5: SSL 3.0": (hello(legacy_version=0x0300), A.PROTOCOL_VERSION),
        "7507 3: TLS_FALLBACK_SCSV of a client that could do better": (
            hello({X.SUPPORTED_VERSIONS: None}, cipher_suites=(0x5600, 0xC02B)),
            A.INAPPROPRIATE_FALLBACK,
        ),
        "8446 4.2.8: a share of a group that is not supported": (shares((0x0100, b"x")), A.ILLEGAL_PARAMETER),
        "8446 4.2.8: two shares of one group": (shares(*((NamedGroup.X25519, POINT),) * 2), A.ILLEGAL_PARAMETER),
        "8446 4.2.8: a share of no bytes": (shares((NamedGroup.X25519, b"")), A.DECODE_ERROR),
        "8446 4.2.8.2: a point that is not on the curve": (
            shares((NamedGroup.SECP256R1, b"\4" + b"\1" * 64)),
            A.ILLEGAL_PARAMETER,
        ),
        "8446 7.4.2: an all-zero X25519 result": (shares((NamedGroup.X25519, bytes(32))), A.ILLEGAL_PARAMETER),
        "draft-ietf-tls-ecdhe-mlkem 4: a share of another length": (
            shares((NamedGroup.X25519MLKEM768, bytes(1215))),
            A.ILLEGAL_PARAMETER,
        ),
        "8446 4.4.2.2: no signature scheme in common": (
            hello({X.SIGNATURE_ALGORITHMS: b"\0\2\2\3"}),
            A.HANDSHAKE_FAILURE,
        ),
        "8446 5.1: data that spans a change of keys": (lambda message: message + b"\x14", A.UNEXPECTED_MESSAGE),
        "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
        "8446 6: a length beyond the message": (other(H.CLIENT_HELLO, b"\xff" * 39), A.DECODE_ERROR),
        "8446 9.2: no signature_algorithms": (hello({X.SIGNATURE_ALGORITHMS: None}), A.MISSING_EXTENSION),
        "8446 9.2: no supported_groups": (hello({X.SUPPORTED_GROUPS: None}), A.MISSING_EXTENSION),
        "8446 9.2: no key_share": (hello({X.KEY_SHARE: None}), A.MISSING_EXTENSION),
        "6066 3: two host names": (
            hello({X.SERVER_NAME: vector16((b"\0" + vector16(b"a.example")) * 2)}),
            A.ILLEGAL_PARAMETER,
        ),
        "7301 3.1: an empty protocol name": (hello({ALPN: b"\0\2\0\0"}), A.DECODE_ERROR),
        "8449 4: a record_size_limit below 64": (hello({X.RECORD_SIZE_LIMIT: b"\0\x3f"}), A.ILLEGAL_PARAMETER),
        "8879 3: no algorithm": (hello({X.COMPRESS_CERTIFICATE: b"\0"}), A.DECODE_ERROR),
        "9001 8.2: its transport parameters elsewhere": (
            hello({X.QUIC_TRANSPORT_PARAMETERS: b""}),
            A.UNSUPPORTED_EXTENSION,
        ),
    },
)
rules(
    SERVER,
    H.CLIENT_HELLO,
    {
        "9001 8.2: no transport parameters": (hello({X.QUIC_TRANSPORT_PARAMETERS: None}), A.MISSING_EXTENSION),
        "9001 8.4: compatibility mode": (hello(legacy_session_id=bytes(32)), A.ILLEGAL_PARAMETER),
    },
    quic=True,
)
rules(
    SERVER,
    H.CLIENT_HELLO,
    {"9001 8.1: no protocol that could be selected": (None, A.NO_APPLICATION_PROTOCOL)},
    quic=True,
    choice={"alpn": None},
)
for refusal in (A.UNRECOGNIZED_NAME, A.NO_APPLICATION_PROTOCOL):
    source = "6066 3: no server of that name" if refusal is A.UNRECOGNIZED_NAME else "7301 3.2: no protocol in common"
    rules(SERVER, H.CLIENT_HELLO, {source: (None, refusal)}, server=refusing(refusal))
rules(
    SERVER,
    H.CLIENT_HELLO,
    {
        "8446 4.1.2: a second hello that differs": (
            hello({X.SERVER_NAME: encode_server_name("other.example")}),
            A.ILLEGAL_PARAMETER,
        ),
        "8446 4.1.2: a second hello with early_data": (hello({X.EARLY_DATA: b""}), A.ILLEGAL_PARAMETER),
        "8446 4.1.2: a second hello without the share": (shares(), A.ILLEGAL_PARAMETER),
        "8446 4.2.2: a cookie that was not given": (hello({X.COOKIE: b"\0\1c"}), A.ILLEGAL_PARAMETER),
    },
    nth=2,
    retry=True,
)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {
        "8446 4: a message out of order": (END_OF_EARLY_DATA, A.UNEXPECTED_MESSAGE),
        "8446 4.1.3: an echo of another session id": (answer(legacy_session_id_echo=bytes(32)), A.ILLEGAL_PARAMETER),
        "8446 4.1.3: a cipher suite that was not offered": (answer(cipher_suite=0xC02B), A.ILLEGAL_PARAMETER),
        "8446 4.1.3: compression": (answer(legacy_compression_method=1), A.ILLEGAL_PARAMETER),
        "8446 4.1.3: the sentinel of a downgrade": (
            answer({X.SUPPORTED_VERSIONS: None}, random=bytes(24) + b"DOWNGRD\1"),
            A.ILLEGAL_PARAMETER,
        ),
        "8446 D.1: a server of TLS 1.2": (answer({X.SUPPORTED_VERSIONS: None}), A.PROTOCOL_VERSION),
        "8446 D.5: a server of SSL 3.0": (answer(legacy_version=0x0300), A.PROTOCOL_VERSION),
        "9846 4.1.3: legacy_version is not TLS 1.2's": (answer(legacy_version=0x0304), A.PROTOCOL_VERSION),
        "8446 4.2: an extension of another message": (answer({X.SIGNATURE_ALGORITHMS: b""}), A.ILLEGAL_PARAMETER),
        "8446 4.2: a response that was not asked for": (answer({X.PRE_SHARED_KEY: b"\0\0"}), A.UNSUPPORTED_EXTENSION),
        "8446 4.2.1: a version that was not offered": (answer({X.SUPPORTED_VERSIONS: b"\3\3"}), A.ILLEGAL_PARAMETER),
        "8446 4.2.8: no key_share": (answer({X.KEY_SHARE: None}), A.MISSING_EXTENSION),
        "8446 4.2.8: a share of another group": (share(NamedGroup.SECP256R1, bytes(65)), A.ILLEGAL_PARAMETER),
        "8446 7.4.2: an all-zero X25519 result": (share(NamedGroup.X25519, bytes(32)), A.ILLEGAL_PARAMETER),
        "8446 5.1: data that spans a change of keys": (lambda message: message + b"\x14", A.UNEXPECTED_MESSAGE),
        "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
        "8446 6: a length beyond the message": (other(H.SERVER_HELLO, b"\xff" * 39), A.DECODE_ERROR),
    },
)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {
        "draft-ietf-tls-ecdhe-mlkem 4: a share of another length": (
            share(NamedGroup.X25519MLKEM768, bytes(1119)),
            A.ILLEGAL_PARAMETER,
        ),
    },
    client={"key_shares": (NamedGroup.X25519MLKEM768,)},
)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {
        "8446 4.1.4: a retry that would change nothing": (answer({X.KEY_SHARE: None}), A.ILLEGAL_PARAMETER),
        "8446 4.1.4: a retry with a foreign extension": (answer({0x7777: b""}), A.UNSUPPORTED_EXTENSION),
        "8446 4.1.4: a retry with a foreign cipher suite": (answer(cipher_suite=0x1305), A.ILLEGAL_PARAMETER),
        "8446 4.2.8: a retry for a group that was not offered": (answer({X.KEY_SHARE: b"\1\0"}), A.ILLEGAL_PARAMETER),
        "8446 4.2.8: a retry for a group with a share": (answer({X.KEY_SHARE: b"\0\x18"}), A.ILLEGAL_PARAMETER),
    },
    retry=True,
)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {
        "8446 4.1.4: a second retry": (
            answer({X.KEY_SHARE: b"\0\x17"}, random=HELLO_RETRY_REQUEST_RANDOM),
            A.UNEXPECTED_MESSAGE,
        ),
        "8446 4.1.4: another cipher suite than the retry's": (answer(cipher_suite=0x1303), A.ILLEGAL_PARAMETER),
        "8446 4.1.4: another version than the retry's": (
            answer({X.SUPPORTED_VERSIONS: b"\3\5"}),
            A.ILLEGAL_PARAMETER,
        ),
        "8446 4.2.8: another group than the retry's": (share(NamedGroup.SECP384R1, bytes(97)), A.ILLEGAL_PARAMETER),
    },
    nth=2,
    retry=True,
)

# Pre-shared keys

rules(
    SERVER,
    H.CLIENT_HELLO,
    {
        "8446 4.2.9: no psk_key_exchange_modes": (hello({X.PSK_KEY_EXCHANGE_MODES: None}), A.MISSING_EXTENSION),
        "8446 4.2.11: pre_shared_key is not the last": (hello({0x7777: b""}), A.ILLEGAL_PARAMETER),
        "8446 4.2.11: the binder is wrong": (
            lambda message: message[:-1] + bytes((message[-1] ^ 1,)),
            A.DECRYPT_ERROR,
        ),
    },
    **BY_PSK,
)
rules(SERVER, H.CLIENT_HELLO, {"8446 6.2: no PSK identity is known": (None, A.UNKNOWN_PSK_IDENTITY)}, **STRANGER)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {
        "8446 4.2.11: selected_identity is out of range": (answer({X.PRE_SHARED_KEY: b"\0\1"}), A.ILLEGAL_PARAMETER),
        "8446 4.2.11: a cipher suite of another hash": (answer(cipher_suite=0x1302), A.ILLEGAL_PARAMETER),
        "8446 4.2.11: psk_ke, which was not offered": (answer({X.KEY_SHARE: None}), A.ILLEGAL_PARAMETER),
    },
    **BY_PSK,
)
rules(
    CLIENT,
    H.SERVER_HELLO,
    {"8446 4.2.9: psk_dhe_ke, which was not offered": (share(NamedGroup.X25519, POINT), A.ILLEGAL_PARAMETER)},
    **{**BY_PSK, "client": {"psks": (PSK,), "psk_modes": (PskKeyExchangeMode.PSK_KE,)}},
)
rules(CLIENT, H.FINISHED, {"8446 4.3.2: a CertificateRequest after a PSK": (REQUEST, A.UNEXPECTED_MESSAGE)}, **BY_PSK)

# EncryptedExtensions and CertificateRequest

rules(
    CLIENT,
    H.ENCRYPTED_EXTENSIONS,
    {
        "8446 4.2: a response that was not asked for": (
            in_encrypted({X.MAX_FRAGMENT_LENGTH: b"\1"}),
            A.UNSUPPORTED_EXTENSION,
        ),
        "8446 4.3.1: a forbidden extension": (in_encrypted({X.KEY_SHARE: b""}), A.ILLEGAL_PARAMETER),
        "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
        "6066 3: server_name is not empty": (in_encrypted({X.SERVER_NAME: b"\0"}), A.DECODE_ERROR),
        "7301 3.1: a protocol that was not offered": (in_encrypted({ALPN: encode_alpn((b"h2",))}), A.ILLEGAL_PARAMETER),
        "7301 3.1: two protocols": (in_encrypted({ALPN: encode_alpn((b"h3", b"smb"))}), A.ILLEGAL_PARAMETER),
        "8449 4: a record_size_limit below 64": (in_encrypted({X.RECORD_SIZE_LIMIT: b"\0\x3f"}), A.ILLEGAL_PARAMETER),
        "9001 8.1: no protocol": (in_encrypted({ALPN: None}), A.NO_APPLICATION_PROTOCOL),
        "9001 8.2: no transport parameters": (in_encrypted({X.QUIC_TRANSPORT_PARAMETERS: None}), A.MISSING_EXTENSION),
    },
    quic=True,
    client={"record_size_limit": 100},
)
rules(
    CLIENT,
    H.CERTIFICATE_REQUEST,
    {
        "8446 4.3.2: no signature_algorithms": (
            edit(CertificateRequest, {X.SIGNATURE_ALGORITHMS: None}),
            A.MISSING_EXTENSION,
        ),
        "8446 4.3.2: a context": (edit(CertificateRequest, certificate_request_context=b"x"), A.ILLEGAL_PARAMETER),
        "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
    },
    **MUTUAL,
)

# Certificate, CertificateVerify and Finished, to both sides

for role in Role:
    rules(
        role,
        H.CERTIFICATE,
        {
            "8446 4: a message that nobody knows": (instead(b"\x63\0\0\0"), A.UNEXPECTED_MESSAGE),
            "8446 4.2: a response that was not asked for": (
                instead(Certificate((CertificateEntry(LEAF, {0x7777: b""}),)).encode()),
                A.UNSUPPORTED_EXTENSION,
            ),
            "8446 4.4.2: a context": (edit(Certificate, certificate_request_context=b"x"), A.ILLEGAL_PARAMETER),
            "8446 4.4.2.4: no certificate": (
                instead(Certificate(()).encode()),
                A.DECODE_ERROR if role is CLIENT else A.CERTIFICATE_REQUIRED,
            ),
            "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
            "8879 4: compression that nobody asked for": (compressed(b"x", 1), A.UNEXPECTED_MESSAGE),
        },
        **MUTUAL,
    )
    rules(
        role,
        H.COMPRESSED_CERTIFICATE,
        {
            "8879 4: an algorithm that was not offered": (compressed(b"x", 1, 2), A.ILLEGAL_PARAMETER),
            "8879 4: another length than it says": (compressed(b"x", 2), A.BAD_CERTIFICATE),
            "8879 4: what can't be decompressed": (
                other(H.COMPRESSED_CERTIFICATE, b"\0\1\0\0\1" + vector24(b"x")),
                A.BAD_CERTIFICATE,
            ),
        },
        compression=(CertificateCompressionAlgorithm.ZLIB,),
        **{**MUTUAL, "client_key": "rsa", "server_key": "rsa"},
    )
    rules(
        role,
        H.CERTIFICATE_VERIFY,
        {
            "8446 4.4.3: a scheme that was not offered": (in_verify(algorithm=0x0203), A.ILLEGAL_PARAMETER),
            "8446 4.4.3: a scheme that is not for the key": (in_verify(algorithm=S.ED25519), A.ILLEGAL_PARAMETER),
            "8446 4.2.3: PKCS #1": (in_verify(algorithm=S.RSA_PKCS1_SHA256), A.ILLEGAL_PARAMETER),
            "8446 4.4.3: a wrong signature": (in_verify(signature=b"x"), A.DECRYPT_ERROR),
            "8446 6: bytes behind the structure": (behind(b"\0"), A.DECODE_ERROR),
        },
        **{**MUTUAL, "client_key": "rsa", "server_key": "rsa"},
    )
    rules(
        role,
        H.FINISHED,
        {
            "8446 4: a message out of order": (END_OF_EARLY_DATA, A.UNEXPECTED_MESSAGE),
            "8446 4.1.2: a ClientHello later": (instead(FIRST_CLIENT_HELLO.encode()), A.UNEXPECTED_MESSAGE),
            "8446 4.6.3, 9001 6: a KeyUpdate": (KEY_UPDATE, A.UNEXPECTED_MESSAGE),
            "8446 4.4.4: wrong verify_data": (other(H.FINISHED, bytes(32)), A.DECRYPT_ERROR),
            "8446 4.4.4: another length": (behind(b"\0"), A.DECODE_ERROR),
            "8446 5.1: data that spans a change of keys": (lambda message: message + b"\x14", A.UNEXPECTED_MESSAGE),
        },
        quic=True,
    )
    rules(
        role,
        H.FINISHED,
        {"9001 4.1.3: data of an earlier level": (lambda message: message, A.UNEXPECTED_MESSAGE)},
        level=Level.INITIAL,
        quic=True,
    )
    for verdict in (
        A.BAD_CERTIFICATE,
        A.UNSUPPORTED_CERTIFICATE,
        A.CERTIFICATE_REVOKED,
        A.CERTIFICATE_EXPIRED,
        A.CERTIFICATE_UNKNOWN,
        A.UNKNOWN_CA,
        A.ACCESS_DENIED,
        A.BAD_CERTIFICATE_STATUS_RESPONSE,
    ):
        rules(
            role,
            H.CERTIFICATE,
            {f"8446 6.2: the verifier says {verdict.label}": (None, verdict)},
            client={"verify_server": distrust(verdict) if role is CLIENT else trust},
            choice={"verify_client": distrust(verdict)},
            **MUTUAL,
        )


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule(row: Row) -> None:
    duel = Duel.of(**row.options).until(row.to, row.message, row.nth)
    if row.change is None:
        duel.fails(row.alert)
    else:
        duel.refuses(row.change(duel.next.message), row.alert, level=row.level)


ELSEWHERE = {
    A.CLOSE_NOTIFY: "ends a connection, see test_connection",
    A.USER_CANCELED: "when time is up, see below",
    A.BAD_RECORD_MAC: "of the record layer, see test_record",
    A.RECORD_OVERFLOW: "of the record layer, see test_record",
    A.INTERNAL_ERROR: "when it is our fault, see below",
}
NEVER = {
    A.INSUFFICIENT_SECURITY: "section 4.1.1 lets a server say handshake_failure instead",
    A.GENERAL_ERROR: "RFC 9846 section 6.2: only where there is none more specific",
    A.ECH_REQUIRED: "RFC 9849: there is no ECH here",
}


def test_every_alert_has_its_rule() -> None:
    assert {row.alert for row in ROWS} | set(ELSEWHERE) | set(NEVER) == set(A)


def test_alerts_for_what_is_not_the_peer_s_fault() -> None:
    assert alert_of(TimeoutError()) is A.USER_CANCELED
    assert alert_of(ZeroDivisionError()) is A.INTERNAL_ERROR
    assert alert_of(PeerAlertError(A.UNKNOWN_CA)) is None  # section 6.2: both sides close then


# Received alerts: section 6

REFUSED = {
    A.BAD_CERTIFICATE, A.UNSUPPORTED_CERTIFICATE, A.CERTIFICATE_REVOKED, A.CERTIFICATE_EXPIRED, A.CERTIFICATE_UNKNOWN,
    A.UNKNOWN_CA, A.ACCESS_DENIED, A.DECRYPT_ERROR, A.BAD_CERTIFICATE_STATUS_RESPONSE, A.CERTIFICATE_REQUIRED,
    A.MISSING_EXTENSION, A.UNRECOGNIZED_NAME, A.NO_APPLICATION_PROTOCOL,
}  # fmt: skip


@pytest.mark.parametrize("number", range(256))
def test_a_received_alert_ends_the_handshake_with_its_name(number: int) -> None:
    """Those that nobody knows are errors too."""
    outcome: HandshakeOutcome = outcome_of(PeerAlertError(number))
    status = EACCES if number in REFUSED else EKEYREJECTED if number == A.UNKNOWN_PSK_IDENTITY else EIO
    assert (outcome.status, outcome.alert, outcome.alert_received) == (status, number, True)
    name = A(number).label if number in set(A) else f"alert {number}"
    assert outcome.reason == f"the peer sent the alert {name}"
