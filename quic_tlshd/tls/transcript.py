"""The transcript hash, RFC 8446 section 4.4.1: one incremental hash over every message so far."""

from __future__ import annotations

import hashlib

from quic_tlshd.tls.iana import HandshakeType


class Transcript:
    """A client learns the hash only from the ServerHello, so messages are kept until `start` names it."""

    __slots__ = ("_hash", "_kept", "hash_name")

    def __init__(self) -> None:
        self._kept = b""
        self.hash_name = ""

    def start(self, hash_name: str) -> None:
        """The cipher suite is known: hash what has been kept and all that follows."""
        self.hash_name = hash_name
        self._hash = hashlib.new(hash_name, self._kept)
        self._kept = b""

    def add(self, message: bytes) -> None:
        if self.hash_name:
            self._hash.update(message)
        else:
            self._kept += message

    def digest(self) -> bytes:
        """Transcript-Hash of all messages so far; only after `start`."""
        return self._hash.digest()

    def digest_with(self, data: bytes, hash_name: str) -> bytes:
        """The hash over all messages so far and `data`, which is not added: for PSK binders, which cover a part of a
        ClientHello. Before `start`, any hash can be asked for."""
        if not self.hash_name:
            return hashlib.new(hash_name, self._kept + data).digest()
        copy = self._hash.copy()
        copy.update(data)
        return copy.digest()

    def retry(self) -> None:
        """Put a message_hash in place of ClientHello1, as its being answered by a HelloRetryRequest demands."""
        digest = self._hash.digest()
        header = HandshakeType.MESSAGE_HASH.to_bytes(1, "big") + len(digest).to_bytes(3, "big")
        self._hash = hashlib.new(self.hash_name, header + digest)
