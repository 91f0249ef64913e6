"""The one table from what went wrong to what is reported: the alert for the peer and the errno for DONE.

The errnos are those that kernel consumers understand (net/handshake, SunRPC, NVMe/TCP): EACCES for a peer or a policy
that was refused, EKEYREJECTED for an unknown PSK identity, ETIMEDOUT for "retry", EIO for all that is broken.
"""

from __future__ import annotations

from errno import (
    EACCES,
    EBADF,
    ECONNABORTED,
    ECONNRESET,
    EINVAL,
    EIO,
    EKEYEXPIRED,
    EKEYREJECTED,
    EKEYREVOKED,
    ENOKEY,
    ENOMEM,
    ENOTSOCK,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTONOSUPPORT,
    ETIMEDOUT,
)

from msgspec.structs import replace

from quic_tlshd.endpoint.interface import EndpointError
from quic_tlshd.policy.text import MAXIMUM_REASON, cut
from quic_tlshd.request import HandshakeOutcome
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError

_ERRNO_OF_ALERT = {
    A.BAD_CERTIFICATE: EACCES,
    A.UNSUPPORTED_CERTIFICATE: EACCES,
    A.CERTIFICATE_REVOKED: EACCES,
    A.CERTIFICATE_EXPIRED: EACCES,
    A.CERTIFICATE_UNKNOWN: EACCES,
    A.UNKNOWN_CA: EACCES,
    A.ACCESS_DENIED: EACCES,
    A.DECRYPT_ERROR: EACCES,
    A.BAD_CERTIFICATE_STATUS_RESPONSE: EACCES,
    A.CERTIFICATE_REQUIRED: EACCES,
    A.MISSING_EXTENSION: EACCES,  # a client that names no server where no entry is the default
    A.UNRECOGNIZED_NAME: EACCES,
    A.NO_APPLICATION_PROTOCOL: EACCES,
    A.UNKNOWN_PSK_IDENTITY: EKEYREJECTED,
}

# What kernel consumers know, and what says the same of all else: a peer that went away is worth another try.
_KERNEL_ERRNOS = {0, EACCES, ENOMEM, EINVAL, ENOKEY, EIO, ETIMEDOUT, EKEYREJECTED}
_KERNEL_ERRNO_OF = {
    ECONNRESET: ETIMEDOUT,
    ECONNABORTED: ETIMEDOUT,
    EPIPE: ETIMEDOUT,
    EBADF: EINVAL,
    ENOTSOCK: EINVAL,
    EPROTONOSUPPORT: EINVAL,
    EKEYEXPIRED: ENOKEY,
    EKEYREVOKED: ENOKEY,
    EOPNOTSUPP: ENOKEY,  # a key of a type that can't be read
    EPERM: EACCES,
}


def kernel_errno(errno: int) -> int:
    """The nearest errno that the kernel's consumers understand."""
    return errno if errno in _KERNEL_ERRNOS else _KERNEL_ERRNO_OF.get(errno, EIO)


def alert_of(error: Exception) -> A | None:
    """The alert to send for `error`; None where nobody is there to read one."""
    if isinstance(error, PeerError):
        return error.alert
    if isinstance(error, PeerAlertError | EndpointError):
        return None
    return A.USER_CANCELED if isinstance(error, TimeoutError) else A.INTERNAL_ERROR


def outcome_of(error: Exception) -> HandshakeOutcome:
    """How a handshake ended that raised `error`. reason is bounded, for an error may quote what a peer sent."""
    outcome = _outcome_of(error)
    return replace(outcome, reason=cut(outcome.reason, MAXIMUM_REASON))


def _outcome_of(error: Exception) -> HandshakeOutcome:
    match error:
        case PeerError():
            return HandshakeOutcome(
                status=_ERRNO_OF_ALERT.get(error.alert, EIO), alert=error.alert, reason=error.reason
            )
        case PeerAlertError():
            return HandshakeOutcome(
                status=_ERRNO_OF_ALERT.get(error.description, EIO),  # type: ignore[call-overload]  # may be unknown
                alert=error.description,
                alert_received=True,
                reason=str(error),
            )
        case EndpointError():
            return HandshakeOutcome(status=error.errno, reason=str(error))
        case TimeoutError():
            return HandshakeOutcome(status=ETIMEDOUT, alert=A.USER_CANCELED, reason="the handshake took too long")
    return HandshakeOutcome(status=EIO, alert=A.INTERNAL_ERROR, reason=f"internal error: {error!r}")
