"""compress_certificate, RFC 8879: our Certificate message made smaller, and the peer's made whole again.

zlib is always there; brotli and zstd are if their libraries are (the extra `compression`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import read_exactly, vector24
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm as Algorithm
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.messages import encode_message

MAXIMUM = 128 * 1024  # bytes of a Certificate that has been compressed, as of one that has not
_HEADER = 4  # HandshakeType msg_type; uint24 length

Compress = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]
"""Takes the data and the length that they should come to, and stores little more than that. Raises anything."""


def _whole(stream: Any, data: bytes, length: int) -> bytes:
    """What zlib's and zstd's decompressors give, which are alike."""
    whole: bytes = stream.decompress(data, length + 1)
    if not stream.eof or stream.unused_data:
        raise ValueError("it is cut short, or something follows it")
    return whole


def _zlib() -> tuple[Compress, Decompress]:
    return lambda data: zlib.compress(data, 9), lambda data, length: _whole(zlib.decompressobj(), data, length)


def _zstd() -> tuple[Compress, Decompress]:
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        from backports import zstd
    options = {zstd.DecompressionParameter.window_log_max: 23}  # 8 MiB, as RFC 8878 section 3.1.1.1.2 recommends
    return (
        lambda data: zstd.compress(data, 19),
        lambda data, length: _whole(zstd.ZstdDecompressor(options=options), data, length),
    )


def _brotli() -> tuple[Compress, Decompress]:
    import brotli

    def decompress(data: bytes, length: int) -> bytes:
        stream = brotli.Decompressor()
        whole: bytes = stream.process(data, output_buffer_limit=length + 1)
        if not stream.is_finished():
            raise ValueError("it is cut short")
        return whole

    decompress(brotli.compress(b""), 0)  # TypeError if it is older than 1.2, which knows no limit
    return brotli.compress, decompress


_CODECS: dict[int, tuple[Compress, Decompress]] = {}
for _algorithm, _load in ((Algorithm.BROTLI, _brotli), (Algorithm.ZSTD, _zstd), (Algorithm.ZLIB, _zlib)):
    with suppress(ImportError, TypeError):  # not installed, or too old
        _CODECS[_algorithm] = _load()

COMPRESSION_ALGORITHMS = tuple(Algorithm(number) for number in _CODECS)
"""What can be used here, the one that does most first."""


def compress(message: bytes, ours: tuple[Algorithm, ...], theirs: tuple[int, ...]) -> bytes:
    """What to send for a Certificate message: a CompressedCertificate by the first of our algorithms that the peer has
    too, if that is smaller."""
    for algorithm in ours:
        if algorithm in theirs:
            return _compressed(message, algorithm)
    return message


@lru_cache(maxsize=256)
def _compressed(message: bytes, algorithm: Algorithm) -> bytes:
    """Remembered: it takes longer than a handshake."""
    certificate = message[_HEADER:]
    smaller = _CODECS[algorithm][0](certificate)
    head = algorithm.to_bytes(2, "big") + len(certificate).to_bytes(3, "big")
    made = encode_message(HandshakeType.COMPRESSED_CERTIFICATE, head + vector24(smaller))
    return made if len(made) < len(message) else message


def decompress(message: bytes, ours: tuple[Algorithm, ...]) -> bytes:
    """The Certificate message in a CompressedCertificate. `ours`: what we said we take (section 4)."""
    if not ours:
        raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "a compressed Certificate, which was not asked for")
    body = message[_HEADER:]
    algorithm, length = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:5], "big")
    smaller = read_exactly(body[5:], 3, "the compressed Certificate", 1)
    if algorithm not in ours:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"compression by algorithm {algorithm} was not offered")
    if length > MAXIMUM:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, f"a Certificate of {length} bytes is longer than {MAXIMUM}")
    return _whole_message(smaller, length, algorithm)


@lru_cache(maxsize=32)
def _whole_message(smaller: bytes, length: int, algorithm: int) -> bytes:
    """Remembered, since the same peers come again; 32 times twice MAXIMUM at most."""
    try:
        certificate = _CODECS[algorithm][1](smaller, length)
    except Exception as error:  # noqa: BLE001 - each library has its own, and none is more than this
        raise PeerError(AlertDescription.BAD_CERTIFICATE, f"the Certificate does not decompress: {error}") from None
    if len(certificate) != length:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "the Certificate has not the length that was said")
    return encode_message(HandshakeType.CERTIFICATE, certificate)
