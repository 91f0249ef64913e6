"""The one line that the log has for every handshake: whom with, as what, and how it ended."""

from __future__ import annotations

from errno import errorcode

from quic_tlshd.policy.text import MAXIMUM_REASON, alpn_text, cut, shown, shown_peer
from quic_tlshd.request import HandshakeOutcome, HandshakeRequest, Role
from quic_tlshd.tls.alert import alert_label

_MAXIMUM_IDENTITY = 300  # characters; one of NVMe has two names and a digest


def describe(request: HandshakeRequest, outcome: HandshakeOutcome) -> str:
    """E.g. ``handshake as server with 192.0.2.1 port 4711 done: entry h3, ALPN h3, server name a.example, ...``

    All that is the peer's, the transport's or the worker's word is quoted where it could be taken for another fact.
    """
    peer = located(shown_peer(outcome.peer) if outcome.peer else request.peer, request.netns)
    who = f"{shown(request.peername)} ({peer})" if request.role is Role.CLIENT and request.peername else peer
    facts = [f"entry {shown(outcome.entry)}"] if outcome.entry else []
    facts.append(_alpn(request, outcome))
    if outcome.server_name:
        facts.append(f"server name {shown(outcome.server_name)}")
    if outcome.status == 0:
        facts += [shown(fact) for fact in (outcome.cipher_suite, outcome.group, outcome.signature_scheme) if fact]
        facts += ["session resumed"] if outcome.resumed else []
        facts += ["early data"] if outcome.early_data else []
        facts.append(_authenticated_by(outcome))
        facts.append(f"{outcome.elapsed * 1000:.1f} ms")
        return f"handshake as {request.role.value} with {who} done: {', '.join(facts)}"
    if outcome.alert is not None:
        facts.append(f"alert {alert_label(outcome.alert)} {'received' if outcome.alert_received else 'sent'}")
    facts.append(errorcode.get(outcome.status, str(outcome.status)))
    reason = cut(outcome.reason, MAXIMUM_REASON)
    return f"handshake as {request.role.value} with {who} failed: {', '.join(facts)}: {reason}"


def located(peer: str, netns: str | None) -> str:
    """Whom with, and in which network namespace, None being the daemon's own."""
    return peer if netns is None else f"{peer} in network namespace {shown(netns)}"


def _authenticated_by(outcome: HandshakeOutcome) -> str:
    if outcome.psk_identity is not None:
        return f"PSK {shown(outcome.psk_identity.decode('latin-1'), _MAXIMUM_IDENTITY)}"
    return "peer certificate verified" if outcome.peer_chain else "no peer certificate"


def _alpn(request: HandshakeRequest, outcome: HandshakeOutcome) -> str:
    if outcome.alpn is not None:
        return f"ALPN {alpn_text((outcome.alpn,))}"
    if outcome.status and outcome.alpn_offered:
        return f"ALPN offered {alpn_text(outcome.alpn_offered)}"
    return "no ALPN"
