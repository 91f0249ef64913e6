"""How long a reason gets on its way to the log, to DONE and between our processes."""

from __future__ import annotations

import pytest

from quic_tlshd.endpoint.interface import EndpointError
from quic_tlshd.policy.text import MAXIMUM_REASON
from quic_tlshd.status import outcome_of
from quic_tlshd.tls.alert import AlertDescription, PeerError

LONG = "\x01" * 100_000


@pytest.mark.parametrize(
    "error", [PeerError(AlertDescription.BAD_CERTIFICATE, LONG), EndpointError(5, LONG), RuntimeError(LONG)]
)
def test_a_reason_is_bounded(error: Exception) -> None:
    outcome = outcome_of(error)
    assert len(outcome.reason) == MAXIMUM_REASON
    assert outcome.reason.endswith("…")


def test_a_short_reason_is_whole() -> None:
    outcome = outcome_of(PeerError(AlertDescription.BAD_CERTIFICATE, "why"))
    assert (outcome.reason, outcome.alert) == ("why", AlertDescription.BAD_CERTIFICATE)
