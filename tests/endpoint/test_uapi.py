"""The structures of quic.h against bytes written out by hand (little-endian hosts only)."""

from __future__ import annotations

import sys

import pytest

from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import Level
from quic_tlshd.uapi.quic import Config, ConnectionClose, CryptoLevel, CryptoSecret
from quic_tlshd.uapi.tls import CIPHER_SUITES, CIPHER_TYPES

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the structures are in host byte order")

CONFIG = bytes.fromhex("01000000 40420f00 48140500 34000000 01 01 00 1e 02 000000 00000000".replace(" ", ""))


def test_levels_are_numbered_alike() -> None:
    assert {level.name: int(level) for level in Level} == {level.name: int(level) for level in CryptoLevel}


def test_cipher_types_are_the_suites() -> None:
    assert set(CIPHER_TYPES) == set(CipherSuite) == set(CIPHER_SUITES.values())
    assert [CIPHER_SUITES[number].name for number in (51, 52, 53, 54)] == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_CCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]


@pytest.mark.parametrize("size", [24, 28, 40])
def test_config(size: int) -> None:
    assert Config.decode(CONFIG.ljust(size, b"\0")[:size]) == Config(52, 30, 2)


def test_config_is_not_shorter() -> None:
    with pytest.raises(ValueError, match="23 bytes"):
        Config.decode(CONFIG[:23])


def test_crypto_secret() -> None:
    secret = CryptoSecret(True, 2, 51, b"\xaa" * 32)
    assert secret.encode() == bytes.fromhex("01020000 33000000") + b"\xaa" * 32 + bytes(16)
    assert "aa" not in repr(secret)


def test_connection_close() -> None:
    close = ConnectionClose(0x130, b"unknown_ca")
    assert close.encode() == bytes.fromhex("30010000 00000000") + b"unknown_ca".ljust(64, b"\0")
    assert ConnectionClose.decode(close.encode()) == close
    assert ConnectionClose.decode(ConnectionClose(1, b"x" * 90).encode()).phrase == b"x" * 63
    with pytest.raises(ValueError, match="71 bytes"):
        ConnectionClose.decode(close.encode()[:71])
