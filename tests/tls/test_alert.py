"""Alerts by their names (RFC 8446 section 6)."""

from __future__ import annotations

from quic_tlshd.tls.alert import AlertDescription, PeerAlertError, PeerError, alert_label


def test_the_rfc_s_spelling() -> None:
    assert AlertDescription.NO_APPLICATION_PROTOCOL.label == "no_application_protocol"
    assert alert_label(48) == "unknown_ca"
    assert alert_label(57) == "alert 57"


def test_what_the_log_says() -> None:
    error = PeerError(AlertDescription.DECODE_ERROR, "the cookie is cut short")
    assert str(error) == "decode_error: the cookie is cut short"
    assert str(PeerAlertError(48)) == "the peer sent the alert unknown_ca"
    assert PeerAlertError(57).description == 57
