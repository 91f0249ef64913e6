"""What is kept of a handshake so that a later one can resume it (RFC 8446 sections 2.2 and 4.6.1), and how tickets are
sealed.

A server keeps nothing: its `Session` is inside of the ticket, sealed with a key that only servers have. A client keeps
the same with the ticket beside it. Both are written in one format, and what can't be read is no session and no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from hmac import digest as hmac_digest
from os import urandom
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.codec import read_vector, vector8, vector16, vector24
from quic_tlshd.tls.iana import CipherSuite

MAX_LIFETIME = 7 * 86400
"""Seconds: of a ticket (section 4.6.1) and, with every ticket for it renewed, of a session."""
MAX_SESSION_DATA = 4096
"""Bytes of a client's session, encoded: what the kernel's QUIC sockets keep."""
MAX_STATE = 3000
"""Bytes of a server's session, encoded: a ticket has to fit into a ClientHello, and that into a few packets."""

_VERSION = 1
# version, cipher suite, created and authenticated in ms, lifetime, ticket_age_add, max_early_data_size
_HEAD = Struct("!BHQQIII")


@dataclass(frozen=True, slots=True)
class Session:
    """A PSK that comes from a handshake with certificates, and what holds for its use.

    identity: the ticket, b"" in the server's own state. key: the PSK, for the suite's hash.
    created: when the ticket was issued (server) or received (client), in ms since the epoch. lifetime: in seconds.
    authenticated: when certificates were last verified and signatures made for it, in ms since the epoch.
    peer_chain: DER, the certificates of the other side, empty if it showed none; whoever resumes verifies them again.
    own_certificate: a client's own, if it showed one, as SHA-256: with another one it is somebody else.
    transport_parameters: over QUIC those of the server's that bind 0-RTT (`early_data.remembered`).
    """

    cipher_suite: CipherSuite
    key: bytes = field(repr=False)
    created: int
    lifetime: int
    age_add: int = field(repr=False)
    authenticated: int
    alpn: bytes | None
    server_name: str | None
    peer_chain: tuple[bytes, ...] = field(default=(), repr=False)
    max_early_data: int = 0
    transport_parameters: bytes = b""
    identity: bytes = field(default=b"", repr=False)
    own_certificate: bytes = b""

    @property
    def hash_name(self) -> str:
        return self.cipher_suite.hash

    def is_alive(self, now: float) -> bool:
        """now: seconds since the epoch. A clock that was set back ends it as well."""
        age = round(now * 1000) - self.created
        return 0 <= age < self.lifetime * 1000 and self.created + age < self.authenticated + MAX_LIFETIME * 1000

    def obfuscated_age(self, now: float) -> int:
        """The obfuscated_ticket_age that a client sends (section 4.2.11.1)."""
        return (round(now * 1000) - self.created + self.age_add) & 0xFFFFFFFF

    def skew(self, obfuscated_age: int, now: float) -> float:
        """Seconds between the age that the client says the ticket has and the age that it has for us, who issued it."""
        claimed = (obfuscated_age - self.age_add) & 0xFFFFFFFF
        return abs(round(now * 1000) - self.created - claimed) / 1000

    def encode(self) -> bytes:
        return b"".join(
            (
                _HEAD.pack(
                    _VERSION,
                    self.cipher_suite,
                    self.created,
                    self.authenticated,
                    self.lifetime,
                    self.age_add,
                    self.max_early_data,
                ),
                vector8(self.key),
                vector8(self.alpn or b""),
                vector8((self.server_name or "").encode("ascii")),
                vector16(self.transport_parameters),
                vector16(self.identity),
                vector8(self.own_certificate),
                *[vector24(certificate) for certificate in self.peer_chain],
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Session | None:
        """None if it is of another version, or damaged."""
        try:
            return cls._decode(data)
        except (PeerError, ValueError):
            return None

    @classmethod
    def _decode(cls, data: bytes) -> Session | None:
        if len(data) < _HEAD.size or data[0] != _VERSION:
            return None
        _, suite, created, authenticated, lifetime, age_add, max_early_data = _HEAD.unpack_from(data)
        cipher_suite = CipherSuite(suite)
        key, at = read_vector(data, _HEAD.size, 1, "the key", 32)
        alpn, at = read_vector(data, at, 1, "alpn")
        server_name, at = read_vector(data, at, 1, "server_name")
        transport_parameters, at = read_vector(data, at, 2, "the transport parameters")
        identity, at = read_vector(data, at, 2, "the ticket")
        own_certificate, at = read_vector(data, at, 1, "our certificate")
        chain = []
        while at < len(data):
            certificate, at = read_vector(data, at, 3, "a certificate", 1)
            chain.append(certificate)
        return cls(
            cipher_suite,
            key,
            created,
            lifetime,
            age_add,
            authenticated,
            alpn or None,
            server_name.decode("ascii") or None,
            tuple(chain),
            max_early_data,
            transport_parameters,
            identity,
            own_certificate,
        )


_KEY_ID, _NONCE, _TAG = 8, 12, 16


class TicketKey:
    """Seals and opens tickets with AES-256-GCM: key id, nonce, ciphertext. The key and its id come from `secret`.

    entry: the registry entry that a ticket is for; with another one it does not open.
    """

    def __init__(self, secret: bytes) -> None:
        self.id = hmac_digest(secret, b"quic-tlshd ticket key id", "sha256")[:_KEY_ID]
        self._aead = AESGCM(hmac_digest(secret, b"quic-tlshd ticket key", "sha256"))

    def seal(self, state: bytes, entry: str) -> bytes:
        nonce = urandom(_NONCE)
        return self.id + nonce + self._aead.encrypt(nonce, state, entry.encode())

    def open(self, ticket: bytes, entry: str) -> bytes | None:
        """The state; None if the ticket is none of this key's."""
        start = _KEY_ID + _NONCE
        if len(ticket) < start + _TAG or not compare_digest(ticket[:_KEY_ID], self.id):
            return None
        try:
            return self._aead.decrypt(ticket[_KEY_ID:start], ticket[start:], entry.encode())
        except InvalidTag:
            return None


class TicketKeys:
    """Keys that follow one another: the newest seals for `period` seconds, and the older ones still open what they have
    sealed for as long as a ticket may live. `now`, in seconds, is any clock that does not go back."""

    def __init__(self, period: float, generate: Callable[[int], bytes] = urandom) -> None:
        self._period = period
        self._generate = generate
        self._keys: list[tuple[float, TicketKey]] = []  # the newest first, each with the time when it was made

    def seal(self, state: bytes, entry: str, now: float) -> bytes:
        if not self._keys or now >= self._keys[0][0] + self._period:
            self._keys.insert(0, (now, TicketKey(self._generate(64))))
            self._forget(now)
        return self._keys[0][1].seal(state, entry)

    def open(self, ticket: bytes, entry: str, now: float) -> bytes | None:
        """The state; None if the ticket is not ours, is for another entry, or its key is gone."""
        self._forget(now)
        for _, key in self._keys:
            if ticket.startswith(key.id):
                return key.open(ticket, entry)
        return None

    def _forget(self, now: float) -> None:
        while self._keys and now >= self._keys[-1][0] + self._period + MAX_LIFETIME:
            self._keys.pop()
