"""One handshake with an engine, an endpoint and the keys in one process: `worker.perform` without a monitor."""

from __future__ import annotations

from contextlib import suppress

from quic_tlshd.endpoint.interface import Endpoint, EndpointError
from quic_tlshd.request import HandshakeOutcome, Role
from quic_tlshd.status import alert_of, outcome_of
from quic_tlshd.tls.alert import PeerAlertError, alert_label
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Complete, NewSession, Question
from quic_tlshd.tls.keylog import with_key_log
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tools.policy import Setup
from quic_tlshd.worker.policy import Seen


async def handshake(setup: Setup, endpoint: Endpoint) -> tuple[Engine, Complete]:
    """Do the handshake; whatever it raises, `fail` tells the peer."""
    settings, seen = await endpoint.settings(), Seen()
    if setup.role is Role.SERVER:
        steps = server_handshake(setup.server_parameters(settings, seen))
    else:
        steps = client_handshake(setup.client_parameters(settings, seen))
    log_keys = setup.options.keylogfile
    engine = Engine(with_key_log(steps, log_keys) if log_keys else steps)
    events = engine.start()
    while True:
        for event in events:
            if isinstance(event, Complete):
                await endpoint.finish()
                return engine, event
            if isinstance(event, Question):
                events = engine.answer(setup.keys.answer(event))
                break
            assert not isinstance(event, NewSession)  # which comes after Complete only
            await endpoint.apply(event)
        else:
            level, data = await endpoint.receive()
            events = engine.receive(level, data)


async def fail(endpoint: Endpoint, error: Exception) -> None:
    """Send the alert that `error` stands for, if it stands for one and there is anybody to read it."""
    alert = alert_of(error)
    if alert is not None:
        with suppress(EndpointError, PeerAlertError):
            await endpoint.fail(alert, alert.label)


def describe(complete: Complete) -> str:
    """What was negotiated, in one line."""
    said = [complete.cipher_suite.name, "no group" if complete.group is None else complete.group.name.lower()]
    if complete.signature_scheme is not None:
        said.append(complete.signature_scheme.name.lower())
    if complete.resumed:
        said.append("resumed with early data" if complete.early_data else "resumed")
    if complete.psk_identity is not None:
        said.append(f"PSK {complete.psk_identity!r}")
    if complete.alpn is not None:
        said.append(f"ALPN {complete.alpn!r}")
    if complete.server_name is not None:
        said.append(f"server name {complete.server_name!r}")
    if complete.peer_chain:
        said.append(f"{len(complete.peer_chain)} certificates of the peer's")
    return ", ".join(said)


def reason(error: Exception) -> str:
    """Why it failed, in one line."""
    outcome: HandshakeOutcome = outcome_of(error)
    if outcome.alert is None:
        return outcome.reason
    return f"alert {alert_label(outcome.alert)} {'received' if outcome.alert_received else 'sent'}: {outcome.reason}"
