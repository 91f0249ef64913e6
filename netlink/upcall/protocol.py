"""The packets of the user-space upcall. What they mean is in netlink/upcall/__init__.py."""

from __future__ import annotations

from dataclasses import replace

from netlink.handshake import VERSION, Accept, Command, Done, decode_accept, decode_done, encode_accept, encode_done
from netlink.message import NLM_F_REQUEST, MalformedMessage, decode_messages, encode_message

DEFAULT_PATH = "/run/quic-tlshd/handshake.sock"

# "HS". Family numbers end at 1023 (GENL_MAX_ID), so that no packet of ours is ever a valid message to the kernel.
MESSAGE_TYPE = 0x4853

MAX_REQUEST = 1 << 16
MAX_ANSWER = 1 << 20  # a chain of 255 certificates would not fit, nor would it fit into a socket buffer


def encode_request(accept: Accept, sequence: int) -> bytes:
    """The packet that asks for a handshake."""
    attributes = encode_accept(replace(accept, sockfd=-1))
    return encode_message(MESSAGE_TYPE, NLM_F_REQUEST, sequence, Command.ACCEPT, VERSION, attributes)


def decode_request(packet: bytes) -> tuple[int, Accept]:
    """(nlmsg_seq, request). A SOCKFD in it is the caller's number and dropped."""
    sequence, attributes = _decode(packet, Command.ACCEPT)
    return sequence, replace(decode_accept(attributes), sockfd=-1)


def encode_answer(done: Done, sequence: int) -> bytes:
    """The packet that answers the request `sequence`."""
    attributes = encode_done(replace(done, sockfd=-1))
    return encode_message(MESSAGE_TYPE, 0, sequence, Command.DONE, VERSION, attributes)


def decode_answer(packet: bytes) -> tuple[int, Done]:
    """(nlmsg_seq, how it ended)."""
    sequence, attributes = _decode(packet, Command.DONE)
    return sequence, replace(decode_done(attributes), sockfd=-1)


def _decode(packet: bytes, command: Command) -> tuple[int, bytes]:
    messages = list(decode_messages(packet))
    if len(messages) != 1:
        raise MalformedMessage(f"{len(messages)} messages in one packet")
    message = messages[0]
    if message.type != MESSAGE_TYPE:
        raise MalformedMessage(f"nlmsg_type is {message.type:#x}, must be {MESSAGE_TYPE:#x}")
    number, version, attributes = message.generic()
    if (number, version) != (command, VERSION):
        raise MalformedMessage(f"command {number} version {version}, must be {command.name} version {VERSION}")
    return message.sequence, attributes
