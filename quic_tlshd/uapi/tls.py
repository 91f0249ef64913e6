"""include/uapi/linux/tls.h: TLS in the kernel. Numbers are in host byte order, rec_seq is as TLS has it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

from quic_tlshd.tls.iana import TLS_1_3, CipherSuite

TCP_ULP = 31  # linux/tcp.h, with SOL_TCP: the name of an upper layer protocol
ULP_NAME = b"tls"
SOL_TLS = 282  # linux/socket.h

TLS_1_3_VERSION = TLS_1_3


class SocketOption(IntEnum):
    """With SOL_TLS, once the ULP is set."""

    TX = 1  # TLS_TX, a CryptoInfo
    RX = 2  # TLS_RX, a CryptoInfo
    TX_MAX_PAYLOAD_LEN = 5  # TLS_TX_MAX_PAYLOAD_LEN, u16: of a record's content, type byte and padding not counted


class CipherType(IntEnum):
    """`TLS_CIPHER_*`, those of TLS 1.3's own cipher suites. QUIC sockets name ciphers by them too."""

    AES_GCM_128 = 51
    AES_GCM_256 = 52
    AES_CCM_128 = 53
    CHACHA20_POLY1305 = 54


CIPHER_TYPES = {
    CipherSuite.TLS_AES_128_GCM_SHA256: CipherType.AES_GCM_128,
    CipherSuite.TLS_AES_256_GCM_SHA384: CipherType.AES_GCM_256,
    CipherSuite.TLS_AES_128_CCM_SHA256: CipherType.AES_CCM_128,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: CipherType.CHACHA20_POLY1305,
}
CIPHER_SUITES = {int(cipher_type): suite for suite, cipher_type in CIPHER_TYPES.items()}

KEY_SIZES = {
    CipherType.AES_GCM_128: 16,
    CipherType.AES_GCM_256: 32,
    CipherType.AES_CCM_128: 16,
    CipherType.CHACHA20_POLY1305: 32,
}


@dataclass(frozen=True, slots=True)
class CryptoInfo:
    """`struct tls12_crypto_info_*` of a cipher, which serve TLS 1.3 too: one direction's keys.

    iv: the 12 bytes of RFC 8446 section 7.3. The kernel has the first four apart, as `salt`, but for
    ChaCha20-Poly1305. rec_seq: the sequence number of the next record.
    """

    cipher_type: CipherType
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    rec_seq: int = 0

    _INFO: ClassVar[struct.Struct] = struct.Struct("=HH")  # struct tls_crypto_info: version, cipher_type

    def encode(self) -> bytes:
        """ValueError if the key or iv is not of the cipher's length."""
        if len(self.key) != KEY_SIZES[self.cipher_type] or len(self.iv) != 12:
            raise ValueError(f"{self.cipher_type.name} has no key of {len(self.key)} and iv of {len(self.iv)} bytes")
        salt = 0 if self.cipher_type is CipherType.CHACHA20_POLY1305 else 4
        return b"".join(
            (
                self._INFO.pack(TLS_1_3_VERSION, self.cipher_type),
                self.iv[salt:],
                self.key,
                self.iv[:salt],
                self.rec_seq.to_bytes(8, "big"),
            )
        )
