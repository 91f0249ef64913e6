"""What the engine is told, where the entry and the transport do not go together."""

from __future__ import annotations

from errno import EACCES, EINVAL

import pytest

from quic_tlshd.endpoint.interface import EndpointError, Settings
from quic_tlshd.policy.registry import Entry, Registry, TrustAnchors
from quic_tlshd.request import AuthMode, HandshakeRequest, Role
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import ClientCertificate, Psk
from quic_tlshd.tls.ticket import Session
from quic_tlshd.worker.key_shares import REMEMBERED, KeyShares
from quic_tlshd.worker.policy import Policy, Seen
from tests.peers import pki

AES, CHACHA = CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_CHACHA20_POLY1305_SHA256
OTHER = Settings(cipher_suites=(0x9999,))
ENTRIES = (
    Entry(name="client", role=Role.CLIENT, source="test:1", trust="ca", cipher_suites=(AES,)),
    Entry(name="smb", role=Role.CLIENT, source="test:2", trust="ca", alpn=(b"smb",)),
    Entry(name="server", role=Role.SERVER, source="test:3", cipher_suites=(AES,)),
)
POLICY = Policy(Registry(ENTRIES, {"ca": TrustAnchors("ca")}))


def request(role: Role, mode: AuthMode = AuthMode.X509, peername: str | None = "a.example") -> HandshakeRequest:
    return HandshakeRequest(
        id=1,
        role=role,
        auth_mode=mode,
        deadline=5,
        peer="test",
        peername=peername,
        psks=(Psk(b"identity", bytes(32)),) if mode is AuthMode.PSK else (),
        entries=tuple(entry.name for entry in ENTRIES if entry.role is role),
    )


@pytest.mark.parametrize("mode", [AuthMode.X509, AuthMode.PSK])
def test_a_client_without_any_cipher_suite_sends_nothing(mode: AuthMode) -> None:
    with pytest.raises(EndpointError, match="no cipher suite") as caught:
        POLICY.client_parameters(request(Role.CLIENT, mode), OTHER, Seen())
    assert caught.value.errno == EINVAL


@pytest.mark.parametrize("mode", [AuthMode.X509, AuthMode.PSK])
def test_a_server_without_any_cipher_suite_says_why(mode: AuthMode) -> None:
    parameters = POLICY.server_parameters(request(Role.SERVER, mode), OTHER, Seen())
    with pytest.raises(PeerError, match="no cipher suite") as caught:
        parameters.choose(None, ())
    assert caught.value.alert is AlertDescription.HANDSHAKE_FAILURE


def test_the_entrys_suites_that_the_transport_has() -> None:
    settings = Settings(cipher_suites=(CHACHA, AES))
    assert POLICY.client_parameters(request(Role.CLIENT), settings, Seen()).cipher_suites == (AES,)
    assert POLICY.server_parameters(request(Role.SERVER), settings, Seen()).choose(None, ()).cipher_suites == (AES,)
    psk = POLICY.client_parameters(request(Role.CLIENT, AuthMode.PSK), settings, Seen())
    assert set(psk.cipher_suites) == {AES, CHACHA}


def test_a_server_names_its_authorities_unless_they_are_many() -> None:
    one, many = pki.Authority("an authority"), [pki.Authority(f"authority {at} " + "x" * 50) for at in range(60)]
    anchors = {
        "one": TrustAnchors("one", (one.der, one.der)),
        "many": TrustAnchors("many", tuple(each.der for each in many)),
    }
    for trust, names in (("one", (one.certificate.subject.public_bytes(),)), ("many", ())):
        for wish in ClientCertificate:
            entry = Entry(name="server", role=Role.SERVER, source="test:1", trust=trust, client_certificate=wish)
            policy = Policy(Registry((entry,), anchors))
            choice = policy.server_parameters(request(Role.SERVER), Settings(), Seen()).choose(None, ())
            assert choice.certificate_authorities == (() if wish is ClientCertificate.NONE else names)


@pytest.mark.parametrize(("alpn", "entry"), [((b"smb",), "smb"), ((b"h3",), "client"), ((), "client")])
def test_the_sockets_own_alpn_decides_among_the_entries(alpn: tuple[bytes, ...], entry: str) -> None:
    assert POLICY.client_parameters(request(Role.CLIENT), Settings(alpn=alpn), Seen()).entry == entry


@pytest.mark.parametrize(
    ("peername", "sent"), [("a.example", "a.example"), ("192.0.2.1", None), ("2001:db8::1", None), ("fe80::1%x", None)]
)
def test_no_address_is_sent_as_a_server_name(peername: str, sent: str | None) -> None:
    assert POLICY.client_parameters(request(Role.CLIENT, peername=peername), Settings(), Seen()).server_name == sent


def test_a_client_expects_of_a_server_what_it_chose_the_last_time() -> None:
    """The shares for a server that nothing is known of go along: it may be another one by now, and unable to ask."""
    hybrid, classic, other = NamedGroup.X25519MLKEM768, NamedGroup.X25519, NamedGroup.SECP384R1
    policy = Policy(Registry(ENTRIES, {"ca": TrustAnchors("ca")}))
    asked = request(Role.CLIENT)

    def shares(of: HandshakeRequest = asked) -> tuple[NamedGroup, ...]:
        return policy.client_parameters(of, Settings(), Seen()).key_shares

    def chose(group: NamedGroup | None) -> None:
        policy.remember_group(asked, "client", group)

    assert shares() == (hybrid, classic)
    chose(other)
    assert shares() == (hybrid, classic, other)
    assert shares(request(Role.CLIENT, peername="b.example")) == (hybrid, classic)
    chose(None)
    assert shares() == (hybrid, classic, other)
    policy = Policy(Registry(ENTRIES, {"ca": TrustAnchors("ca")}), policy)
    assert shares() == (hybrid, classic, other)
    chose(hybrid)
    assert shares() == (hybrid, classic)


@pytest.mark.parametrize("mode", [AuthMode.X509, AuthMode.PSK])
def test_a_small_client_hello_has_no_share_that_would_fill_a_packet(mode: AuthMode) -> None:
    asked, settings = request(Role.CLIENT, mode), Settings(transport_parameters=b"", small_client_hello=True)
    policy = Policy(Registry(ENTRIES, {"ca": TrustAnchors("ca")}))
    for entry in ("client", "psk"):
        policy.remember_group(asked, entry, NamedGroup.X25519MLKEM768)
    parameters = policy.client_parameters(asked, settings, Seen())
    assert parameters.key_shares == (NamedGroup.X25519,)
    assert NamedGroup.X25519MLKEM768 in parameters.groups
    assert KeyShares().predict("entry", None, (NamedGroup.X25519MLKEM768,), small=True) == ()


def test_what_servers_chose_is_bounded() -> None:
    shares, groups = KeyShares(), (NamedGroup.X25519, NamedGroup.SECP256R1)
    for at in range(REMEMBERED + 1):
        shares.remember("entry", f"{at}.example", NamedGroup.SECP256R1)
    assert shares.predict("entry", "0.example", groups) == groups[:1]
    assert shares.predict("entry", "1.example", groups) == groups
    assert shares.predict("entry", "1.example", (NamedGroup.X448,)) == (NamedGroup.X448,)


def test_a_client_must_know_whom_it_verifies() -> None:
    with pytest.raises(EndpointError) as caught:
        POLICY.client_parameters(request(Role.CLIENT, peername=None), Settings(), Seen())
    assert caught.value.errno == EACCES


def test_a_small_client_hello_has_no_ticket_that_would_fill_a_packet() -> None:
    for size, is_offered in ((200, True), (512, True), (513, False)):
        session = Session(CipherSuite.TLS_AES_128_GCM_SHA256, b"k" * 32, 0, 60, 0, 0, b"h3", None, identity=bytes(size))
        for small in (False, True):
            settings = Settings(transport_parameters=b"", small_client_hello=small, session=session.encode())
            parameters = POLICY.client_parameters(request(Role.CLIENT), settings, Seen())
            assert parameters.session == (session if is_offered or not small else None)


def test_tickets_are_what_the_entry_or_else_the_transport_says() -> None:
    for of_entry, of_transport, issued in ((None, 1, 1), (None, 0, 0), (0, 1, 0), (2, 0, 2), (2, 1, 2)):
        policy = Policy(Registry((Entry(name="server", role=Role.SERVER, source="", tickets=of_entry),)))
        parameters = policy.server_parameters(request(Role.SERVER), Settings(tickets=of_transport), Seen())
        assert parameters.choose(None, ()).tickets == issued


@pytest.mark.parametrize("of_transport", [False, True])
@pytest.mark.parametrize("of_entry", [0, 1000])
def test_early_data_needs_both(of_entry: int, of_transport: bool) -> None:
    policy = Policy(Registry((Entry(name="server", role=Role.SERVER, source="", early_data=of_entry),)))
    parameters = policy.server_parameters(request(Role.SERVER), Settings(early_data=of_transport), Seen())
    assert parameters.choose(None, ()).max_early_data == (of_entry if of_transport else 0)
