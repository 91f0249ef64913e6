"""The record layer: the records of RFC 8448, every rule of RFC 8446 section 5, and arbitrary bytes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.events import InstallSecret
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.protection import Protection, TrafficKeys
from quic_tlshd.tls.record import HEADER, MAX_CIPHERTEXT, MAX_PLAINTEXT, ContentType, Fragment, RecordLayer
from tests.tls.traces import Trace

SUITE = CipherSuite.TLS_AES_128_GCM_SHA256
MESSAGE = b"\x08\x00\x00\x05hello"
CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")

# RFC 8448 section 3, the end of it: what is in each record, and the record.
RECORDS = [
    (
        "c hs traffic", 0, ContentType.HANDSHAKE,
        "14000020a8ec436d677634ae525ac1fcebe11a039ec17694fac6e98527b642f2edd5ce61",
        "170303003575ec4dc238cce60b298044a71e219c56cc77b0517fe9b93c7a4bfc44d87f38f80338ac98fc46deb384bd1caeacab6867d726"
        "c40546",
    ),
    (
        "c ap traffic", 0, ContentType.APPLICATION_DATA, bytes(range(50)).hex(),
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292"
        "a2977014bd1e3deae63aeebb21694915e4",
    ),
    (
        "s ap traffic", 1, ContentType.APPLICATION_DATA, bytes(range(50)).hex(),
        "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0"
        "a21c0047c2abf332540dd032e167c2955d",
    ),
    ("c ap traffic", 1, ContentType.ALERT, "0100", "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"),
]  # fmt: skip


def secret(direction: Direction, suite: CipherSuite = SUITE, level: Level = Level.HANDSHAKE) -> InstallSecret:
    return InstallSecret(level, direction, suite, b"\x5a" * (48 if suite.hash == "sha384" else 32))


def layer(*directions: Direction) -> RecordLayer:
    """A record layer in the middle of a handshake, these directions protected already."""
    records = RecordLayer()
    records.handshake(MESSAGE)
    for direction in directions:
        records.install(secret(direction))
    return records


def receiver() -> tuple[Protection, RecordLayer]:
    """A peer's protection, and the layer that receives from it."""
    return Protection(TrafficKeys.derive(SUITE, secret(Direction.SEND).secret)), layer(Direction.RECEIVE)


def take(records: RecordLayer, stream: bytes) -> list[bytes]:
    """The contents of all in `stream`, record by record, in just the portions that the layer asks for."""
    return [b"" if fragment is None else fragment.content for fragment in fragments(records, stream)]


def fragments(records: RecordLayer, stream: bytes) -> list[Fragment | None]:
    got = []
    while stream:
        header, stream = stream[:HEADER], stream[HEADER:]
        length = records.body_length(header)
        got.append(records.open(header, stream[:length]))
        stream = stream[length:]
    return got


def plain(content_type: int, body: bytes, version: bytes = b"\x03\x03") -> bytes:
    return bytes((content_type,)) + version + len(body).to_bytes(2, "big") + body


def refuses(records: RecordLayer, stream: bytes, alert: A, reason: str = ".") -> None:
    with pytest.raises(PeerError, match=reason) as refused:
        take(records, stream)
    assert refused.value.alert is alert


# protection


@pytest.mark.parametrize(("name", "sequence", "content_type", "content", "record"), RECORDS)
def test_rfc_8448(name: str, sequence: int, content_type: ContentType, content: str, record: str) -> None:
    keys = TrafficKeys.derive(SUITE, Trace("3").secret(name))
    ours, theirs = Protection(keys), Protection(keys)
    ours.sequence = theirs.sequence = sequence
    wire = bytes.fromhex(record)
    assert ours.seal(content_type, bytes.fromhex(content)) == wire
    assert theirs.open(wire[:HEADER], wire[HEADER:]) == (content_type, bytes.fromhex(content))
    assert ours.sequence == theirs.sequence == sequence + 1


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_each_suite_has_its_keys_and_counts_records(suite: CipherSuite) -> None:
    ours, theirs = RecordLayer(), RecordLayer()
    ours.install(secret(Direction.SEND, suite))
    theirs.install(secret(Direction.RECEIVE, suite))
    wires = [ours.handshake(MESSAGE) for _ in range(3)]
    assert len(set(wires)) == 3
    assert [take(theirs, wire) for wire in wires] == [[MESSAGE]] * 3
    assert ours.send is not None
    assert theirs.receive is not None
    assert ours.send.sequence == theirs.receive.sequence == 3
    assert ours.send.keys == theirs.receive.keys
    assert len(ours.send.keys.key) == (16 if "128" in suite.name else 32)
    assert len(ours.send.keys.iv) == 12
    assert "key" not in repr(ours.send.keys)


def test_a_new_secret_starts_at_zero() -> None:
    records = layer(Direction.SEND)
    records.handshake(MESSAGE)
    records.install(secret(Direction.SEND, level=Level.APP))
    assert records.send is not None
    assert records.send.sequence == 0


def test_levels_follow_the_receive_keys() -> None:
    records = layer(Direction.SEND)
    assert records.level is Level.INITIAL
    records.install(secret(Direction.RECEIVE))
    assert records.level is Level.HANDSHAKE


# sending


HELLO = b"\x01\0\0\x25".ljust(38, b"r")  # up to legacy_session_id


def heads(stream: bytes) -> list[str]:
    """Each record's content type and version, in hex."""
    found = []
    while stream:
        found.append(stream[:3].hex())
        stream = stream[HEADER + int.from_bytes(stream[3:HEADER], "big") :]
    return found


def test_a_client_that_pretends_to_resume_a_tls_1_2_session() -> None:
    records = RecordLayer()
    assert heads(records.handshake(HELLO + b"\x01x")) == ["160301"]
    assert heads(records.handshake(HELLO + b"\x01x")) == ["140303", "160303"]  # after a HelloRetryRequest
    records.install(secret(Direction.SEND))
    assert heads(records.handshake(MESSAGE)) == ["170303"]


def test_a_client_with_early_data_that_pretends() -> None:
    records = RecordLayer()
    assert heads(records.handshake(HELLO + b"\x01x")) == ["160301"]
    records.install(secret(Direction.SEND, level=Level.EARLY))
    assert heads(records.application_data(b"early")) == ["140303", "170303"]
    assert heads(records.handshake(MESSAGE)) == ["170303"]


def test_a_server_that_pretends() -> None:
    records = RecordLayer()
    stream = records.handshake(b"\x02" + HELLO[1:] + b"\x01x")
    assert heads(stream) == ["160303", "140303"]
    assert stream.endswith(CHANGE_CIPHER_SPEC)
    assert heads(records.handshake(b"\x02" + HELLO[1:] + b"\x01x")) == ["160303"]


def test_without_a_session_id_nobody_pretends() -> None:
    for hello in (HELLO + b"\0", b"\x02" + HELLO[1:] + b"\0"):
        records = RecordLayer()
        assert heads(records.handshake(hello)) == heads(records.handshake(hello)) == ["160303"]


@pytest.mark.parametrize("block", [1, 2, 64, 1000, MAX_PLAINTEXT])
def test_padding_hides_lengths(block: int) -> None:
    ours, theirs = RecordLayer(padding=block), layer(Direction.RECEIVE)
    ours.install(secret(Direction.SEND))
    for length in (1, 5, 63, 64, 1000, MAX_PLAINTEXT):
        content = b"\x0b" + (MAX_PLAINTEXT * 2).to_bytes(3, "big") + bytes(length)
        record = ours.handshake(content[:length])
        inner = len(record) - HEADER - 16
        assert inner % block == 0 or inner == MAX_PLAINTEXT + 1
        assert fragments(theirs, record)[0] == (ContentType.HANDSHAKE, content[:length])
        theirs = layer(Direction.RECEIVE)
        ours.install(secret(Direction.SEND))


@pytest.mark.parametrize("limit", [64, 65, 500, MAX_PLAINTEXT + 1])
def test_flights_are_cut_to_the_peers_record_size_limit(limit: int) -> None:
    flight = bytes(range(256)) * 300
    ours, theirs = layer(), layer()
    ours.send_limit = limit
    assert max(map(len, take(theirs, ours.handshake(flight)))) == MAX_PLAINTEXT  # RFC 8449 section 4: not these
    ours.install(secret(Direction.SEND))
    theirs = layer(Direction.RECEIVE)
    parts = take(theirs, ours.handshake(flight))
    assert b"".join(parts) == flight
    assert max(map(len, parts)) == limit - 1  # and the type's byte


def test_alerts_go_out_under_the_keys_of_now() -> None:
    assert layer().alert(A.UNKNOWN_CA) == bytes.fromhex("15030300020230")
    sealed = layer(Direction.SEND).alert(A.UNKNOWN_CA)
    assert sealed[:HEADER] == bytes.fromhex("1703030013")
    with pytest.raises(PeerAlertError, match="unknown_ca"):
        take(layer(Direction.RECEIVE), sealed)


def test_who_cancels_also_closes() -> None:
    assert layer().alert(A.USER_CANCELED) == bytes.fromhex("1503030002015a 15030300020100")
    assert layer().alert(A.CLOSE_NOTIFY) == bytes.fromhex("15030300020100")


# receiving


@pytest.mark.parametrize("version", [b"\x03\x01", b"\x03\x03", b"\x03\x04", b"\x00\x00"])
def test_the_legacy_version_says_nothing(version: bytes) -> None:
    assert take(RecordLayer(), plain(22, MESSAGE, version)) == [MESSAGE]


@pytest.mark.parametrize("padding", [1, 255, MAX_PLAINTEXT - len(MESSAGE)])
def test_padding_goes_away(padding: int) -> None:
    peer, records = receiver()
    assert take(records, peer.seal(ContentType.HANDSHAKE, MESSAGE, padding)) == [MESSAGE]


def test_the_largest_records() -> None:
    peer, records = receiver()
    content = b"\x0b\x00\x3f\xfc".ljust(MAX_PLAINTEXT, b"x")
    assert take(RecordLayer(), plain(22, content)) == [content]
    assert take(records, peer.seal(ContentType.HANDSHAKE, content)) == [content]
    refuses(RecordLayer(), plain(22, content + b"x"), A.RECORD_OVERFLOW)
    refuses(records, peer.seal(ContentType.HANDSHAKE, content + b"x"), A.RECORD_OVERFLOW)
    header = bytes.fromhex("170303") + (MAX_CIPHERTEXT + 1).to_bytes(2, "big")
    refuses(records, header, A.RECORD_OVERFLOW, "16641 bytes where 16640 are the most")


def test_what_is_not_tls() -> None:
    refuses(RecordLayer(), b"GET / HTTP/1.1\r\n", A.UNEXPECTED_MESSAGE, "is it TLS")


@pytest.mark.parametrize("sealed", [False, True])
def test_empty_fragments(sealed: bool) -> None:
    peer, records = receiver()
    stream = peer.seal(ContentType.HANDSHAKE, b"", 9) if sealed else plain(22, b"")
    refuses(records if sealed else RecordLayer(), stream, A.UNEXPECTED_MESSAGE, "empty fragment")


def test_a_record_of_nothing_but_padding() -> None:
    peer, records = receiver()
    refuses(records, peer.seal(0, b"", 100), A.UNEXPECTED_MESSAGE, "no content type")


@pytest.mark.parametrize("at", [2, HEADER, -1])
def test_changed_records(at: int) -> None:
    peer, records = receiver()
    record = bytearray(peer.seal(ContentType.HANDSHAKE, MESSAGE))
    record[at] ^= 1
    refuses(records, bytes(record), A.BAD_RECORD_MAC)


@pytest.mark.parametrize("length", [0, 1, 15, 16])
def test_records_shorter_than_their_tag(length: int) -> None:
    refuses(layer(Direction.RECEIVE), plain(23, bytes(length)), A.BAD_RECORD_MAC)


def test_a_record_that_comes_twice() -> None:
    peer, records = receiver()
    record = peer.seal(ContentType.HANDSHAKE, MESSAGE)
    refuses(records, record * 2, A.BAD_RECORD_MAC)


@pytest.mark.parametrize("content_type", [ContentType.APPLICATION_DATA, ContentType.CHANGE_CIPHER_SPEC, 0x80])
def test_other_content_during_the_handshake(content_type: int) -> None:
    peer, records = receiver()
    refuses(records, peer.seal(content_type, b"\x01"), A.UNEXPECTED_MESSAGE, f"content type {content_type}")


def test_protected_records_before_there_are_keys() -> None:
    refuses(layer(), plain(23, bytes(40)), A.UNEXPECTED_MESSAGE, "before there are keys")


def test_plain_records_after_the_keys() -> None:
    refuses(layer(Direction.RECEIVE), plain(22, MESSAGE), A.UNEXPECTED_MESSAGE, "unprotected")


def test_a_plain_alert_is_heard_only_until_the_first_protected_record() -> None:
    peer, records = receiver()
    alert = plain(21, b"\x02\x2f")
    with pytest.raises(PeerAlertError, match="illegal_parameter"):
        take(layer(Direction.RECEIVE), alert)
    refuses(records, peer.seal(ContentType.HANDSHAKE, MESSAGE) + alert, A.UNEXPECTED_MESSAGE, "unprotected")


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("description", [0, 40, 48, 200])
def test_alerts_are_fatal_whatever_their_level(level: int, description: int) -> None:
    with pytest.raises(PeerAlertError) as heard:
        take(RecordLayer(), plain(21, bytes((level, description))))
    assert heard.value.description == description


@pytest.mark.parametrize("body", [b"\x02", b"\x02\x28\x00", b"\x01\x00\x01\x00"])
def test_alerts_of_another_length(body: bytes) -> None:
    refuses(RecordLayer(), plain(21, body), A.DECODE_ERROR)


@pytest.mark.parametrize("sealed", [False, True])
def test_empty_alerts(sealed: bool) -> None:
    peer, records = receiver()
    stream = peer.seal(ContentType.ALERT, b"", 9) if sealed else plain(21, b"")
    refuses(records if sealed else RecordLayer(), stream, A.UNEXPECTED_MESSAGE, "empty alert")


def test_user_canceled_is_waited_through() -> None:
    with pytest.raises(PeerAlertError, match="close_notify"):
        take(layer(), plain(21, b"\x01\x5a") + plain(21, b"\x01\x00"))


# change_cipher_spec


def test_change_cipher_spec_is_ignored_during_the_handshake() -> None:
    peer, records = receiver()
    assert take(records, CHANGE_CIPHER_SPEC + peer.seal(ContentType.HANDSHAKE, MESSAGE)) == [b"", MESSAGE]
    server = RecordLayer()
    assert take(server, plain(22, MESSAGE) + CHANGE_CIPHER_SPEC) == [MESSAGE, b""]


def test_change_cipher_spec_outside_the_handshake() -> None:
    refuses(RecordLayer(), CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE, "wrong time")
    records = layer(Direction.RECEIVE)
    records.install(secret(Direction.RECEIVE, level=Level.APP))
    refuses(records, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE, "wrong time")


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x02", b"\x01\x01"])
def test_change_cipher_spec_is_one_byte_of_1(body: bytes) -> None:
    refuses(layer(), plain(20, body), A.UNEXPECTED_MESSAGE, "not one byte of 1")


@pytest.mark.parametrize("between", [CHANGE_CIPHER_SPEC, plain(21, b"\x01\x5a")])
@pytest.mark.parametrize("at", range(1, len(MESSAGE)))
def test_nothing_comes_between_fragments(between: bytes, at: int) -> None:
    head, tail = plain(22, MESSAGE + MESSAGE[:at]), plain(22, MESSAGE[at:])
    assert b"".join(take(layer(), head + tail + between)) == MESSAGE * 2
    refuses(layer(), head + between, A.UNEXPECTED_MESSAGE, "in the middle of a handshake message")


def test_not_for_ever() -> None:
    records = layer()
    assert take(records, CHANGE_CIPHER_SPEC * 32) == [b""] * 32
    refuses(records, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE, "already to be ignored")


# limits


def test_no_more_than_we_said_we_take() -> None:
    peer, records = receiver()
    records.receive_limit = 64
    assert take(records, peer.seal(ContentType.HANDSHAKE, MESSAGE, 63 - len(MESSAGE))) == [MESSAGE]
    refuses(records, peer.seal(ContentType.HANDSHAKE, MESSAGE, 64 - len(MESSAGE)), A.RECORD_OVERFLOW, "65 bytes")


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_keys_wear_out(suite: CipherSuite) -> None:
    ours = Protection(TrafficKeys.derive(suite, secret(Direction.SEND, suite).secret))
    limit = {"GCM": 23_726_566, "CCM": 2**23, "POLY1305": 2**64 - 1}
    ours.sequence = next(most for name, most in limit.items() if name in suite.name) - 1
    assert not ours.is_worn
    ours.seal(ContentType.APPLICATION_DATA, b"")
    assert ours.is_worn


# application data, and new keys for it


def test_application_data_comes_with_its_keys() -> None:
    ours = RecordLayer()
    ours.install(secret(Direction.SEND, level=Level.APP))
    for level in (Level.EARLY, Level.APP):
        records = layer()
        records.install(secret(Direction.RECEIVE, level=level))
        records.take_early_data(20_000)
        ours.install(secret(Direction.SEND, level=level))
        stream = ours.application_data(b"data" * 5000)
        assert fragments(records, stream) == [
            (ContentType.APPLICATION_DATA, (b"data" * 5000)[:MAX_PLAINTEXT]),
            (ContentType.APPLICATION_DATA, (b"data" * 5000)[MAX_PLAINTEXT:]),
        ]
    records = layer(Direction.RECEIVE)
    ours.install(secret(Direction.SEND))
    refuses(records, ours.application_data(b"data"), A.UNEXPECTED_MESSAGE, "content type 23 came at the HANDSHAKE")


def test_empty_application_data() -> None:
    peer, records = receiver()
    records.install(secret(Direction.RECEIVE, level=Level.APP))
    assert fragments(records, peer.seal(ContentType.APPLICATION_DATA, b"", 20)) == [(ContentType.APPLICATION_DATA, b"")]
    assert layer(Direction.SEND).application_data(b"") == b""


def test_new_keys_one_direction_at_a_time() -> None:
    ours, theirs = RecordLayer(), layer()
    ours.install(secret(Direction.SEND, level=Level.APP))
    theirs.install(secret(Direction.RECEIVE, level=Level.APP))
    for _ in range(3):
        ours.update_send()
        theirs.update_receive()
        assert take(theirs, ours.application_data(b"data")) == [b"data"]
    ours.update_send()
    refuses(theirs, ours.application_data(b"data"), A.BAD_RECORD_MAC)


@pytest.mark.parametrize("change", ["install", "update"])
def test_keys_change_between_messages_only(change: str) -> None:
    records = layer(Direction.RECEIVE)
    peer = Protection(TrafficKeys.derive(SUITE, secret(Direction.SEND).secret))
    take(records, peer.seal(ContentType.HANDSHAKE, MESSAGE + MESSAGE[:3]))
    with pytest.raises(PeerError, match="middle of a handshake message") as refused:
        records.update_receive() if change == "update" else records.install(secret(Direction.RECEIVE, level=Level.APP))
    assert refused.value.alert is A.UNEXPECTED_MESSAGE


# early data


def test_more_early_data_than_the_ticket_allows() -> None:
    peer, records = receiver()
    records.take_early_data(100)
    records.install(secret(Direction.RECEIVE, level=Level.EARLY))
    peer = Protection(TrafficKeys.derive(SUITE, secret(Direction.SEND).secret))
    stream = b"".join([peer.seal(ContentType.APPLICATION_DATA, b"x" * 50, 100) for _ in range(2)])
    assert take(records, stream) == [b"x" * 50] * 2
    refuses(records, peer.seal(ContentType.APPLICATION_DATA, b"x"), A.UNEXPECTED_MESSAGE, "than the ticket allows")


def test_a_client_whose_early_data_is_refused_by_a_retry() -> None:
    records = RecordLayer()
    records.handshake(HELLO + b"\x01x")
    records.install(secret(Direction.SEND, level=Level.EARLY))
    records.application_data(b"early")
    records.end_early_data()
    assert heads(records.handshake(HELLO + b"\x01x")) == ["160303"]


def early(*contents: bytes) -> bytes:
    """Records under keys that the receiver has not."""
    peer = Protection(TrafficKeys.derive(SUITE, b"\xea" * 32))
    return b"".join([peer.seal(ContentType.APPLICATION_DATA, content) for content in contents])


def test_early_data_is_skipped_by_trial_decryption() -> None:
    peer, records = receiver()
    records.skip_early_data(100)
    assert take(records, early(b"x" * 60, b"", b"x" * 39)) == [b""] * 3
    assert take(records, peer.seal(ContentType.HANDSHAKE, MESSAGE)) == [MESSAGE]
    refuses(records, early(b"x"), A.BAD_RECORD_MAC)  # there is none after the first record that can be opened


def test_early_data_before_a_retry_is_skipped_by_its_content_type() -> None:
    records = layer()
    records.skip_early_data(100)
    assert take(records, early(b"x" * 60, b"x" * 40) + plain(22, MESSAGE)) == [b"", b"", MESSAGE]
    refuses(records, early(b"x"), A.UNEXPECTED_MESSAGE, "before there are keys")


def test_change_cipher_spec_before_early_data() -> None:
    records = layer()
    records.skip_early_data(100)
    assert take(records, CHANGE_CIPHER_SPEC + early(b"x") + plain(22, MESSAGE)) == [b"", b"", MESSAGE]


@pytest.mark.parametrize("protected", [True, False])
@pytest.mark.parametrize("contents", [[b"x" * 101], [b"x" * 60, b"x" * 41], [b""] * 101])
def test_early_data_is_not_skipped_for_ever(contents: list[bytes], protected: bool) -> None:
    records = layer(*[Direction.RECEIVE] * protected)
    records.skip_early_data(100)
    refuses(records, early(*contents), A.UNEXPECTED_MESSAGE, "more early data")


def test_what_can_be_opened_is_not_skipped() -> None:
    """It is the first of the client's own, and its faults are faults."""
    peer, records = receiver()
    records.skip_early_data(100)
    refuses(records, peer.seal(ContentType.APPLICATION_DATA, b"data"), A.UNEXPECTED_MESSAGE, "content type 23")


# arbitrary bytes


@given(st.binary(min_size=HEADER, max_size=200), st.booleans())
def test_arbitrary_records(stream: bytes, protected: bool) -> None:
    records = layer(Direction.RECEIVE) if protected else RecordLayer()
    with suppress(PeerError, PeerAlertError):  # and no other
        take(records, stream)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50), st.integers(0, 50)), max_size=6))
def test_arbitrary_contents(contents: list[tuple[int, bytes, int]]) -> None:
    peer, records = receiver()
    stream = b"".join([peer.seal(*content) for content in contents])
    with suppress(PeerError, PeerAlertError):
        take(records, stream)


@given(st.lists(st.integers(0, 40), max_size=6), st.lists(st.integers(1, 60), max_size=8))
def test_message_boundaries_are_found_however_they_are_cut(lengths: list[int], cuts: list[int]) -> None:
    """A change_cipher_spec is taken at a boundary of messages and nowhere else."""
    messages = [b"\x08" + length.to_bytes(3, "big") + bytes(length) for length in lengths]
    ends = {sum(map(len, messages[:count])) for count in range(len(messages) + 1)}
    stream, at, records = b"".join(messages), 0, layer()
    for cut in (*cuts, 1 << 14):
        if part := stream[at : at + cut]:
            take(records, plain(22, part))
        at += len(part)
        if at in ends:
            assert take(records, CHANGE_CIPHER_SPEC) == [b""]
        else:
            refuses(records, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE, "in the middle")
