"""What is fuzzed. A target takes any bytes and returns; whatever it raises is a finding."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from quic_tlshd.tls import compression, extensions, messages
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError, PeerError
from quic_tlshd.tls.connection import Connection
from quic_tlshd.tls.events import InstallSecret
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, CipherSuite, HandshakeType, NamedGroup
from quic_tlshd.tls.key_exchange import KeyPair, generate
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level, Psk
from quic_tlshd.tls.protection import Protection, TrafficKeys
from quic_tlshd.tls.record import HEADER, RecordLayer
from quic_tlshd.tls.ticket import Session
from tests.tls import resuming
from tests.tls.playbook import Duel, Role, parse

PSK = Psk(b"an external identity", b"0123456789abcdef0123456789abcdef")


def _steady() -> dict[str, Any]:
    """The same randomness in every run, so that what one run sent fits into another."""
    return {"random": random.Random(0).randbytes, "generate": cache(_key_pair)}


@cache
def _key_pair(group: NamedGroup) -> KeyPair:
    return generate(group)


def _full() -> Duel:
    """Every message of a handshake with certificates, over QUIC."""
    return Duel.of(
        quic=True,
        retry=True,
        request=ClientCertificate.REQUIRE,
        server_key="ed25519",
        client_key="ed25519",
        client={"verify_server": parse, **_steady()},
        server=_steady(),
        choice={"verify_client": parse},
    )


def _over_records() -> Duel:
    """A handshake over records, with compressed certificates."""
    return Duel.of(
        server_key="ed25519",
        client={"verify_server": parse, "record_size_limit": 2**14 + 1, "compatibility_mode": True, **_steady()},
        server={"record_size_limit": 2**14 + 1, **_steady()},
        compression=(CertificateCompressionAlgorithm.ZLIB,),
    )


def _external_psk() -> Duel:
    return Duel.of(
        client={"verify_server": parse, "psks": (PSK,), **_steady()},
        server={"find_psk": True, **_steady()},
        server_psks=(PSK,),
    )


@cache
def _session() -> Session:
    return resuming.first(**resuming.EARLY)


def _resumed() -> Duel:
    """A session that goes on, with early data."""
    return resuming.duel(
        _session(),
        choice={"max_early_data": 1000},
        client={"verify_server": parse, "early_data": True, **_steady()},
        server=_steady(),
    )


@dataclass(frozen=True)
class Step:
    """Where the handshake of `start` has delivered `at` messages; `message` is what would come next."""

    start: Callable[[], Duel]
    at: int
    message: bytes


@cache
def _steps(role: Role) -> tuple[Step, ...]:
    """All places where that role receives a message."""
    return tuple(
        Step(start, at, letter.message)
        for start in (_full, _over_records, _external_psk, _resumed)
        for at, letter in enumerate(start().run().delivered)
        if letter.to is role
    )


def handshake(role: Role, data: bytes) -> None:
    """The first byte selects the step, the rest comes there; then all that was under way."""
    if len(data) < 2:
        return
    steps = _steps(role)
    step = steps[data[0] % len(steps)]
    standing = step.start()
    for _ in range(step.at):
        standing.deliver()
    own = standing.next.message
    is_ticket = standing.next.kind == HandshakeType.NEW_SESSION_TICKET  # which comes when both are complete
    standing.change(lambda _message: data[1:])
    with suppress(PeerError):
        while standing.wire and standing.party(standing.next.to).can_receive_at(standing.next.level):
            standing.deliver()
        assert is_ticket or not standing.is_complete or data[1:] == own, "both hold a changed handshake to be complete"


def _finished(data: bytes) -> object:
    return messages.Finished.decode(data, 32)


def _block(place: HandshakeType | str) -> Callable[[bytes], object]:
    return lambda data: extensions.decode_extensions(data, 0, place)


def _decompressed(data: bytes) -> object:
    return compression.decompress(data, compression.COMPRESSION_ALGORITHMS)


_MESSAGES: tuple[Any, ...] = (
    messages.ClientHello,
    messages.ServerHello,
    messages.EncryptedExtensions,
    messages.CertificateRequest,
    messages.Certificate,
    messages.CertificateVerify,
    messages.EndOfEarlyData,
    messages.NewSessionTicket,
    messages.KeyUpdate,
)
_DECODERS: tuple[Callable[[bytes], object], ...] = (
    *(kind.decode for kind in _MESSAGES),
    _finished,
    _decompressed,
    extensions.decode_server_name,
    extensions.decode_alpn,
    extensions.decode_supported_versions,
    extensions.decode_certificate_authorities,
    extensions.decode_compress_certificate,
    extensions.decode_record_size_limit,
    extensions.decode_key_shares,
    extensions.decode_key_share_entry,
    extensions.decode_psk_key_exchange_modes,
    extensions.decode_offered_psks,
    partial(extensions.decode_uint16, what="a number"),
    partial(extensions.decode_uint16_list, what="a list"),
    _block(HandshakeType.CLIENT_HELLO),
    _block(HandshakeType.ENCRYPTED_EXTENSIONS),
    _block(HandshakeType.CERTIFICATE),
    Session.decode,  # which comes back from a transport that kept it
)


def codec(data: bytes) -> None:
    """The first byte selects the decoder. A message that was decoded can be encoded, to what decodes to the same."""
    if not data:
        return
    decode = _DECODERS[data[0] % len(_DECODERS)]
    with suppress(PeerError):
        decoded = decode(data[1:])
        if isinstance(decoded, _MESSAGES):
            assert decode(decoded.encode()) == decoded


_SECRETS = ((Level.EARLY, b"e" * 32), (Level.HANDSHAKE, b"h" * 32), (Level.APP, b"a" * 32))


def records(data: bytes) -> None:
    """A receiver of records. The first byte says what is done with early data, then come operations of the form: what,
    length (two bytes), content. What: 0 a record as it is, 1 one that is properly protected, 2 the next keys."""
    if not data:
        return
    layer = RecordLayer()
    if data[0] & 1:
        layer.skip_early_data(1000)
    if data[0] & 2:
        layer.take_early_data(1000)
    connection = Connection(layer, _take_message)
    secrets = iter(_SECRETS if data[0] & 2 else _SECRETS[1:])
    peer: Protection | None = None
    with suppress(PeerError, PeerAlertError):
        for what, content in _operations(data[1:]):
            if what == 2:
                level, secret = next(secrets, (None, b""))
                if level is not None:
                    layer.install(InstallSecret(level, Direction.RECEIVE, CipherSuite.TLS_AES_128_GCM_SHA256, secret))
                    layer.install(InstallSecret(level, Direction.SEND, CipherSuite.TLS_AES_128_GCM_SHA256, secret))
                    peer = Protection(TrafficKeys.derive(CipherSuite.TLS_AES_128_GCM_SHA256, secret))
                continue
            if what == 1 and peer is not None and content:
                record = peer.seal(content[0], content[1 : 2**14 + 1])
            else:
                record = content.ljust(HEADER, b"\0")
            header, body = record[:HEADER], record[HEADER:]
            body = body[: layer.body_length(header)].ljust(layer.body_length(header), b"\0")
            if layer.level is Level.APP:
                connection.receive(header, body)
            else:
                layer.open(header, body)


def _operations(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        yield data[at] % 3, data[at + 3 : end]
        at = end


def _take_message(message: bytes) -> None:
    if message[0] != HandshakeType.NEW_SESSION_TICKET:
        raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "this is no ticket")


@dataclass(frozen=True)
class Target:
    """run: on one input. seeds: inputs that lead deep into what is fuzzed."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _handshake_seeds(role: Role) -> list[bytes]:
    return [bytes((number,)) + step.message for number, step in enumerate(_steps(role))]


def _codec_seeds() -> list[bytes]:
    """Each message for each decoder of one, and each extension's body for each decoder of those."""
    seeds = []
    for step in (*_steps(Role.SERVER), *_steps(Role.CLIENT)):
        for number, decode in enumerate(_DECODERS):
            with suppress(PeerError):
                decode(step.message)
                seeds.append(bytes((number,)) + step.message)
    hello = messages.ClientHello.decode(_steps(Role.SERVER)[0].message)
    for body in hello.extensions.values():
        for number, decode in enumerate(_DECODERS):
            with suppress(PeerError):
                decode(body)
                seeds.append(bytes((number,)) + body)
    return [*seeds, bytes((len(_DECODERS) - 1,)) + _session().encode()]


def _records_seeds() -> list[bytes]:
    def operation(what: int, content: bytes = b"") -> bytes:
        return bytes((what,)) + len(content).to_bytes(2, "big") + content

    hello = operation(0, b"\x16\x03\x01\x00\x08\x01\x00\x00\x04abcd")
    finished = operation(1, b"\x16\x14\x00\x00\x04abcd")
    change_cipher_spec = operation(0, b"\x14\x03\x03\x00\x01\x01")
    application_data = operation(1, b"\x17Hello")
    key_update = operation(1, b"\x16\x18\x00\x00\x01\x01")
    alert, close = operation(0, b"\x15\x03\x03\x00\x02\x02\x28"), operation(1, b"\x15\x01\x00")
    keys = operation(2)
    begun = hello + change_cipher_spec + keys + finished + keys
    return [
        b"\0" + begun + application_data + close,
        b"\0" + begun + key_update + close,
        b"\0" + hello + alert,
        b"\1" + hello + operation(0, b"\x17\x03\x03\x00\x20" + bytes(32)) + keys + finished + keys + application_data,
        b"\2" + hello + keys + application_data + keys + finished + keys + application_data,
    ]


TARGETS = {
    "codec": Target(codec, _codec_seeds),
    "server": Target(partial(handshake, Role.SERVER), partial(_handshake_seeds, Role.SERVER)),
    "client": Target(partial(handshake, Role.CLIENT), partial(_handshake_seeds, Role.CLIENT)),
    "records": Target(records, _records_seeds),
}
