"""record_size_limit, RFC 8449: offered only where it can be kept, and heeded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.events import PeerRecordSizeLimit, SendMessage
from quic_tlshd.tls.iana import ExtensionType, HandshakeType
from quic_tlshd.tls.messages import ClientHello, EncryptedExtensions
from quic_tlshd.tls.parameters import Level
from tests.tls.playbook import Duel, Role

LIMIT = ExtensionType.RECORD_SIZE_LIMIT


def limits(duel: Duel) -> list[list[int]]:
    """What the client and the server were told of the other's."""
    assert duel.is_complete
    return [[event.limit for event in party.told(PeerRecordSizeLimit)] for party in (duel.client, duel.server)]


def test_each_hears_of_the_others() -> None:
    duel = Duel.of(client={"record_size_limit": 1000}, server={"record_size_limit": 2000}).run()
    assert limits(duel) == [[2000], [1000]]


def test_the_server_knows_before_it_sends_anything_protected() -> None:
    duel = Duel.of(client={"record_size_limit": 1000}, server={"record_size_limit": 2000}).run()
    events = [event for event in duel.server.events if isinstance(event, PeerRecordSizeLimit | SendMessage)]
    protected = [event for event in events if isinstance(event, SendMessage) and event.level is Level.HANDSHAKE]
    assert events.index(PeerRecordSizeLimit(1000)) < events.index(protected[0])


@pytest.mark.parametrize(("client", "server"), [({}, {"record_size_limit": 2000}), ({"record_size_limit": 1000}, {})])
def test_both_must_be_able_to(client: dict[str, int], server: dict[str, int]) -> None:
    assert limits(Duel.of(client=client, server=server).run()) == [[], []]


def test_more_than_tls_allows_is_no_more() -> None:
    duel = Duel.of(client={"record_size_limit": 2**16 - 1}, server={"record_size_limit": 2000}).run()
    assert limits(duel) == [[2000], [2**14 + 1]]


@pytest.mark.parametrize(("body", "alert"), [(b"\0\x3f", A.ILLEGAL_PARAMETER), (b"\0", A.DECODE_ERROR)])
def test_what_no_client_may_ask(body: bytes, alert: A) -> None:
    duel = Duel.of(client={"record_size_limit": 1000})
    hello = ClientHello.decode(duel.next.message)
    duel.refuses(replace(hello, extensions={**hello.extensions, LIMIT: body}).encode(), alert)


@pytest.mark.parametrize(("body", "alert"), [(b"\0\x3f", A.ILLEGAL_PARAMETER), (b"\0\1\0", A.DECODE_ERROR)])
def test_what_no_server_may_ask(body: bytes, alert: A) -> None:
    duel = Duel.of(client={"record_size_limit": 1000}, server={"record_size_limit": 2000})
    duel.until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    extensions = EncryptedExtensions.decode(duel.next.message).extensions
    duel.refuses(EncryptedExtensions({**extensions, LIMIT: body}).encode(), alert)
