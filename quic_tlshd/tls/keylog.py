"""The key log that SSLKEYLOGFILE names elsewhere (RFC 9850): with it, whoever has captured a connection can read it."""

from __future__ import annotations

from collections.abc import Callable

from quic_tlshd.tls.engine import Handshake
from quic_tlshd.tls.events import Complete, InstallSecret, SendMessage
from quic_tlshd.tls.parameters import Direction, Level

_LABELS = {
    (Level.EARLY, True): "CLIENT_EARLY_TRAFFIC_SECRET",
    (Level.HANDSHAKE, True): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    (Level.HANDSHAKE, False): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    (Level.APP, True): "CLIENT_TRAFFIC_SECRET_0",
    (Level.APP, False): "SERVER_TRAFFIC_SECRET_0",
}
"""By level, and whether the client protects with it."""


def with_key_log(handshake: Handshake, write: Callable[[str], None]) -> Handshake:
    """The same handshake; `write` is given a line, with its end, for every secret."""
    event = next(handshake)
    is_client = isinstance(event, SendMessage)
    answer = yield event
    hello = event.data if isinstance(event, SendMessage) else answer
    client_random = hello[6:38].hex()  # a ClientHello that is shorter does not get any further
    while True:
        event = handshake.send(answer)
        if isinstance(event, InstallSecret):
            label = _LABELS[event.level, is_client is (event.direction is Direction.SEND)]
            write(f"{label} {client_random} {event.secret.hex()}\n")
        elif isinstance(event, Complete):
            write(f"EXPORTER_SECRET {client_random} {event.exporter.exporter_master_secret.hex()}\n")
        answer = yield event
