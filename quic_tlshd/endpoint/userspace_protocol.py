"""A QUIC stack in another process, over a SOCK_SEQPACKET socket that carries what a kernel QUIC socket would.

Every packet is one message: ``u8 type, u8 level, u16 argument`` in network byte order, then the body.

========================= ======= ========= ================== ====================================================
message                   from    level     argument           body
========================= ======= ========= ================== ====================================================
SETTINGS                  QUIC    0         0                  settings, see below; must come first
CRYPTO                    both    of data   0                  handshake bytes, not empty (a part of a message will do)
SEND_SECRET               daemon  of secret IANA cipher suite  the traffic secret that protects what the stack sends
RECEIVE_SECRET            daemon  of secret IANA cipher suite  the same for what it receives
PEER_TRANSPORT_PARAMETERS daemon  0         0                  the peer's transport parameters (RFC 9001 section 8.2)
SELECTED_ALPN             daemon  0         0                  the negotiated protocol's name
ALERT                     both    0         TLS alert          from the daemon: fail the connection with CRYPTO_ERROR
                                                               0x100 + alert, the body is the reason phrase (UTF-8);
                                                               from QUIC: the peer closed with that alert
SESSION                   daemon  0         0                  client: what to give as SESSION the next time
EARLY_DATA                daemon  0         EarlyData          OFFERED: the transport parameters of the server's that
                                                               hold for it (RFC 9000 section 7.4.1)
========================= ======= ========= ================== ====================================================

Levels are the kernel's: APP 0, INITIAL 1, HANDSHAKE 2, EARLY 3. The settings are netlink attributes (``Setting``).
The connection is established when both APP secrets have come. The stack ends a handshake by closing the socket, and
the daemon closes its end when it has reported DONE.

A server's session tickets are CRYPTO at level APP. A client that wants sessions says how long it waits for tickets
(SESSION_WAIT) and hands them over as CRYPTO at level APP; the daemon then closes its end later than DONE, when it has
answered with SESSION or the time is over. A session holds secrets: keep it like a private key, and use it once.

A stack that says EARLY_DATA gets a secret of level EARLY: on a client behind OFFERED, which ACCEPTED or REFUSED
follows, on a server behind ACCEPTED. Who saw early data can send it again (RFC 8446 section 8): to one daemon in vain,
but other hosts that have the same ticket keys don't know of it.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from netlink.handshake import MalformedMessage, decode_attributes, encode_attributes
from quic_tlshd.endpoint.interface import Settings, TransportEvent
from quic_tlshd.tls.events import (
    EarlyDataAccepted,
    EarlyDataOffered,
    EarlyDataRefused,
    InstallSecret,
    NewSession,
    PeerTransportParameters,
    Selected,
    SendMessage,
)
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level
from quic_tlshd.tls.ticket import MAX_SESSION_DATA

MAX_PACKET = 64 * 1024  # longer packets are refused; a flight is cut into CRYPTO messages of at most CRYPTO_CHUNK
CRYPTO_CHUNK = 16 * 1024
MAX_TRANSPORT_PARAMETERS = 16 * 1024  # leaves room for the other extensions, which share a length of 16 bits
MAX_CIPHER_SUITES = 64
MAX_SESSION_WAIT = 60
_PEER_ADDRESS = re.compile(r"([\w.:%-]{1,48}) port ([0-9]{1,5})", re.ASCII)
_HEADER = struct.Struct("!BBH")
_LEVELS = frozenset(Level)


class MessageType(IntEnum):
    """What a packet is."""

    SETTINGS = 1
    CRYPTO = 2
    SEND_SECRET = 3
    RECEIVE_SECRET = 4
    PEER_TRANSPORT_PARAMETERS = 5
    SELECTED_ALPN = 6
    ALERT = 7
    SESSION = 8
    EARLY_DATA = 9


class EarlyData(IntEnum):
    """The argument of EARLY_DATA."""

    REFUSED = 0
    ACCEPTED = 1
    OFFERED = 2


class Setting(IntEnum):
    """Attributes of SETTINGS; the integers in them are u32 in host byte order, as netlink has them."""

    TRANSPORT_PARAMETERS = 1  # binary, required: the body of our quic_transport_parameters extension, at most 16 KiB
    CERTIFICATE_REQUEST = (
        2  # u32, as struct quic_config has it: server 0 none, 1 request, 2 require; client 3 show none
    )
    CIPHER_SUITE = 3  # u32, repeats up to 64 times: IANA numbers of the suites that the stack has; absent for all
    PEER_ADDRESS = 4  # text: whom the log shall name, e.g. "192.0.2.1 port 4711"; anything else is ignored
    SESSION = 5  # binary: the body of a SESSION of before, at most 4096 bytes; what can't be used is ignored
    SESSION_WAIT = 6  # u32: for how many seconds a client waits for session tickets after its handshake, at most 60
    EARLY_DATA = 7  # u32: 1 if the stack can send (client) or receive (server) early data


_SETTINGS = frozenset(Setting)


@dataclass(frozen=True, slots=True)
class Message:
    """One packet, either way. Its repr leaves the body out, which may be a secret."""

    type: int
    level: Level = Level.APP
    argument: int = 0
    body: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return _HEADER.pack(self.type, self.level, self.argument) + self.body

    @classmethod
    def decode(cls, packet: bytes) -> Message:
        """ValueError if the packet is shorter than the header, the level is none or the alert is none."""
        if len(packet) < _HEADER.size:
            raise ValueError(f"a packet of {len(packet)} bytes has no header")
        kind, level, argument = _HEADER.unpack_from(packet)
        if level not in _LEVELS:
            raise ValueError(f"there is no encryption level {level}")
        if kind == MessageType.ALERT and argument > 0xFF:
            raise ValueError(f"there is no alert {argument}")
        return cls(kind, Level(level), argument, packet[_HEADER.size :])


def encode_settings(
    transport_parameters: bytes,
    certificate_request: int = 0,
    cipher_suites: tuple[int, ...] = (),
    peer_address: str = "",
    session: bytes = b"",
    session_wait: int = 0,
    early_data: bool = False,
) -> bytes:
    """The body of SETTINGS, as a QUIC stack sends it."""
    attributes = [
        (int(Setting.TRANSPORT_PARAMETERS), transport_parameters),
        (int(Setting.CERTIFICATE_REQUEST), struct.pack("=I", certificate_request)),
    ]
    attributes += [(int(Setting.CIPHER_SUITE), struct.pack("=I", suite)) for suite in cipher_suites]
    if peer_address:
        attributes.append((int(Setting.PEER_ADDRESS), peer_address.encode()))
    if session:
        attributes.append((int(Setting.SESSION), session))
    if session_wait:
        attributes.append((int(Setting.SESSION_WAIT), struct.pack("=I", session_wait)))
    if early_data:
        attributes.append((int(Setting.EARLY_DATA), struct.pack("=I", early_data)))
    return encode_attributes(attributes)


def decode_settings(body: bytes) -> Settings:
    """ValueError (MalformedMessage is one) if the body is none, lacks transport parameters, or has too much."""
    single: dict[int, bytes] = {}
    cipher_suites: list[int] = []
    for kind, value in decode_attributes(body):
        if kind == Setting.CIPHER_SUITE:
            cipher_suites.append(_u32(value))
        elif kind in single and kind in _SETTINGS:
            raise ValueError(f"{Setting(kind).name} came twice")
        else:
            single[kind] = value
    if len(cipher_suites) > MAX_CIPHER_SUITES:
        raise ValueError(f"{len(cipher_suites)} cipher suites")
    transport_parameters = single.get(Setting.TRANSPORT_PARAMETERS)
    if transport_parameters is None:
        raise ValueError("the settings have no transport parameters")
    if len(transport_parameters) > MAX_TRANSPORT_PARAMETERS:
        raise ValueError(f"{len(transport_parameters)} bytes of transport parameters")
    session = single.get(Setting.SESSION, b"")
    if len(session) > MAX_SESSION_DATA:
        raise ValueError(f"{len(session)} bytes of a session")
    certificate_request = _u32(single.get(Setting.CERTIFICATE_REQUEST, bytes(4)))
    wishes = {1: ClientCertificate.REQUEST, 2: ClientCertificate.REQUIRE}
    return Settings(
        transport_parameters=transport_parameters,
        client_certificate=wishes.get(certificate_request),
        present_certificate=certificate_request != 3,
        cipher_suites=tuple(cipher_suites),
        peer_address=_peer_address(single.get(Setting.PEER_ADDRESS, b"")),
        tickets=1,
        session=session,
        session_wait=min(_u32(single.get(Setting.SESSION_WAIT, bytes(4))), MAX_SESSION_WAIT),
        early_data=_u32(single.get(Setting.EARLY_DATA, bytes(4))) == 1,
    )


def _peer_address(value: bytes) -> str:
    """As the log writes it; empty if it is none, for what a local user made up has no place in the log."""
    match = _PEER_ADDRESS.fullmatch(value.decode("ascii", errors="replace"))
    if match is None or int(match[2]) > 0xFFFF:
        return ""
    try:
        return f"{ipaddress.ip_address(match[1])} port {int(match[2])}"
    except ValueError:
        return ""


def _u32(value: bytes) -> int:
    if len(value) != 4:
        raise MalformedMessage("a number in the settings is not four bytes long")
    return int(struct.unpack("=I", value)[0])


def messages_of(event: TransportEvent) -> Iterator[Message]:
    """What tells a QUIC stack of an event."""
    if isinstance(event, SendMessage):
        for start in range(0, len(event.data), CRYPTO_CHUNK):
            yield Message(MessageType.CRYPTO, event.level, body=event.data[start : start + CRYPTO_CHUNK])
    elif isinstance(event, InstallSecret):
        kind = MessageType.SEND_SECRET if event.direction is Direction.SEND else MessageType.RECEIVE_SECRET
        yield Message(kind, event.level, event.cipher_suite, event.secret)
    elif isinstance(event, PeerTransportParameters):
        yield Message(MessageType.PEER_TRANSPORT_PARAMETERS, body=event.data)
    elif isinstance(event, Selected) and event.alpn is not None:
        yield Message(MessageType.SELECTED_ALPN, body=event.alpn)
    elif isinstance(event, EarlyDataOffered):
        yield Message(MessageType.EARLY_DATA, argument=EarlyData.OFFERED, body=event.transport_parameters)
    elif isinstance(event, EarlyDataAccepted):
        yield Message(MessageType.EARLY_DATA, argument=EarlyData.ACCEPTED)
    elif isinstance(event, EarlyDataRefused):
        yield Message(MessageType.EARLY_DATA, argument=EarlyData.REFUSED)
    elif isinstance(event, NewSession):
        yield Message(MessageType.SESSION, body=event.data)
