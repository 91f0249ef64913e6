"""What a worker can have of the keys: one CertificateVerify per request, by a key that the request may use; the one PSK
that the client of a PSK request offers; and what is in tickets, or goes into some, for the request's own entries.

The content is built here from a transcript hash, so that a worker, were it taken over, could get no signature over
anything but a TLS 1.3 handshake in the role of its request (RFC 8446 section 4.4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quic_tlshd.monitor.sessions import SessionsOf
from quic_tlshd.policy.credentials import Credential, Pace
from quic_tlshd.request import Role
from quic_tlshd.tls.iana import SignatureScheme
from quic_tlshd.tls.parameters import Psk
from quic_tlshd.tls.signature import certificate_verify_content
from quic_tlshd.tls.ticket import MAX_STATE

MOST_IDENTITIES = 16  # of a ClientHello that are looked up
MOST_SEARCHES = 4  # a PSK that does not fit makes the engine ask for the next
MOST_TICKETS = 8
_HASH_LENGTHS = (32, 48)  # SHA-256 and SHA-384: the hashes of TLS 1.3's cipher suites


class RefusedError(Exception):
    """The worker asked for a signature that it must not have."""


@dataclass(frozen=True, slots=True)
class Signing:
    """A signature that may be made. Called in another thread unless the pace is quick."""

    credential: Credential
    scheme: SignatureScheme
    content: bytes

    @property
    def pace(self) -> Pace:
        return self.credential.pace

    def __call__(self) -> bytes:
        """TokenError if the key's token can't be used now."""
        return self.credential.sign(self.scheme, self.content)


class Grant:
    """What one request may use: credentials by CertificateChain.id, for one signature; PSKs, and tickets of the entries
    that `sessions` has.

    find: gives an external PSK by its identity, which is asked until it has given one.
    """

    def __init__(
        self,
        role: Role,
        credentials: Mapping[str, Credential],
        find: Callable[[bytes], Psk | None] | None = None,
        sessions: SessionsOf | None = None,
    ) -> None:
        self._server = role is Role.SERVER
        self._credentials = credentials
        self._find = find
        self._sessions = sessions
        self._signed = self._sealed = self._claimed = self._resumes = False
        self._searches = 0
        self._identities = MOST_IDENTITIES

    def find_psk(self, entry: str, identities: tuple[bytes, ...]) -> tuple[int, Psk | bytes] | None:
        """The first of the identities that there is a key for, or the state in it if it is a ticket for `entry`.
        RefusedError unless the request is one for PSKs, or one that may resume sessions."""
        if self._find is None and self._sessions is None:
            raise RefusedError("the request may not have a PSK")
        self._searches += 1
        if self._searches > MOST_SEARCHES:
            raise RefusedError("the request had its PSKs already")
        for index, identity in enumerate(identities[: self._identities]):
            self._identities -= 1
            state = None if self._sessions is None else self._sessions.open(identity, entry)
            if state is not None:
                self._resumes = True
                return index, state
            psk = None if self._find is None else self._find(identity)
            if psk is not None:
                self._identities = 0  # one such key is enough for any request
                return index, psk
        return None

    def seal(self, entry: str, states: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Tickets, once for the request. RefusedError if it may not have them."""
        if self._sessions is None or self._sealed:
            raise RefusedError("the request may not have tickets")
        if len(states) > MOST_TICKETS or any(len(state) > MAX_STATE for state in states):
            raise RefusedError("too many tickets, or too large")
        self._sealed = True
        return self._sessions.seal(states, entry)

    def claim(self, id: bytes) -> bool:  # noqa: A002 - what the event calls it
        """Whether early data of that id was taken by nobody before; for a request that resumes a session, once."""
        if self._sessions is None or not self._resumes or self._claimed:
            raise RefusedError("the request may not have early data")
        if len(id) not in _HASH_LENGTHS:
            raise RefusedError(f"{len(id)} bytes are no PSK binder")
        self._claimed = True
        return self._sessions.claims.claim(id)

    def sign(self, certificate: str, scheme: int, transcript_hash: bytes) -> bytes:
        """RefusedError if the request may not have that signed, TokenError if a token that should do it can't."""
        return self.signing(certificate, scheme, transcript_hash)()

    def signing(self, certificate: str, scheme: int, transcript_hash: bytes) -> Signing:
        """What gives the signature when it is called, once. RefusedError if the request may not have that signed."""
        credential = self._credentials.get(certificate)
        if credential is None:
            raise RefusedError(f"the request may not use certificate {certificate[:16]}")
        if self._signed:
            raise RefusedError("the request had its signature already")
        if len(transcript_hash) not in _HASH_LENGTHS:
            raise RefusedError(f"{len(transcript_hash)} bytes are no transcript hash")
        if scheme not in credential.chain.schemes:
            raise RefusedError(f"the key can't sign with scheme {scheme:#06x}")
        self._signed = True
        content = certificate_verify_content(transcript_hash, server=self._server)
        return Signing(credential, SignatureScheme(scheme), content)
