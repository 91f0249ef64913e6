"""include/uapi/linux/tls.h: TLS in the kernel."""

from __future__ import annotations

from enum import IntEnum

from quic_tlshd.tls.iana import CipherSuite


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
