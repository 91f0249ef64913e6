"""status_request, RFC 8446 section 4.4.2.1: OCSP responses with certificates, for those who ask for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.extensions import STATUS_REQUEST, Extensions
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.messages import Certificate, CertificateEntry, ClientHello
from quic_tlshd.tls.parameters import ClientCertificate
from tests.tls.playbook import Duel, Role, distrust, identity, trust

RESPONSE = b"an OCSP response"
STATUS = b"\1\0\0\x10" + RESPONSE  # CertificateStatus, RFC 6066 section 8
STAPLED = replace(identity().certificate, ocsp_response=RESPONSE)


class Recorder:
    """A VerifyChain that keeps what it gets."""

    def __init__(self) -> None:
        self.responses: list[tuple[bytes, ...]] = []

    def __call__(self, chain: tuple[bytes, ...], responses: tuple[bytes, ...]) -> Any:
        self.responses.append(responses)
        return trust(chain)


def duel(*, client: dict[str, Any] | None = None, stapled: bool = True) -> Duel:
    return Duel.of(client=client, choice={"certificates": (STAPLED,)} if stapled else None)


def entries(started: Duel, to: Role = Role.CLIENT) -> tuple[CertificateEntry, ...]:
    (message,) = [letter.message for letter in started.delivered if (letter.to, letter.kind) == (to, H.CERTIFICATE)]
    return Certificate.decode(message).certificate_list


def test_a_client_that_asks_gets_the_response_and_has_it_judged() -> None:
    recorder = Recorder()
    started = duel(client={"verify_server": recorder})
    assert ClientHello.decode(started.next.message).extensions[X.STATUS_REQUEST] == STATUS_REQUEST
    assert started.run().is_complete
    assert [entry.extensions for entry in entries(started)] == [{X.STATUS_REQUEST: STATUS}, {}]
    assert recorder.responses == [(RESPONSE, b"")]


def test_nothing_is_stapled_where_there_is_nothing() -> None:
    recorder = Recorder()
    started = duel(client={"verify_server": recorder}, stapled=False).run()
    assert [entry.extensions for entry in entries(started)] == [{}, {}]
    assert recorder.responses == [()]


def test_a_client_that_does_not_ask_gets_none() -> None:
    started = duel(client={"status_request": False})
    assert X.STATUS_REQUEST not in ClientHello.decode(started.next.message).extensions
    assert [entry.extensions for entry in entries(started.run())] == [{}, {}]


def test_one_that_wants_to_verify_nothing_does_not_ask() -> None:
    started = Duel.of(client={"verify_server": None})
    assert X.STATUS_REQUEST not in ClientHello.decode(started.next.message).extensions


def test_the_verdict_on_a_response_ends_the_handshake() -> None:
    for alert in (A.CERTIFICATE_REVOKED, A.BAD_CERTIFICATE_STATUS_RESPONSE):
        duel(client={"verify_server": distrust(alert)}).fails(alert)


def asking(body: bytes) -> Duel:
    """The ClientHello is about to be delivered with that status_request."""
    started = duel()
    hello = ClientHello.decode(started.next.message)
    extensions: Extensions = {**hello.extensions, X.STATUS_REQUEST: body}
    return started.change(lambda _: replace(hello, extensions=extensions).encode())


@pytest.mark.parametrize("body", [b"\1\0\4\0\2id\0\3ext", b"\1\0\0\0\1x"])
def test_whom_and_what_a_client_would_like_to_hear_makes_no_difference(body: bytes) -> None:
    started = asking(body)
    started.deliver()
    assert STATUS in b"".join(letter.message for letter in started.wire)


@pytest.mark.parametrize("body", [b"\2", b"\2whatever", b"\xff\0\0"])
def test_a_status_of_another_type_is_not_ours_to_give(body: bytes) -> None:
    started = asking(body)
    started.deliver()
    assert RESPONSE not in b"".join(letter.message for letter in started.wire)


@pytest.mark.parametrize("body", [b"", b"\1", b"\1\0", b"\1\0\0", b"\1\0\0\0", b"\1\0\1\0\0", STATUS_REQUEST + b"\0"])
def test_requests_that_are_none(body: bytes) -> None:
    started = asking(body)
    started.refuses(started.next.message, A.DECODE_ERROR)


@pytest.mark.parametrize(
    ("body", "alert"),
    [
        (b"", A.DECODE_ERROR),
        (b"\1", A.DECODE_ERROR),
        (b"\1\0\0\0", A.DECODE_ERROR),
        (b"\1\0\0\2x", A.DECODE_ERROR),
        (b"\1\0\0\1xy", A.DECODE_ERROR),
        (b"\2\0\0\1x", A.ILLEGAL_PARAMETER),
    ],
)
def test_responses_that_are_none(body: bytes, alert: A) -> None:
    message = Certificate((CertificateEntry(STAPLED.chain[0], {X.STATUS_REQUEST: body}),)).encode()
    duel().until(Role.CLIENT, H.CERTIFICATE).refuses(message, alert)


def test_responses_of_the_whole_chain() -> None:
    recorder = Recorder()
    more = CertificateEntry(STAPLED.chain[0], {X.STATUS_REQUEST: b"\1\0\0\1x"})
    message = Certificate((CertificateEntry(STAPLED.chain[0]), more)).encode()
    duel(client={"verify_server": recorder}).until(Role.CLIENT, H.CERTIFICATE).change(lambda _: message).deliver()
    assert recorder.responses == [(b"", b"x")]


def test_a_response_that_was_not_asked_for() -> None:
    message = Certificate((CertificateEntry(STAPLED.chain[0], {X.STATUS_REQUEST: STATUS}),)).encode()
    duel(client={"status_request": False}).until(Role.CLIENT, H.CERTIFICATE).refuses(message, A.UNSUPPORTED_EXTENSION)
    mutual = Duel.of(request=ClientCertificate.REQUIRE, client_key="p256")
    mutual.until(Role.SERVER, H.CERTIFICATE).refuses(message, A.UNSUPPORTED_EXTENSION)


def requested(body: bytes) -> Duel:
    """A mutual handshake whose server asks with that status_request, which ours never does: some clients refuse it."""

    def ask(place: HandshakeType | str, extensions: Extensions) -> Extensions:
        assert X.STATUS_REQUEST not in extensions
        return {**extensions, X.STATUS_REQUEST: body} if place == H.CERTIFICATE_REQUEST else extensions

    shown = replace(identity("p256", "client").certificate, ocsp_response=RESPONSE)
    return Duel.of(
        request=ClientCertificate.REQUIRE,
        client_key="p256",
        client={"certificates": (shown,)},
        server={"arrange": ask},
    )


@pytest.mark.parametrize("body", [b"", STATUS_REQUEST])
def test_a_server_that_asks_gets_a_clients_response(body: bytes) -> None:
    started = requested(body).until(Role.SERVER, H.CERTIFICATE)
    shown = Certificate.decode(started.next.message).certificate_list
    assert shown[0].extensions == {X.STATUS_REQUEST: STATUS}
