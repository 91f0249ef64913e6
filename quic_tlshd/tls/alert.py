"""TLS alerts and the one exception that a peer's bytes can raise (RFC 8446, section 6)."""

from __future__ import annotations

from enum import IntEnum


class AlertDescription(IntEnum):
    """AlertDescription, RFC 8446 section 6; general_error is RFC 9846's, ech_required RFC 9849's."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    GENERAL_ERROR = 117
    NO_APPLICATION_PROTOCOL = 120
    ECH_REQUIRED = 121

    @property
    def label(self) -> str:
        """The RFC's spelling, e.g. ``unknown_ca``."""
        return self.name.lower()


class PeerError(Exception):
    """What the peer sent can't be accepted: end the handshake with `alert`.

    `reason` is for our log and never goes to the peer.
    """

    def __init__(self, alert: AlertDescription, reason: str) -> None:
        super().__init__(f"{alert.label}: {reason}")
        self.alert = alert
        self.reason = reason


class PeerAlertError(Exception):
    """The peer ended the handshake with an alert (`description` is its number, known to us or not)."""

    def __init__(self, description: int) -> None:
        self.description = description
        super().__init__(f"the peer sent the alert {alert_label(description)}")


def alert_label(description: int) -> str:
    """The RFC's spelling of an alert number, or ``alert 57`` for one that has none."""
    try:
        return AlertDescription(description).label
    except ValueError:
        return f"alert {description}"
