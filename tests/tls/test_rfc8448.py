"""RFC 8448, "Example Handshake Traces for TLS 1.3": the engine sends each message of the traces byte for byte and
derives each secret.

What the RFC's authors sent and we don't (renegotiation_info, session_ticket, record_size_limit, padding, the
HelloRetryRequest's cookie) is put in by `arrange`, which checks that the rest is ours. Section 4 resumes the session
of section 3, with the ticket that came from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import EarlyDataAccepted, EarlyDataOffered, InstallSecret, Sign
from quic_tlshd.tls.extensions import (
    Extensions,
    decode_offered_psks,
    decode_uint16_list,
)
from quic_tlshd.tls.iana import CipherSuite, ExtensionType, HandshakeType, SignatureScheme
from quic_tlshd.tls.key_schedule import (
    EarlySecret,
    HandshakeSecret,
    MasterSecret,
    finished_verify_data,
    hkdf_expand_label,
)
from quic_tlshd.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    NewSessionTicket,
    ServerHello,
)
from quic_tlshd.tls.parameters import (
    Arrange,
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    Direction,
    Level,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, sign, verify
from quic_tlshd.tls.ticket import Session, TicketKey
from quic_tlshd.tls.transcript import Transcript
from tests.tls.playbook import Party, Role, generator_of, split, trust
from tests.tls.traces import Trace, load

REPLAYED = ["3", "5", "6", "7"]
SECTIONS = ["3", "4", "5", "6", "7"]
RECEIVED = 1_500_000_000.0  # when section 3's ticket came, in seconds; the RFC does not say
RESUMED = RECEIVED + 0.006  # as section 4's obfuscated_ticket_age has it


def randomness(*pieces: bytes) -> Callable[[int], bytes]:
    waiting = list(pieces)

    def random(length: int) -> bytes:
        piece = waiting.pop(0)
        assert len(piece) == length
        return piece

    return random


def as_traced(*blocks: Extensions) -> Arrange:
    """An `arrange` that gives the trace's blocks, one after the other; what we have in them has to be the same."""
    waiting = list(blocks)

    def arrange(_place: HandshakeType | str, ours: Extensions) -> Extensions:
        block = waiting.pop(0)
        assert without_binders(ours).items() <= without_binders(block).items()
        return block

    return arrange


def without_binders(block: Extensions) -> dict[int, Any]:
    """A block whose pre_shared_key, if it is a ClientHello's, is reduced to the identities: binders come at the end."""
    body = block.get(ExtensionType.PRE_SHARED_KEY, b"")
    return {**block, ExtensionType.PRE_SHARED_KEY: decode_offered_psks(body)[0]} if len(body) > 2 else {**block}


def signed(trace: Trace, side: Role) -> tuple[CertificateChain, CertificateVerify] | None:
    """What that side shows: its chain, and its CertificateVerify."""
    certificates = trace.messages(side, "Certificate")
    if not certificates:
        return None
    certificate_verify = CertificateVerify.decode(trace.messages(side, "CertificateVerify")[0])
    (certificate,) = [message for message in certificates if message[0] == HandshakeType.CERTIFICATE]
    scheme = SignatureScheme(certificate_verify.algorithm)
    return CertificateChain("rfc8448", Certificate.decode(certificate).chain, (scheme,)), certificate_verify


LEVELS = {
    HandshakeType.CLIENT_HELLO: Level.INITIAL,
    HandshakeType.SERVER_HELLO: Level.INITIAL,
    HandshakeType.END_OF_EARLY_DATA: Level.EARLY,
    HandshakeType.NEW_SESSION_TICKET: Level.APP,
}


def replay(party: Party, trace: Trace) -> Iterator[bytes]:
    """Give the party what its peer sent, message by message, and give what it sends itself."""
    shown = signed(trace, party.role)
    party.start()
    for message in [None, *trace.messages(party.role.peer)]:
        if message is not None:
            level = LEVELS.get(HandshakeType(message[0]), Level.HANDSHAKE)
            party.receive(level, message)
        if party.wanted is not None:
            assert shown is not None
            assert party.wanted.certificate == shown[0]
            content = certificate_verify_content(party.wanted.transcript_hash, server=party.role is Role.SERVER)
            verify(trust(shown[0].chain), shown[1].algorithm, shown[1].signature, content)
            party.answer(shown[1].signature)
        for event in party.outbox:
            yield from split(event.data)
        party.outbox.clear()


def check_secrets(party: Party, trace: Trace) -> None:
    ours, theirs = ("c", "s") if party.role is Role.CLIENT else ("s", "c")
    for level, name in ((Level.HANDSHAKE, "hs"), (Level.APP, "ap")):
        assert party.secrets[level, Direction.SEND] == trace.secret(f"{ours} {name} traffic")
        assert party.secrets[level, Direction.RECEIVE] == trace.secret(f"{theirs} {name} traffic")
    assert {event.cipher_suite.name for event in party.told(InstallSecret)} == {"TLS_AES_128_GCM_SHA256"}
    assert party.complete is not None


def replayed_client(section: str, **options: Any) -> Party:
    """A client that has sent what the trace has, byte for byte, and derived its secrets."""
    trace = Trace(section)
    hellos = [ClientHello.decode(message) for message in trace.messages(Role.CLIENT, "ClientHello")]
    hello, extensions = hellos[0], hellos[0].extensions
    pairs = list(trace.key_pairs(Role.CLIENT))
    shown = signed(trace, Role.CLIENT)
    numbers: dict[str, Any] = {
        "cipher_suites": tuple(map(CipherSuite, hello.cipher_suites)),
        "groups": decode_uint16_list(extensions[ExtensionType.SUPPORTED_GROUPS], ""),
        "signature_schemes": decode_uint16_list(extensions[ExtensionType.SIGNATURE_ALGORITHMS], ""),
        "certificate_signature_schemes": (),
        "compression": (),
    }
    parameters = ClientParameters(
        "rfc8448",
        trust,
        "server",
        certificates=(shown[0],) if shown else (),
        key_shares=(pairs[0].group,),
        compatibility_mode=bool(hello.legacy_session_id),
        grease=False,
        status_request=False,
        random=randomness(hello.random, hello.legacy_session_id),
        generate=generator_of(*pairs),
        arrange=as_traced(*[hello.extensions for hello in hellos]),
        **numbers,
        **options,
    )
    party = Party(Engine(client_handshake(parameters)), Role.CLIENT, sign_at_once=False)
    assert list(replay(party, trace)) == trace.messages(Role.CLIENT)
    check_secrets(party, trace)
    return party


@pytest.mark.parametrize("section", REPLAYED)
def test_the_client_replays(section: str) -> None:
    replayed_client(section)


def test_the_client_resumes() -> None:
    """Section 4 with the session that section 3's ticket gives."""
    (session,) = replayed_client("3", tickets=True, now=lambda: RECEIVED).sessions
    assert session.key == Trace("3").secret("resumption")
    resumed = replayed_client("4", session=session, early_data=True, now=lambda: RESUMED)
    check_resumed(resumed, Direction.SEND)
    assert resumed.told(EarlyDataOffered) == [EarlyDataOffered(1024, None, b"")]


def replayed_server(section: str, session: Session | None = None, **options: Any) -> tuple[Party, list[Session]]:
    """A server that has sent what the trace has, and what it sealed in tickets, which are the trace's."""
    trace = Trace(section)
    hellos = [ServerHello.decode(message) for message in trace.messages(Role.SERVER, "ServerHello")]
    encrypted_extensions = EncryptedExtensions.decode(trace.messages(Role.SERVER, "EncryptedExtensions")[0])
    blocks = [hello.extensions for hello in hellos] + [encrypted_extensions.extensions]
    request, taken = ClientCertificate.NONE, None
    for message in trace.messages(Role.SERVER, "CertificateRequest"):
        request = ClientCertificate.REQUIRE
        blocks.append(CertificateRequest.decode(message).extensions)
        taken = decode_uint16_list(blocks[-1][ExtensionType.SIGNATURE_ALGORITHMS], "")
    tickets = [NewSessionTicket.decode(message) for message in trace.messages(Role.SERVER, "NewSessionTicket")]
    blocks += [ticket.extensions for ticket in tickets]
    ages_added = [ticket.ticket_age_add.to_bytes(4, "big") for ticket in tickets] or [bytes(4)]
    pairs = list(trace.key_pairs(Role.SERVER))
    shown = signed(trace, Role.SERVER)
    facts: dict[str, Any] = (
        {"signature_schemes": taken, "certificate_signature_schemes": (), "compression": ()} if taken else {}
    )
    for ticket in tickets:
        (max_early_data,) = ticket.extensions.values()
        facts |= {"tickets": 1, "ticket_lifetime": ticket.ticket_lifetime}
        facts |= {"max_early_data": int.from_bytes(max_early_data, "big")}
    if session is not None:
        facts = {"tickets": 1, "max_early_data": 1024}
    certificates = (shown[0],) if shown else ()
    choice = ServerChoice("rfc8448", None, certificates, request, trust, groups=(pairs[-1].group,), **facts)
    parameters = ServerParameters(
        lambda _name, _alpn: choice,
        random=randomness(hellos[-1].random, *ages_added),
        generate=generator_of(*pairs),
        arrange=as_traced(*blocks, {}),
        **options,
    )
    sealed = SealedAs(tuple([ticket.ticket for ticket in tickets]))
    engine, key = Engine(server_handshake(parameters)), sealed if tickets else None
    party = Party(engine, Role.SERVER, sign_at_once=False, psks=(session,) if session else (), ticket_key=key)
    assert list(replay(party, trace)) == trace.messages(Role.SERVER)
    check_secrets(party, trace)
    assert len(party.told(Sign)) == (session is None)
    sessions = [state for state in map(Session.decode, sealed.states) if state is not None]
    return party, [replace(state, identity=ticket.ticket) for state, ticket in zip(sessions, tickets, strict=True)]


class SealedAs(TicketKey):
    """Gives these tickets, and keeps what they would hold."""

    def __init__(self, tickets: tuple[bytes, ...]) -> None:
        self.waiting = list(tickets)
        self.states: list[bytes] = []

    def seal(self, state: bytes, entry: str) -> bytes:
        self.states.append(state)
        return self.waiting.pop(0)

    def open(self, ticket: bytes, entry: str) -> None:
        return None


@pytest.mark.parametrize("section", REPLAYED)
def test_the_server_replays(section: str) -> None:
    replayed_server(section, now=lambda: RECEIVED)


def test_the_server_resumes() -> None:
    _, (session,) = replayed_server("3", now=lambda: RECEIVED)
    resumed, _ = replayed_server("4", session, now=lambda: RESUMED)
    check_resumed(resumed, Direction.RECEIVE)


def check_resumed(party: Party, direction: Direction) -> None:
    complete, trace = party.complete, Trace("4")
    assert complete is not None
    assert complete.resumed
    assert complete.early_data
    assert party.secrets[Level.EARLY, direction] == trace.secret("c e traffic")
    assert party.told(EarlyDataAccepted) == [EarlyDataAccepted(1024)]
    assert complete.exporter.exporter_master_secret == trace.secret("exp master")


def stages(trace: Trace) -> tuple[EarlySecret, HandshakeSecret, MasterSecret]:
    secrets = trace.data["secrets"]
    early = EarlySecret.from_psk("sha256", secrets["early"]["ikm"])
    handshake = early.handshake_secret(secrets["handshake"]["ikm"])
    return early, handshake, handshake.master_secret()


@pytest.mark.parametrize("section", SECTIONS)
def test_the_key_schedule(section: str) -> None:
    """RFC 8446 section 7.1: each secret of the traces, from its transcript hash."""
    trace = Trace(section)
    early, handshake, master = stages(trace)
    derivations = {
        "c e traffic": early.client_early_traffic_secret,
        "c hs traffic": handshake.client_handshake_traffic_secret,
        "s hs traffic": handshake.server_handshake_traffic_secret,
        "c ap traffic": master.client_application_traffic_secret_0,
        "s ap traffic": master.server_application_traffic_secret_0,
        "exp master": lambda digest: master.exporter(digest).exporter_master_secret,
        "res master": master.resumption_master_secret,
    }
    for name, derive in derivations.items():
        if name in trace.data["secrets"]:
            assert derive(trace.data["secrets"][name]["hash"]) == trace.secret(name), name


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("side", list(Role))
def test_finished(section: str, side: Role) -> None:
    """RFC 8446 section 4.4.4."""
    trace = Trace(section)
    finished = trace.data["finished"][side]
    order = [ClientHello.decode(Trace("4").data["whole_messages"][0]["bytes"]).encode()] if section == "4" else []
    transcript = Transcript()
    transcript.start("sha256")
    for at, message in enumerate(trace.data["messages"]):
        if message["side"] == side and message["name"] == "Finished":
            break
        if section == "5" and at == 1:
            transcript.retry()
        transcript.add(order.pop() if order else message["bytes"])
    assert finished["base_key"] == trace.secret("c hs traffic" if side is Role.CLIENT else "s hs traffic")
    verify_data = finished_verify_data("sha256", finished["base_key"], transcript.digest())
    assert verify_data == finished["verify_data"]


def test_resumption() -> None:
    """Section 4 goes on from the ticket of section 3."""
    full, resumed = Trace("3"), Trace("4")
    ticket = NewSessionTicket.decode(full.messages(Role.SERVER, "NewSessionTicket")[0])
    assert ticket.encode() == full.messages(Role.SERVER, "NewSessionTicket")[0]
    assert ticket.ticket_nonce == full.data["secrets"]["resumption"]["hash"]
    psk = hkdf_expand_label("sha256", full.secret("res master"), b"resumption", ticket.ticket_nonce, 32)
    assert psk == full.secret("resumption") == resumed.data["secrets"]["early"]["ikm"]

    message = resumed.data["whole_messages"][0]["bytes"]
    hello = ClientHello.decode(message)
    assert hello.encode() == message
    (identity,), (binder,) = decode_offered_psks(hello.extensions[ExtensionType.PRE_SHARED_KEY])
    assert identity[0] == ticket.ticket

    prefix = resumed.data["messages"][0]["bytes"]
    assert message == prefix + b"\0\x21\x20" + binder
    transcript = Transcript()
    transcript.start("sha256")
    transcript.add(prefix)
    expected = resumed.data["psk_binder"]
    assert transcript.digest() == expected["hash"]
    binder_key = EarlySecret.from_psk("sha256", psk).binder_key(external=False)
    assert binder_key == expected["binder_key"]
    assert finished_verify_data("sha256", binder_key, expected["hash"]) == expected["binder"] == binder

    transcript.add(message[len(prefix) :])
    assert transcript.digest() == resumed.data["secrets"]["c e traffic"]["hash"]


def test_the_binder_key_of_an_external_psk_is_another() -> None:
    early = EarlySecret.from_psk("sha256", bytes(32))
    assert early.binder_key(external=True) != early.binder_key(external=False)


def test_without_a_psk_the_early_secret_comes_from_zeros() -> None:
    early, shared = EarlySecret.no_psk("sha256"), Trace("3").data["secrets"]["handshake"]["ikm"]
    traced = Trace("3").data["secrets"]["c hs traffic"]
    assert early.handshake_secret(shared).client_handshake_traffic_secret(traced["hash"]) == traced["secret"]


def test_the_rsa_key_of_section_2() -> None:
    """The server's key in sections 3, 5 and 7; RSA-PSS is randomized, so that the signature can't be the same."""
    numbers = {name: int.from_bytes(value, "big") for name, value in load("rfc8448.toml")["rsa_key"].items()}
    private_key = rsa.RSAPrivateNumbers(
        numbers["prime1"],
        numbers["prime2"],
        numbers["private_exponent"],
        numbers["exponent1"],
        numbers["exponent2"],
        numbers["coefficient"],
        rsa.RSAPublicNumbers(numbers["public_exponent"], numbers["modulus"]),
    ).private_key()
    signature = sign(private_key, SignatureScheme.RSA_PSS_RSAE_SHA256, b"content")
    for section in ("3", "5", "7"):
        shown = signed(Trace(section), Role.SERVER)
        assert shown is not None
        verify(trust(shown[0].chain), SignatureScheme.RSA_PSS_RSAE_SHA256, signature, b"content")


@pytest.mark.parametrize("side", list(Role))
def test_the_labels_of_quic(side: Role) -> None:
    """RFC 9001 appendix A.1: the same HKDF-Expand-Label with other labels."""
    vectors = load("rfc9001.toml")
    expected = vectors[side]
    secret = hkdf_expand_label("sha256", vectors["initial_secret"], f"{side} in".encode(), b"", 32)
    assert secret == expected["secret"]
    for label, length in (("key", 16), ("iv", 12), ("hp", 16)):
        assert hkdf_expand_label("sha256", secret, f"quic {label}".encode(), b"", length) == expected[label]
