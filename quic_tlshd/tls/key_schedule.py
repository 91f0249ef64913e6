"""The key schedule, RFC 8446 section 7.1, as three types: only the right one leads to the next.

    EarlySecret --handshake_secret(shared)--> HandshakeSecret --master_secret()--> MasterSecret

Every secret is as long as the hash, whose name is hashlib's. A secret never shows in a repr.
"""

from __future__ import annotations

from functools import cache
from hashlib import new
from hmac import digest as hmac_digest


@cache
def _hkdf_label(label: bytes, context_length: int, length: int) -> bytes:
    """The HkdfLabel of section 7.1 up to the context."""
    label = b"tls13 " + label
    return length.to_bytes(2, "big") + len(label).to_bytes(1, "big") + label + context_length.to_bytes(1, "big")


@cache
def hash_length(hash_name: str) -> int:
    return new(hash_name).digest_size


@cache
def _empty_hash(hash_name: str) -> bytes:
    return new(hash_name).digest()


def hkdf_expand_label(hash_name: str, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label(Secret, Label, Context, Length); `length` up to 255 blocks of the hash."""
    info = _hkdf_label(label, len(context), length) + context
    expanded = block = hmac_digest(secret, info + b"\x01", hash_name)
    count = 1
    while len(expanded) < length:
        count += 1
        block = hmac_digest(secret, block + info + count.to_bytes(1, "big"), hash_name)
        expanded += block
    return expanded[:length]


def finished_verify_data(hash_name: str, base_key: bytes, transcript_hash: bytes) -> bytes:
    """RFC 8446 section 4.4.4; base_key is the sender's handshake traffic secret (or a binder key)."""
    finished_key = hkdf_expand_label(hash_name, base_key, b"finished", b"", hash_length(hash_name))
    return hmac_digest(finished_key, transcript_hash, hash_name)


class _Stage:
    __slots__ = ("_secret", "hash_name")

    def __init__(self, hash_name: str, secret: bytes) -> None:
        self.hash_name = hash_name
        self._secret = secret

    def _derive_secret(self, label: bytes, transcript_hash: bytes) -> bytes:
        return hkdf_expand_label(self.hash_name, self._secret, label, transcript_hash, len(transcript_hash))

    def _derived(self) -> bytes:
        """Derive-Secret(., "derived", ""), the salt of the HKDF-Extract that gives the next stage's secret."""
        return self._derive_secret(b"derived", _empty_hash(self.hash_name))


class EarlySecret(_Stage):
    """From a PSK, or from zeros when there is none (`no_psk`: the same for every handshake, down to its salt)."""

    __slots__ = ("_salt",)

    def __init__(self, hash_name: str, secret: bytes) -> None:
        super().__init__(hash_name, secret)
        self._salt = self._derived()

    @classmethod
    def from_psk(cls, hash_name: str, psk: bytes) -> EarlySecret:
        return cls(hash_name, hmac_digest(bytes(hash_length(hash_name)), psk, hash_name))

    @staticmethod
    @cache
    def no_psk(hash_name: str) -> EarlySecret:
        return EarlySecret.from_psk(hash_name, bytes(hash_length(hash_name)))

    def binder_key(self, *, external: bool) -> bytes:
        return self._derive_secret(b"ext binder" if external else b"res binder", _empty_hash(self.hash_name))

    def client_early_traffic_secret(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"c e traffic", transcript_hash)

    def handshake_secret(self, shared_secret: bytes) -> HandshakeSecret:
        """shared_secret: of the (EC)DHE exchange."""
        return HandshakeSecret(self.hash_name, hmac_digest(self._salt, shared_secret, self.hash_name))


class HandshakeSecret(_Stage):
    """The transcript hash is that of ClientHello...ServerHello."""

    __slots__ = ()

    def client_handshake_traffic_secret(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"c hs traffic", transcript_hash)

    def server_handshake_traffic_secret(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"s hs traffic", transcript_hash)

    def master_secret(self) -> MasterSecret:
        salt, no_input = self._derived(), bytes(hash_length(self.hash_name))
        return MasterSecret(self.hash_name, hmac_digest(salt, no_input, self.hash_name))


class MasterSecret(_Stage):
    """The transcript hash is that of ClientHello...server Finished (for resumption: ...client Finished)."""

    __slots__ = ()

    def client_application_traffic_secret_0(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"c ap traffic", transcript_hash)

    def server_application_traffic_secret_0(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"s ap traffic", transcript_hash)

    def exporter(self, transcript_hash: bytes) -> Exporter:
        return Exporter(self.hash_name, self._derive_secret(b"exp master", transcript_hash))

    def resumption_master_secret(self, transcript_hash: bytes) -> bytes:
        return self._derive_secret(b"res master", transcript_hash)


class Exporter(_Stage):
    """The exporter_master_secret and what comes from it: RFC 8446 section 7.5."""

    __slots__ = ()

    @property
    def exporter_master_secret(self) -> bytes:
        return self._secret

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter(label, context_value, key_length); no context is an empty one. `length` in bytes, at most 255
        times that of the hash: ValueError."""
        if length > 255 * hash_length(self.hash_name):
            raise ValueError(f"{length} bytes are more than an exporter gives")
        secret = self._derive_secret(label, _empty_hash(self.hash_name))
        return hkdf_expand_label(self.hash_name, secret, b"exporter", new(self.hash_name, context).digest(), length)
