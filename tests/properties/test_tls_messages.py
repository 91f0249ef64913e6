"""Round trips of every message and extension body, and one invariant for every decoder: it parses, or it raises
PeerError, and never anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls import extensions as ext
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.codec import vector8, vector16, vector24
from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS, decompress
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    NewSessionTicket,
    ServerHello,
    encode_message,
)

uint16 = st.integers(0, 0xFFFF)
uint32 = st.integers(0, 0xFFFFFFFF)
small = st.binary(max_size=40)


def blocks(*known: X) -> st.SearchStrategy[dict[int, bytes]]:
    """Extension blocks of unknown extensions and of these."""
    unknown = uint16.filter(lambda kind: kind not in set(X))
    return st.dictionaries(st.one_of(unknown, st.sampled_from([int(kind) for kind in known])), small, max_size=5)


in_hello = blocks(X.SERVER_NAME, X.KEY_SHARE, X.SUPPORTED_VERSIONS, X.COOKIE)
in_server_hello = blocks(X.KEY_SHARE, X.SUPPORTED_VERSIONS)

MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "ClientHello": st.builds(
        ClientHello,
        random=st.binary(min_size=32, max_size=32),
        legacy_session_id=st.binary(max_size=32),
        cipher_suites=st.lists(uint16, min_size=1, max_size=20).map(tuple),
        extensions=in_hello,
        legacy_version=uint16,
        legacy_compression_methods=st.binary(min_size=1, max_size=5),
    ),
    "ServerHello": st.builds(
        ServerHello,
        random=st.one_of(st.binary(min_size=32, max_size=32), st.just(HELLO_RETRY_REQUEST_RANDOM)),
        legacy_session_id_echo=st.binary(max_size=32),
        cipher_suite=uint16,
        extensions=in_server_hello,
        legacy_version=uint16,
        legacy_compression_method=st.integers(0, 255),
    ),
    "EncryptedExtensions": st.builds(EncryptedExtensions, blocks(X.SERVER_NAME, X.QUIC_TRANSPORT_PARAMETERS)),
    "CertificateRequest": st.builds(CertificateRequest, blocks(X.SIGNATURE_ALGORITHMS), small),
    "Certificate": st.builds(
        Certificate,
        st.lists(
            st.builds(CertificateEntry, st.binary(min_size=1, max_size=300), blocks(X.STATUS_REQUEST)), max_size=4
        ).map(tuple),
        small,
    ),
    "CertificateVerify": st.builds(CertificateVerify, uint16, st.binary(max_size=300)),
    "NewSessionTicket": st.builds(
        NewSessionTicket, uint32, uint32, small, st.binary(min_size=1, max_size=200), blocks(X.EARLY_DATA)
    ),
}
TYPES: dict[str, Any] = {
    "ClientHello": ClientHello,
    "ServerHello": ServerHello,
    "EncryptedExtensions": EncryptedExtensions,
    "CertificateRequest": CertificateRequest,
    "Certificate": Certificate,
    "CertificateVerify": CertificateVerify,
    "NewSessionTicket": NewSessionTicket,
}


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_a_message_survives_the_round_trip(name: str, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[name])
    encoded = message.encode()
    assert int.from_bytes(encoded[1:4], "big") == len(encoded) - 4
    assert TYPES[name].decode(encoded) == message


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_a_message_that_is_cut_is_never_another(name: str, data: st.DataObject) -> None:
    """A strict prefix, its header mended: PeerError, or (for hellos that end before their extensions) another hello."""
    encoded = data.draw(MESSAGES[name]).encode()
    cut = encoded[4 : data.draw(st.integers(4, len(encoded) - 1))]
    try:
        decoded = TYPES[name].decode(encode_message(HandshakeType(encoded[0]), cut))
    except PeerError:
        return
    assert name in ("ClientHello", "ServerHello")
    assert decoded.extensions == {}


@given(verify_data=st.binary(max_size=64))
def test_finished_survives_the_round_trip(verify_data: bytes) -> None:
    encoded = Finished(verify_data).encode()
    assert Finished.decode(encoded, len(verify_data)) == Finished(verify_data)
    with pytest.raises(PeerError):
        Finished.decode(encoded, len(verify_data) + 1)


@pytest.mark.parametrize("name", MESSAGES)
@given(body=st.binary(max_size=200), head=st.integers(0, 60))
def test_garbage_is_a_message_or_a_peer_error(name: str, body: bytes, head: int) -> None:
    kind = {"NewSessionTicket": HandshakeType.NEW_SESSION_TICKET}.get(name, HandshakeType.CLIENT_HELLO)
    for garbage in (body, bytes(head) + body):  # zeros get a decoder past its first lengths
        try:
            TYPES[name].decode(encode_message(kind, garbage))
        except PeerError as error:
            assert error.reason  # noqa: PT017


# Extension bodies

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=60)
protocols = st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=6).map(tuple)
numbers = st.lists(uint16, min_size=1, max_size=30).map(tuple)
shares = st.dictionaries(uint16, st.binary(min_size=1, max_size=100), max_size=5)
identities = st.lists(st.tuples(st.binary(min_size=1, max_size=50), uint32), min_size=1, max_size=3)


@given(names)
def test_server_name(name: str) -> None:
    assert ext.decode_server_name(ext.encode_server_name(name)) == name
    assert ext.decode_server_name(ext.encode_server_name(name.upper())) == name


@given(protocols)
def test_certificate_authorities(names: tuple[bytes, ...]) -> None:
    assert ext.decode_certificate_authorities(ext.encode_certificate_authorities(names)) == names


@given(st.lists(uint16, min_size=1, max_size=127).map(tuple))
def test_compress_certificate(algorithms: tuple[int, ...]) -> None:
    assert ext.decode_compress_certificate(ext.encode_compress_certificate(algorithms)) == algorithms


@given(
    algorithm=st.sampled_from((*COMPRESSION_ALGORITHMS, 0x2A2A)),
    length=st.integers(0, 200_000),
    body=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(vector24)),
)
def test_garbage_decompresses_to_what_it_says_or_not_at_all(algorithm: int, length: int, body: bytes) -> None:
    head = algorithm.to_bytes(2, "big") + length.to_bytes(3, "big")
    try:
        message = decompress(encode_message(HandshakeType.COMPRESSED_CERTIFICATE, head + body), COMPRESSION_ALGORITHMS)
    except PeerError as error:
        assert error.reason  # noqa: PT017
    else:
        assert len(message) == 4 + length


@given(protocols)
def test_alpn(offered: tuple[bytes, ...]) -> None:
    assert ext.decode_alpn(ext.encode_alpn(offered)) == offered


@given(numbers)
def test_lists_of_numbers(offered: tuple[int, ...]) -> None:
    encoded = ext.encode_uint16_list(offered)
    assert ext.decode_uint16_list(encoded, "numbers") == offered
    assert ext.decode_supported_versions(vector8(encoded[2:])) == offered


@given(shares)
def test_key_shares(offered: dict[int, bytes]) -> None:
    decoded = ext.decode_key_shares(ext.encode_key_shares(tuple(offered.items())))
    assert list(decoded.items()) == list(offered.items())


@given(uint16, st.binary(min_size=1, max_size=100))
def test_key_share_entry(group: int, share: bytes) -> None:
    assert ext.decode_key_share_entry(ext.encode_key_share_entry(group, share)) == (group, share)


@given(identities, st.data())
def test_offered_psks(offered: list[tuple[bytes, int]], data: st.DataObject) -> None:
    binders = tuple(data.draw(st.binary(min_size=32, max_size=64)) for _ in offered)
    listed = b"".join([vector16(identity) + age.to_bytes(4, "big") for identity, age in offered])
    body = vector16(listed) + vector16(b"".join([vector8(binder) for binder in binders]))
    assert ext.decode_offered_psks(body) == (tuple(offered), binders)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "server_name": ext.decode_server_name,
    "alpn": ext.decode_alpn,
    "uint16_list": lambda body: ext.decode_uint16_list(body, "a list"),
    "supported_versions": ext.decode_supported_versions,
    "uint16": lambda body: ext.decode_uint16(body, "a number"),
    "key_shares": ext.decode_key_shares,
    "key_share_entry": ext.decode_key_share_entry,
    "psk_key_exchange_modes": ext.decode_psk_key_exchange_modes,
    "offered_psks": ext.decode_offered_psks,
    "certificate_authorities": ext.decode_certificate_authorities,
    "compress_certificate": ext.decode_compress_certificate,
}


@pytest.mark.parametrize("name", DECODERS)
@given(body=st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(vector16)))
def test_garbage_is_a_body_or_a_peer_error(name: str, body: bytes) -> None:
    try:
        DECODERS[name](body)
    except PeerError as error:
        assert error.reason  # noqa: PT017
