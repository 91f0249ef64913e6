"""What a QuicConfiguration says about TLS, in the words of an upcall; and the rest of it, without keys."""

from __future__ import annotations

from dataclasses import replace

from aioquic.quic.configuration import QuicConfiguration

from netlink.handshake import Accept, AuthMode, MessageType
from quic_tlshd.tls.parameters import ClientCertificate

HELD_BY_THE_DAEMON = object()  # aioquic refuses a server without a certificate and a key; this is neither
DECIDED_BY_THE_DAEMON = ("certificate", "private_key", "cadata", "cafile", "capath", "verify_mode", "session_ticket")

# The numbers are struct quic_config's.
_ASK = {None: 0, ClientCertificate.NONE: 0, ClientCertificate.REQUEST: 1, ClientCertificate.REQUIRE: 2}
_PRESENT_NONE = 3


def check(configuration: QuicConfiguration) -> None:
    """ValueError if it decides something that is the daemon's to decide: it would have no effect."""
    for name in DECIDED_BY_THE_DAEMON:
        if getattr(configuration, name) is not None:
            raise ValueError(f"the handshake daemon decides what {name} is for: leave it out of the configuration")


def without_tls(configuration: QuicConfiguration) -> QuicConfiguration:
    """A copy that aioquic accepts for a server too; ValueError as from `check`."""
    check(configuration)
    return replace(configuration, certificate=HELD_BY_THE_DAEMON, private_key=HELD_BY_THE_DAEMON)


def request(configuration: QuicConfiguration, present_certificate: bool, timeout: float) -> Accept:
    """The upcall. timeout: seconds."""
    client = configuration.is_client
    return Accept(
        message_type=MessageType.CLIENTHELLO if client else MessageType.SERVERHELLO,
        auth_mode=AuthMode.UNAUTH if client and not present_certificate else AuthMode.X509,
        timeout=int(timeout * 1000),
        peername=configuration.server_name if client else None,
        alpn=tuple(name.encode("latin-1") for name in configuration.alpn_protocols or ()),
    )


def certificate_request(
    configuration: QuicConfiguration, present_certificate: bool, client_certificate: ClientCertificate | None
) -> int:
    """The setting CERTIFICATE_REQUEST (quic_tlshd/endpoint/userspace_protocol.py)."""
    if configuration.is_client:
        return 0 if present_certificate else _PRESENT_NONE
    return _ASK[client_certificate]
