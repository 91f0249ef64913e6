"""ACCEPT and DONE as bytes: round trips, strictness, and pyroute2's codec as an independent witness."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlink.handshake import (
    Accept,
    AcceptAttribute,
    Certificate,
    Done,
    DoneAttribute,
    MalformedMessage,
    decode_accept,
    decode_attributes,
    decode_done,
    encode_accept,
    encode_accept_request,
    encode_attributes,
    encode_done,
    encode_kernel_done,
    salvage_sockfd,
)
from netlink.message import decode_messages, encode_message
from tests.netlink.pyroute2_family import accept_message, done_message

u32 = st.integers(0, 0xFFFFFFFF)
s32 = st.integers(-(1 << 31), (1 << 31) - 1)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
names = st.binary(min_size=1, max_size=255)


def tuples(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=6).map(tuple)


accepts = st.builds(
    Accept,
    sockfd=s32,
    message_type=u32,
    auth_mode=u32,
    timeout=u32,
    handler_class=u32,
    peer_identities=tuples(u32),
    certificates=tuples(st.builds(Certificate, s32, s32)),
    peername=st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255),
    keyring=st.none() | u32,
    alpn=tuples(names),
)
dones = st.builds(
    Done,
    status=st.integers(0, 4095),
    sockfd=s32,
    remote_auth=tuples(u32),
    alpn=st.none() | names,
    server_name=st.none() | text,
    entry=st.none() | text,
    tags=tuples(text),
    peer_chain=tuples(st.binary(min_size=1, max_size=2000)),
    alert=st.none() | st.integers(0, 255),
    reason=st.none() | text,
)

ACCEPT = Accept(
    sockfd=7,
    message_type=1,
    auth_mode=3,
    timeout=3000,
    peer_identities=(1, 0xFFFFFFFF),
    certificates=(Certificate(11, 12), Certificate(-3, 0)),
    peername="server.example",
    keyring=99,
    alpn=(b"h3", b"smb"),
)
DONE = Done(
    status=0,
    sockfd=7,
    remote_auth=(5, 6),
    alpn=b"h3",
    server_name="server.example",
    entry="web",
    tags=("a", "b"),
    peer_chain=(b"leaf", b"ca"),
    alert=42,
    reason="größer",
)


@given(accepts)
def test_accept_round_trip(accept: Accept) -> None:
    assert decode_accept(encode_accept(accept)) == accept


@given(dones)
def test_done_round_trip(done: Done) -> None:
    assert decode_done(encode_done(done)) == done


@given(dones)
def test_the_kernel_sees_only_the_three_attributes_it_knows(done: Done) -> None:
    numbers = [number for number, _ in decode_attributes(encode_kernel_done(done))]
    assert set(numbers) <= {DoneAttribute.STATUS, DoneAttribute.SOCKFD, DoneAttribute.REMOTE_AUTH}
    assert numbers.count(DoneAttribute.REMOTE_AUTH) == len(done.remote_auth)


def test_the_accept_request_holds_only_the_handler_class() -> None:
    assert decode_attributes(encode_accept_request()) == [(AcceptAttribute.HANDLER_CLASS, struct.pack("=I", 1))]


def test_what_absence_means() -> None:
    assert decode_accept(b"") == Accept()
    assert decode_done(b"") == Done(status=errno.EIO)
    partial = encode_attributes([(AcceptAttribute.CERTIFICATE, encode_attributes([(1, struct.pack("=i", 5))]))])
    assert decode_accept(partial).certificates == (Certificate(5, 0),)


def test_unknown_attributes_are_ignored() -> None:
    unknown = encode_attributes([(10, b"max tags"), (11, b""), (4, b"\0\0\0\0"), (0x1FFF, b"x")])
    assert decode_done(unknown + encode_done(DONE)) == DONE
    assert decode_accept(encode_accept(ACCEPT) + encode_attributes([(10, b"x"), (0x3FFF, b"")])) == ACCEPT


@pytest.mark.parametrize(
    ("number", "payload"),
    [
        (AcceptAttribute.SOCKFD, b"\0\0"),
        (AcceptAttribute.MESSAGE_TYPE, b""),
        (AcceptAttribute.TIMEOUT, b"\0" * 8),
        (AcceptAttribute.CERTIFICATE, b"\1"),
        (AcceptAttribute.CERTIFICATE, encode_attributes([(1, b"\0\0")])),
        (AcceptAttribute.PEERNAME, b""),
        (AcceptAttribute.PEERNAME, b"unterminated"),
        (AcceptAttribute.PEERNAME, b"two\0nuls\0"),
        (AcceptAttribute.PEERNAME, b"\xff\0"),
        (AcceptAttribute.ALPN, b""),
        (AcceptAttribute.ALPN, b"x" * 256),
    ],
)
def test_a_malformed_attribute_is_named(number: AcceptAttribute, payload: bytes) -> None:
    with pytest.raises(MalformedMessage, match=number.name):
        decode_accept(encode_attributes([(number, payload)]))


def test_an_attribute_comes_once_unless_it_repeats() -> None:
    once = encode_attributes([(AcceptAttribute.TIMEOUT, b"\0" * 4)])
    with pytest.raises(MalformedMessage, match="TIMEOUT: more than once"):
        decode_accept(once + once)
    with pytest.raises(MalformedMessage, match="TAG: more than 255 times"):
        decode_done(encode_attributes([(DoneAttribute.TAG, b"t\0")] * 256))


@pytest.mark.parametrize(
    ("done", "name"),
    [
        (Done(status=4096), "STATUS"),
        (Done(status=-5), "STATUS"),
        (Done(alert=256), "ALERT"),
        (Done(reason="a\0b"), "REASON"),
        (Done(tags=("\ud800",)), "TAG"),
        (Done(peer_chain=(b"x" * 65532,)), "PEER_CERTIFICATE"),
        (Done(peer_chain=(b"",)), "PEER_CERTIFICATE"),
        (Done(remote_auth=(1,) * 256), "REMOTE_AUTH"),
    ],
)
def test_what_no_message_can_carry_is_refused_by_name(done: Done, name: str) -> None:
    with pytest.raises(MalformedMessage, match=name):
        encode_done(done)


def test_the_largest_certificate_fits() -> None:
    done = Done(peer_chain=(b"x" * 65531,))
    assert decode_done(encode_done(done)) == done
    with pytest.raises(MalformedMessage, match="65532 bytes"):
        encode_attributes([(1, b"x" * 65532)])


@pytest.mark.parametrize(
    ("decode", "whole"), [(decode_accept, encode_accept(ACCEPT)), (decode_done, encode_done(DONE))]
)
def test_every_prefix_and_every_mutated_byte_decodes_or_is_malformed(
    decode: Callable[[bytes], object], whole: bytes
) -> None:
    def survives(data: bytes) -> None:
        with suppress(MalformedMessage):
            decode(data)

    for end in range(len(whole)):
        survives(whole[:end])
    for position in range(len(whole)):
        for value in range(256):
            survives(whole[:position] + bytes([value]) + whole[position + 1 :])


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in (decode_accept, decode_done, lambda whole: list(decode_messages(whole))):
        with suppress(MalformedMessage):
            decode(data)
    salvage_sockfd(data)


def test_sockfd_is_salvaged_from_what_is_otherwise_malformed() -> None:
    assert salvage_sockfd(encode_attributes([(1, struct.pack("=i", 9)), (8, b"no nul")])) == 9
    assert salvage_sockfd(encode_attributes([(1, struct.pack("=i", 9))]) + b"\1\2\3") == 9
    assert salvage_sockfd(encode_attributes([(3, b"")])) is None


def test_pyroute2_reads_what_we_write() -> None:
    message = accept_message(encode_message(0x20, 0, 5, 2, 1, encode_accept(ACCEPT)))
    message.decode()
    assert (message["cmd"], message["version"], message["header"]["sequence_number"]) == (2, 1, 5)
    assert message.get_attrs("SOCKFD") == [7]
    assert message.get_attrs("TIMEOUT") == [3000]
    assert message.get_attrs("PEER_IDENTITY") == [1, 0xFFFFFFFF]
    assert message.get_attrs("PEERNAME") == ["server.example"]
    assert message.get_attrs("KEYRING") == [99]
    assert message.get_attrs("ALPN") == [b"h3", b"smb"]
    certificates = [(each.get_attr("CERT"), each.get_attr("PRIVKEY")) for each in message.get_attrs("CERTIFICATE")]
    assert certificates[0] == (11, 12)


def test_we_read_what_pyroute2_writes() -> None:
    message = done_message()
    message["cmd"], message["version"] = 3, 1
    message["attrs"] = [
        ("STATUS", 0),
        ("SOCKFD", 7),
        ("REMOTE_AUTH", 5),
        ("REMOTE_AUTH", 6),
        ("SELECTED_ALPN", b"h3"),
        ("SELECTED_SERVER_NAME", "server.example"),
        ("MATCHED_ENTRY", "web"),
        ("TAG", "a"),
        ("TAG", "b"),
        ("PEER_CERTIFICATE", b"leaf"),
        ("PEER_CERTIFICATE", b"ca"),
        ("ALERT", 42),
        ("REASON", "größer"),
    ]
    message.encode()
    (decoded,) = decode_messages(bytes(message.data))
    command, version, attributes = decoded.generic()
    assert (command, version) == (3, 1)
    assert decode_done(attributes) == DONE
