"""What a worker can have of the keys: one CertificateVerify per request, by a key that the request may use, and the one
PSK that the client of a PSK request offers.

The content is built here from a transcript hash, so that a worker, were it taken over, could get no signature over
anything but a TLS 1.3 handshake in the role of its request (RFC 8446 section 4.4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quic_tlshd.policy.credentials import Credential
from quic_tlshd.request import Role
from quic_tlshd.tls.iana import SignatureScheme
from quic_tlshd.tls.parameters import Psk
from quic_tlshd.tls.signature import certificate_verify_content, sign

_MOST_IDENTITIES = 16  # of a ClientHello that are looked up
_HASH_LENGTHS = (32, 48)  # SHA-256 and SHA-384: the hashes of TLS 1.3's cipher suites


class RefusedError(Exception):
    """The worker asked for a signature that it must not have."""


class Grant:
    """The credentials that one request may use, by CertificateChain.id, and where to find PSKs; good for one use:
    a signature or the search for a PSK."""

    def __init__(
        self,
        role: Role,
        credentials: Mapping[str, Credential],
        find: Callable[[bytes], Psk | None] | None = None,
    ) -> None:
        self._server = role is Role.SERVER
        self._credentials = credentials
        self._find = find
        self._used = False

    def find_psk(self, identities: tuple[bytes, ...]) -> tuple[int, Psk] | None:
        """The first of the identities that there is a key for. RefusedError unless the request is one for PSKs."""
        if self._find is None or self._used:
            raise RefusedError("the request may not have a PSK")
        self._used = True
        for index, identity in enumerate(identities[:_MOST_IDENTITIES]):
            psk = self._find(identity)
            if psk is not None:
                return index, psk
        return None

    def sign(self, certificate: str, scheme: int, transcript_hash: bytes) -> bytes:
        """RefusedError if the request may not have that signed."""
        credential = self._credentials.get(certificate)
        if credential is None:
            raise RefusedError(f"the request may not use certificate {certificate[:16]}")
        if self._used:
            raise RefusedError("the request had its signature already")
        if len(transcript_hash) not in _HASH_LENGTHS:
            raise RefusedError(f"{len(transcript_hash)} bytes are no transcript hash")
        if scheme not in credential.chain.schemes:
            raise RefusedError(f"the key can't sign with scheme {scheme:#06x}")
        self._used = True
        content = certificate_verify_content(transcript_hash, server=self._server)
        return sign(credential.private_key, SignatureScheme(scheme), content)
