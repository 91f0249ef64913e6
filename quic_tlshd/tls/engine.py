"""Drives a handshake: a generator that is suspended where it needs the peer's next message, or an answer
from outside: a signature, a key. After `Complete` it goes on with what a server may send later, tickets.

The rules of this file:

- bytes come in by encryption level, in any portions; whole messages go to the generator, in order;
- bytes of another level than the one being received are unexpected_message;
- receive keys never change while bytes of the old level are buffered (RFC 8446 section 5.1, RFC 9001 section 4.1.3);
- every method gives an iterator of events: apply each before asking for the next, for an error that comes later is to
  be reported with the keys that came before; a `Question` and `Complete` can only be the last;
- PeerError is the one exception that the peer's bytes can raise, and nothing may be asked of the engine after it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, get_args

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.events import Answer, Complete, Event, InstallSecret, Output, Question, ReceiveMessage
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.reassembly import MAX_MESSAGE, Reassembly, message_name

Handshake = Generator[Event, Any, None]
"""Yields events and never returns; ReceiveMessage is answered with a whole message (bytes), a Question with its Answer,
the rest with None."""

_QUESTIONS = get_args(Question)
_STOPS = (*_QUESTIONS, Complete)


def receive(*expected: HandshakeType) -> Generator[Event, Any, bytes]:
    """The peer's next message, if its type is one of these: ``message = yield from receive(FINISHED)``."""
    message: bytes = yield ReceiveMessage()
    if message[0] not in expected:
        wanted = " or ".join([kind.name.lower() for kind in expected]) or "nothing"
        raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, f"{message_name(message[0])} came where {wanted} is due")
    return message


class Engine:
    """One handshake, client or server; see `client_handshake` and `server_handshake`."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._receiving = Level.INITIAL
        self._buffer = Reassembly()
        self._waiting: Event | None = None  # ReceiveMessage, a Question, or Complete

    def start(self) -> Iterator[Output]:
        """To be called once, first."""
        return self._run(next(self._handshake))

    def receive(self, level: Level, data: bytes) -> Iterator[Output]:
        """Bytes of the peer's handshake messages at `level`."""
        if level != self._receiving:
            raise PeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                f"handshake data at the {level.name} level came where the {self._receiving.name} level is due",
            )
        self._buffer.add(data)
        if isinstance(self._waiting, ReceiveMessage):
            message = self._buffer.next()
            if message is not None:
                yield from self._run(self._handshake.send(message))
        elif isinstance(self._waiting, Complete):
            yield from self._run(self._handshake.send(None))
        elif len(self._buffer) > MAX_MESSAGE:
            raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "too much handshake data came before it was due")

    def answer(self, answer: Answer) -> Iterator[Output]:
        """What a `Question` asked for; ValueError if nothing was."""
        if not isinstance(self._waiting, _QUESTIONS):
            raise ValueError("no answer is wanted")
        return self._run(self._handshake.send(answer))

    def _run(self, event: Event) -> Iterator[Output]:
        """Give events, from this one on, until the handshake needs something from outside."""
        while True:
            if isinstance(event, ReceiveMessage):
                self._waiting = event
                message = self._buffer.next()
                if message is None:
                    return
                event = self._handshake.send(message)
                continue
            if isinstance(event, InstallSecret) and event.direction is Direction.RECEIVE:
                self._receive_at(event.level)
            self._waiting = event
            yield event
            if isinstance(event, _STOPS):
                return
            event = self._handshake.send(None)

    def _receive_at(self, level: Level) -> None:
        if self._buffer:
            raise PeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                f"{len(self._buffer)} bytes of the {self._receiving.name} level are left over at the change of keys",
            )
        self._receiving = level
