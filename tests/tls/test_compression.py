"""compress_certificate, RFC 8879: smaller Certificate messages both ways, and what a peer may not do with them."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.codec import vector24
from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS, MAXIMUM, compress, decompress
from quic_tlshd.tls.extensions import encode_compress_certificate
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm as Algorithm
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.messages import CertificateRequest, ClientHello, encode_message
from quic_tlshd.tls.parameters import ClientCertificate, ClientParameters, ServerChoice
from tests.tls.playbook import Duel, Role, identity, trust


def duel(*algorithms: Algorithm, to: Role = Role.CLIENT, **options: object) -> Duel:
    """A mutual handshake with certificates that can be compressed."""
    return Duel.of(request=ClientCertificate.REQUIRE, client_key="rsa", server_key="rsa", compression=algorithms)


def needs(algorithm: Algorithm) -> None:
    if algorithm not in COMPRESSION_ALGORITHMS:
        pytest.skip(f"no library for {algorithm.name.lower()} is installed: see the extra `compression`")


@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda algorithm: algorithm.name.lower())
def test_both_compress(algorithm: Algorithm) -> None:
    needs(algorithm)
    plain = {letter.to: letter.message for letter in duel().run().delivered if letter.kind == H.CERTIFICATE}
    started = duel(algorithm).run()
    assert started.is_complete
    compressed = {letter.to: letter.message for letter in started.delivered if letter.kind == H.COMPRESSED_CERTIFICATE}
    for to in Role:
        assert len(compressed[to]) < len(plain[to])
        assert compressed[to][4:6] == algorithm.to_bytes(2, "big")
        assert decompress(compressed[to], (algorithm,)) == plain[to]
    assert started.client.complete is not None
    assert started.client.complete.peer_chain == identity("rsa").chain


def test_each_compresses_only_with_what_the_other_takes() -> None:
    """RFC 8879 section 4."""
    for takes, sends in (((), H.CERTIFICATE), ((0x2A2A, Algorithm.ZLIB), H.COMPRESSED_CERTIFICATE)):
        started = duel(Algorithm.ZLIB)
        hello = ClientHello.decode(started.next.message)
        extensions = {kind: body for kind, body in hello.extensions.items() if kind != X.COMPRESS_CERTIFICATE}
        if takes:
            extensions[X.COMPRESS_CERTIFICATE] = encode_compress_certificate(takes)
        started.change(lambda _m, e=extensions, h=hello: replace(h, extensions=e).encode())  # type: ignore[misc]
        started.deliver()
        assert sends in [letter.kind for letter in started.wire]


def test_our_preference_decides() -> None:
    message, ours = encode_message(H.CERTIFICATE, bytes(1000)), COMPRESSION_ALGORITHMS
    assert compress(message, ours, tuple(reversed(ours)))[4:6] == ours[0].to_bytes(2, "big")
    assert compress(message, ours, (0x2A2A,)) == message
    assert compress(message, (), ours) == message


def test_what_would_not_be_smaller_stays_as_it_is() -> None:
    message = encode_message(H.CERTIFICATE, b"short")
    assert compress(message, COMPRESSION_ALGORITHMS, COMPRESSION_ALGORITHMS) == message


def test_a_client_without_a_certificate_says_so_plainly() -> None:
    started = Duel.of(request=ClientCertificate.REQUEST, compression=(Algorithm.ZLIB,)).run()
    assert started.is_complete
    assert H.CERTIFICATE in [letter.kind for letter in started.delivered if letter.to is Role.SERVER]


def test_it_is_on_unless_said_otherwise() -> None:
    assert ClientParameters("entry", trust).compression == COMPRESSION_ALGORITHMS
    assert ServerChoice("entry", None, ()).compression == COMPRESSION_ALGORITHMS
    assert Algorithm.ZLIB in COMPRESSION_ALGORITHMS


def test_what_is_not_installed_is_not_offered() -> None:
    """brotli and zstd are optional."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('brotli', 'backports', 'compression')))\n"
        "from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS as found\n"
        "print(*[algorithm.name for algorithm in found])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["ZLIB"]


# What a peer may not do


def packed(data: bytes, length: int | None = None, algorithm: int = Algorithm.ZLIB) -> bytes:
    """A CompressedCertificate of these compressed bytes."""
    head = algorithm.to_bytes(2, "big") + (len(data) if length is None else length).to_bytes(3, "big")
    return encode_message(H.COMPRESSED_CERTIFICATE, head + vector24(data))


def reference(algorithm: Algorithm, data: bytes) -> bytes:
    """Compressed as our encoder does it."""
    whole = compress(encode_message(H.CERTIFICATE, data), (algorithm,), (algorithm,))
    assert whole[0] == H.COMPRESSED_CERTIFICATE
    return whole[12:]


BOMB = 16_000_000
CASES: dict[str, tuple[bytes, A]] = {
    "an algorithm that was not offered": (packed(zlib.compress(b"x"), 1, Algorithm.BROTLI), A.ILLEGAL_PARAMETER),
    "an algorithm that nobody knows": (packed(zlib.compress(b"x"), 1, 0x2A2A), A.ILLEGAL_PARAMETER),
    "no compressed data": (packed(zlib.compress(b"x"), 2), A.BAD_CERTIFICATE),
    "shorter than it says": (packed(zlib.compress(bytes(10)), 11), A.BAD_CERTIFICATE),
    "longer than it says": (packed(zlib.compress(bytes(10)), 9), A.BAD_CERTIFICATE),
    "more than we take": (packed(zlib.compress(bytes(MAXIMUM + 1)), MAXIMUM + 1), A.BAD_CERTIFICATE),
    "much more than it says": (packed(zlib.compress(bytes(BOMB)), 1000), A.BAD_CERTIFICATE),
    "garbage": (packed(b"garbage", 10), A.BAD_CERTIFICATE),
    "a stream that is cut short": (packed(zlib.compress(bytes(10))[:-1], 10), A.BAD_CERTIFICATE),
    "bytes behind the stream": (packed(zlib.compress(bytes(10)) + b"x", 10), A.BAD_CERTIFICATE),
    "what is no Certificate": (packed(zlib.compress(b"\0\0\0\1x"), 5), A.DECODE_ERROR),
    "no vector": (encode_message(H.COMPRESSED_CERTIFICATE, b"\0\1\0\0\1"), A.DECODE_ERROR),
    "an empty vector": (encode_message(H.COMPRESSED_CERTIFICATE, b"\0\1\0\0\1\0\0\0"), A.DECODE_ERROR),
    "bytes behind the vector": (encode_message(H.COMPRESSED_CERTIFICATE, b"\0\1\0\0\1\0\0\1xx"), A.DECODE_ERROR),
    "an empty message": (encode_message(H.COMPRESSED_CERTIFICATE, b""), A.DECODE_ERROR),
}


@pytest.mark.parametrize("to", list(Role))
@pytest.mark.parametrize("what", CASES)
def test_refused(to: Role, what: str) -> None:
    """RFC 8879 sections 4 and 5."""
    message, alert = CASES[what]
    duel(Algorithm.ZLIB).until(to, H.COMPRESSED_CERTIFICATE).refuses(message, alert)


@pytest.mark.parametrize("to", list(Role))
def test_what_was_not_asked_for(to: Role) -> None:
    """RFC 8879 section 4: such a message is one that must not come at all."""
    duel().until(to, H.CERTIFICATE).refuses(packed(zlib.compress(b"x"), 1), A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda algorithm: algorithm.name.lower())
@pytest.mark.parametrize("said", [0, 1000, MAXIMUM])
def test_a_bomb_does_not_go_off(algorithm: Algorithm, said: int) -> None:
    needs(algorithm)
    bomb = packed(reference(algorithm, bytes(BOMB)), said, algorithm)
    tracemalloc.start()
    try:
        duel(algorithm).until(Role.CLIENT, H.COMPRESSED_CERTIFICATE).refuses(bomb, A.BAD_CERTIFICATE)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAXIMUM
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda algorithm: algorithm.name.lower())
def test_every_byte_that_is_changed(algorithm: Algorithm) -> None:
    """PeerError, or a Certificate of the length that it says: nothing else comes out of any library."""
    needs(algorithm)
    good = duel(algorithm).until(Role.CLIENT, H.COMPRESSED_CERTIFICATE).next.message
    for at in range(4, len(good)):
        for mask in (0x01, 0x41, 0xFF):
            spoilt = good[:at] + bytes((good[at] ^ mask,)) + good[at + 1 :]
            cut = encode_message(H.COMPRESSED_CERTIFICATE, good[4:9] + vector24(good[12:at]))
            for message in (spoilt, cut):
                try:
                    certificate = decompress(message, COMPRESSION_ALGORITHMS)
                except PeerError:
                    continue
                assert certificate[1:4] == message[6:9]


MALFORMED = {"no algorithm": b"\0", "half an algorithm": b"\1\0", "cut short": b"\4\0\1", "more": b"\2\0\1\0"}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_extension(what: str) -> None:
    """RFC 8879 section 3."""
    started = duel(Algorithm.ZLIB)
    hello = ClientHello.decode(started.next.message)
    extensions = {**hello.extensions, X.COMPRESS_CERTIFICATE: MALFORMED[what]}
    started.refuses(replace(hello, extensions=extensions).encode(), A.DECODE_ERROR)
    started = duel(Algorithm.ZLIB).until(Role.CLIENT, H.CERTIFICATE_REQUEST)
    request = CertificateRequest.decode(started.next.message)
    extensions = {**request.extensions, X.COMPRESS_CERTIFICATE: MALFORMED[what]}
    started.refuses(CertificateRequest(extensions).encode(), A.DECODE_ERROR)
