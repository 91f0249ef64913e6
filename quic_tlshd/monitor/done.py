"""From how a handshake ended to DONE, and to the keys that tell the kernel's consumer who the peer is."""

from __future__ import annotations

from netlink.handshake import Accept, Done
from quic_tlshd.monitor.admission import Admission, Origin
from quic_tlshd.monitor.peer_keys import peer_keys
from quic_tlshd.request import AuthMode, HandshakeOutcome, Role

_PEER_AUTHENTICATED = 0xFFFFFFFF
"""What tlshd's server reports, for NFSD: any number but 0 says "mutually authenticated"."""


def done_of(accept: Accept, origin: Origin, admission: Admission, outcome: HandshakeOutcome) -> Done:
    """What the one who asked hears."""
    return Done(
        status=outcome.status,
        sockfd=accept.sockfd,
        remote_auth=_remote_auth(origin, admission, outcome),
        alpn=outcome.alpn,
        server_name=outcome.server_name,
        entry=outcome.entry,
        tags=outcome.tags,
        peer_chain=outcome.peer_chain if outcome.status == 0 else (),
        alert=outcome.alert,
        reason=outcome.reason or None,
    )


def _remote_auth(origin: Origin, admission: Admission, outcome: HandshakeOutcome) -> tuple[int, ...]:
    """Key serials that stand for who the peer has proved to be; what a consumer takes for "nobody" is none."""
    request = admission.request
    if outcome.status != 0:
        return ()
    if outcome.psk_identity in admission.serials:
        return (admission.serials[outcome.psk_identity],)
    if not outcome.peer_chain:
        return ()
    if request.role is Role.SERVER:
        return (_PEER_AUTHENTICATED,)
    if origin.keyrings is not None and request.auth_mode is AuthMode.X509 and request.peername is not None:
        return peer_keys(outcome.peer_chain, request.peername)
    return ()
