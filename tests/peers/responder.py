"""An OCSP responder: responses as an authority gives them, right or wrong."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.peers.crafted import DAY, NOW, Crafted


def respond(
    certificate: Crafted,
    issuer: Crafted,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    by: Crafted | None = None,
    shown: tuple[Crafted, ...] = (),
    since: datetime = NOW - DAY,
    until: datetime | None = NOW + 7 * DAY,
    hash_algorithm: hashes.HashAlgorithm | None = None,
    identified: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH,
) -> bytes:
    """The response (DER) for a certificate of `issuer`. by: who signs it. shown: certificates that are sent along."""
    signer = by or issuer
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            certificate.certificate,
            issuer.certificate,
            hash_algorithm or hashes.SHA1(),
            status,
            since,
            until,
            NOW - 2 * DAY if revoked else None,
            x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(identified, signer.certificate)
    )
    if shown:
        builder = builder.certificates([each.certificate for each in shown])
    hashed = isinstance(signer.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return builder.sign(signer.key, hashes.SHA256() if hashed else None).public_bytes(Encoding.DER)
