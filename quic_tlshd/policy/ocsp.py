"""OCSP responses (RFC 6960) as they come stapled to a certificate (RFC 8446 section 4.4.2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from quic_tlshd.policy.certificates import SIGNATURE_HASHES, is_issued_by, public_key_of, subject_text
from quic_tlshd.tls.alert import AlertDescription, PeerError

MAXIMUM_RESPONSE = 32 * 1024  # bytes; with an ML-DSA responder's certificate it has some 15 thousand
MAXIMUM_AGE = timedelta(days=15)  # of a response that doesn't tell when there will be a newer one; as GnuTLS has it
CLOCK_SKEW = timedelta(minutes=5)  # that a responder may be ahead of us
_MAXIMUM_DELEGATES = 4  # certificates in a response that are looked at


def check_response(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> datetime:
    """Until when the response says that the certificate, which that issuer has signed, is good.

    PeerError(certificate_revoked), or PeerError(bad_certificate_status_response) for a response that says nothing of
    it, is not valid now, or is not signed by the issuer or by whom it lets do that (RFC 6960 section 4.2.2.2).
    """
    try:
        response = _decode(der)
        single = _find(response, certificate, issuer)
        if not any(_is_signed_by(response, responder) for responder in _responders(response, issuer, now)):
            raise _unsatisfactory("is not signed by the issuer or whom it lets do that", certificate)
        return _good_until(single, certificate, now)
    except PeerError:
        raise
    except Exception as error:  # noqa: BLE001 -- see certificates.decode
        raise _unsatisfactory(f"can't be parsed ({type(error).__name__})", certificate) from None


def check_responses(
    path: tuple[x509.Certificate, ...], responses: Mapping[x509.Certificate, bytes], now: datetime
) -> datetime:
    """Until when what is stapled to the certificates of a verified path holds, datetime.max if nothing is.

    PeerError as of check_response, also if there is nothing and must be (RFC 7633).
    """
    until = datetime.max.replace(tzinfo=UTC)
    if not responses.get(path[0]) and len(path) > 1 and any(map(must_staple, path)):
        raise _unsatisfactory("has to be there and is not", path[0])
    for certificate, issuer in pairwise(path):
        if response := responses.get(certificate):
            until = min(until, check_response(response, certificate, issuer, now))
    return until


def must_staple(certificate: x509.Certificate) -> bool:
    """Whether its holder has to have an OCSP response stapled to it, and to those that it issues (RFC 7633)."""
    try:
        features = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in features


def _decode(der: bytes) -> ocsp.OCSPResponse:
    if len(der) > MAXIMUM_RESPONSE:
        raise ValueError("it is too long")
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(response.response_status.name)
    return response


def _find(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> ocsp.OCSPSingleResponse:
    """What the response says of the certificate, by its serial number and its issuer's name and key (section 4.1.1)."""
    for single in response.responses:
        if single.serial_number != certificate.serial_number:
            continue
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm)
        asked = builder.build()
        if (single.issuer_name_hash, single.issuer_key_hash) == (asked.issuer_name_hash, asked.issuer_key_hash):
            return single
    raise _unsatisfactory("is for another", certificate)


def _responders(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> Iterator[x509.Certificate]:
    """Those with the responder's name or key who may sign for the issuer: itself, or whom it gave a certificate."""
    for responder in (issuer, *response.certificates[:_MAXIMUM_DELEGATES]):
        name, key_hash = response.responder_name, response.responder_key_hash
        own_hash = x509.SubjectKeyIdentifier.from_public_key(responder.public_key()).digest  # which is the same
        if (responder.subject == name if name is not None else own_hash == key_hash) and (
            responder is issuer or _is_delegate(responder, issuer, now)
        ):
            yield responder


def _is_delegate(responder: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return (
        ExtendedKeyUsageOID.OCSP_SIGNING in usage
        and responder.not_valid_before_utc <= now <= responder.not_valid_after_utc
        and isinstance(responder.signature_hash_algorithm, SIGNATURE_HASHES)
        and is_issued_by(responder, issuer)
    )


def _is_signed_by(response: ocsp.OCSPResponse, responder: x509.Certificate) -> bool:
    """Whether that is the responder's signature, by a strong key and hash; RSA-PSS is not known here."""
    digest = response.signature_hash_algorithm
    arguments: tuple[object, ...] = ()
    try:
        key = public_key_of(responder)
        if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            if not isinstance(digest, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
                return False
            arguments = (
                (ec.ECDSA(digest),) if isinstance(key, ec.EllipticCurvePublicKey) else (padding.PKCS1v15(), digest)
            )
        key.verify(response.signature, response.tbs_response_bytes, *arguments)  # type: ignore[union-attr,arg-type]
    except (InvalidSignature, PeerError):
        return False
    return True


def _good_until(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, now: datetime) -> datetime:
    since = single.this_update_utc
    until = single.next_update_utc or since + MAXIMUM_AGE
    if until < now:
        raise _unsatisfactory(f"expired on {until:%Y-%m-%d %H:%M}", certificate)
    if since > now + CLOCK_SKEW:
        raise _unsatisfactory(f"is not valid before {since:%Y-%m-%d %H:%M}", certificate)
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        reason = f"the certificate of {subject_text(certificate)} is revoked, says the OCSP response stapled to it"
        raise PeerError(AlertDescription.CERTIFICATE_REVOKED, reason)
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise _unsatisfactory("does not know it", certificate)
    return until


def _unsatisfactory(fault: str, certificate: x509.Certificate) -> PeerError:
    reason = f"the OCSP response for the certificate of {subject_text(certificate)} {fault}"
    return PeerError(AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE, reason)
