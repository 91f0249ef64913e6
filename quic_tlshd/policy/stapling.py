"""OCSP responses from files, for our own certificates. Monitor only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from quic_tlshd.policy.credentials import Credential
from quic_tlshd.policy.files import read_regular
from quic_tlshd.policy.ocsp import MAXIMUM_RESPONSE, check_response
from quic_tlshd.policy.pem import FileError
from quic_tlshd.policy.registry import OcspResponse
from quic_tlshd.tls.alert import PeerError


class ResponseError(FileError):
    """A response that can't be stapled as it is, be it only for its date."""


def load_response(path: Path, credential: Credential, now: datetime) -> OcspResponse:
    """Load the response (DER) for a certificate; FileError if there is none, ResponseError if peers would refuse it."""
    try:
        der = read_regular(path, MAXIMUM_RESPONSE)
    except OSError as error:
        raise FileError(path, error.strerror or type(error).__name__) from None
    if credential.issuer is None:
        raise ResponseError(path, "can't be checked: the certificate's file lacks the certificate of its issuer")
    try:
        until = check_response(der, credential.certificate, credential.issuer, now)
    except PeerError as error:
        raise ResponseError(path, error.reason) from None
    return OcspResponse(der, until.timestamp())
