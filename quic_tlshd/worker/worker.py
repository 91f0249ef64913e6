"""One upcall, top to bottom. Read this first.

    monitor --Perform + socket--> Worker.perform
                                    settings    ask the transport what it wants
                                    parameters  what the registry has for this request
                                    drive       engine <-> endpoint, until both Finished are right
    monitor <------Outcome--------  always exactly one, whatever happens

A worker reads what network peers send and therefore holds nothing worth stealing: no private key (`Sign` asks the
monitor), no privileges. It does many handshakes at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from errno import EBADF, EPROTONOSUPPORT
from functools import partial

import msgspec

from quic_tlshd import __version__, channel
from quic_tlshd.channel import Channel, ChannelError, ToWorker
from quic_tlshd.endpoint.interface import Endpoint, EndpointError, Settings
from quic_tlshd.endpoint.quic_kernel import QuicKernelEndpoint
from quic_tlshd.endpoint.tcp_ktls import TcpEndpoint
from quic_tlshd.endpoint.userspace import UserspaceEndpoint
from quic_tlshd.policy.registry import Registry
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role
from quic_tlshd.status import alert_of, outcome_of
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Answer, Complete, FindPsk, NewSession, Question, SealTickets, Selected
from quic_tlshd.tls.keylog import with_key_log
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.uapi.quic import IPPROTO_QUIC
from quic_tlshd.uapi.sockopt import LongOptionsSocket
from quic_tlshd.worker.policy import Policy, Seen
from quic_tlshd.worker.questions import answer_of, answer_with, message_of

log = logging.getLogger(__name__)

CANCELLED = HandshakeOutcome(reason="the request was cancelled")
_FAIL_TIMEOUT = 0.1  # seconds for telling a transport that its handshake failed: DONE must not wait for a full buffer
_MARGIN = 0.25  # seconds of a request's time that waiting for a ticket leaves
_MOST_LATER = 256  # clients that may wait for tickets after their handshakes


class Worker:
    """The worker process's state: the policy of now, and by request id what runs and which answers are awaited.

    key_log: a file that the secrets of all handshakes are written to, or -1.
    """

    def __init__(self, sock: socket.socket, key_log: int = -1) -> None:
        self._key_log = key_log
        self.ended = asyncio.get_running_loop().create_future()
        self._policy = Policy(Registry())
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._later: set[asyncio.Task[None] | None] = set()
        self._channel: Channel[ToWorker] = Channel(sock, ToWorker, self._on_message, self._on_end, fds=True)
        self._channel.send(channel.Ready(__version__))

    def _on_message(self, message: ToWorker, fd: int) -> None:
        match message:
            case channel.Ping():
                self._channel.send(channel.Pong())
            case channel.Perform(request):
                # The policy of now: a reload while it runs changes nothing for it.
                task = asyncio.create_task(self.perform(request, fd, self._policy))
                task.add_done_callback(partial(self._on_task_end, request.id, fd))
                self._tasks[request.id] = task
            case channel.Cancel(id):
                if id in self._tasks:
                    self._tasks[id].cancel()
            case channel.UseRegistry():
                self._use(fd)
            case _:
                future = self._answers.pop(message.id, None)
                if future is not None and not future.done():
                    try:
                        future.set_result(answer_of(message))
                    except PeerError as error:
                        future.set_exception(error)

    def _on_task_end(self, id: int, fd: int, task: asyncio.Task[None]) -> None:  # noqa: A002
        """One that was cancelled before it began has reported nothing."""
        if self._tasks.pop(id, None) is not None:
            os.close(fd)
            self._channel.send(channel.Outcome(id, CANCELLED))
        elif not task.cancelled() and (error := task.exception()) is not None:
            log.error("a handshake ended with %r", error)

    def _use(self, fd: int) -> None:
        try:
            self._policy = Policy(channel.unpack_registry(fd), self._policy)
        except Exception as error:  # better none than one with the wrong policy
            log.exception("the registry can't be used")
            self._on_end(ChannelError(repr(error)))

    def _log_keys(self, line: str) -> None:
        """One write for each line, so that those of several workers don't mix."""
        try:
            os.write(self._key_log, line.encode())
        except OSError as error:
            log.warning("the key log can't be written: %s", error.strerror)

    def _on_end(self, error: ChannelError | None) -> None:
        """The monitor is gone, and we go too."""
        if error is not None:
            log.error("the monitor broke the protocol: %s", error)
        if not self.ended.done():
            self.ended.set_result(None)

    async def perform(self, request: HandshakeRequest, fd: int, policy: Policy) -> None:
        """Do one handshake on the socket `fd` and report its outcome."""
        began = time.monotonic()
        outcome = CANCELLED
        seen = Seen()
        endpoint: Endpoint | None = None
        later = 0.0  # seconds that a client goes on after its outcome, for a session to resume
        try:
            async with asyncio.timeout_at(request.deadline):
                endpoint = open_endpoint(fd)
                settings = await endpoint.settings()
                seen.peer = settings.peer_address
                if request.role is Role.SERVER:
                    handshake = server_handshake(policy.server_parameters(request, settings, seen))
                else:
                    handshake = client_handshake(policy.client_parameters(request, settings, seen))
                engine = Engine(handshake if self._key_log < 0 else with_key_log(handshake, self._log_keys))
                complete = await self._drive(request, engine, endpoint, settings, seen)
            policy.remember_group(request, complete.entry, complete.group)
            if not settings.session_first:
                later = settings.session_wait
            elif settings.session_wait:
                left = request.deadline - time.monotonic() - _MARGIN
                await keep_session(engine, endpoint, min(settings.session_wait, left))
            outcome = success(complete)
        except Exception as error:
            outcome = outcome_of(error)
            log.debug("handshake %d failed", request.id, exc_info=error)
            await fail(endpoint, error)
        finally:
            self._answers.pop(request.id, None)
            self._tasks.pop(request.id, None)
            if endpoint is not None and not later:
                endpoint.close()
            outcome = msgspec.structs.replace(outcome, **vars(seen), elapsed=time.monotonic() - began)
            self._channel.send(channel.Outcome(request.id, outcome))
        if endpoint is not None and later:
            await self._go_on(engine, endpoint, later)

    async def _go_on(self, engine: Engine, endpoint: Endpoint, seconds: float) -> None:
        """A client's connection is in use by now, and a ticket may come on it."""
        try:
            if len(self._later) < _MOST_LATER:
                self._later.add(asyncio.current_task())
                await keep_session(engine, endpoint, seconds)
        except PeerError as error:
            await fail(endpoint, error)
        finally:
            self._later.discard(asyncio.current_task())
            endpoint.close()

    async def _drive(
        self, request: HandshakeRequest, engine: Engine, endpoint: Endpoint, settings: Settings, seen: Seen
    ) -> Complete:
        """Carry events from the engine to the transport, and bytes from the transport to the engine."""
        events = engine.start()
        while True:
            for event in events:
                if isinstance(event, Complete):
                    await endpoint.finish()
                    return event
                if isinstance(event, Question):
                    events = engine.answer(await self._ask(request, event, settings.ticket_key))
                    break
                if isinstance(event, Selected):
                    seen.alpn, seen.server_name, seen.entry = event.alpn, event.server_name, event.entry
                await endpoint.apply(event)
            else:
                level, data = await endpoint.receive()
                events = engine.receive(level, data)

    async def _ask(self, request: HandshakeRequest, question: Question, ticket_key: bytes) -> Answer:
        """Ask the monitor, which has the keys, but for a transport's own ticket key."""
        if ticket_key and request.auth_mode is AuthMode.X509 and isinstance(question, FindPsk | SealTickets):
            return answer_with(ticket_key, question)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[request.id] = future
        self._channel.send(message_of(request.id, question))
        return await future


async def keep_session(engine: Engine, endpoint: Endpoint, seconds: float) -> None:
    """Wait for the server's first tickets, that long at most, and give the transport what it shall keep of them.
    PeerError if what comes is wrong."""
    with suppress(TimeoutError, EndpointError, PeerAlertError):
        async with asyncio.timeout(seconds):
            is_kept = False
            while not is_kept:
                for event in engine.receive(*await endpoint.receive()):
                    assert isinstance(event, NewSession)  # there is nothing else after Complete
                    await endpoint.apply(event)
                    is_kept = True


async def fail(endpoint: Endpoint | None, error: Exception) -> None:
    """Tell the peer, if the error stands for an alert and there is anybody to tell it."""
    if endpoint is not None and (alert := alert_of(error)) is not None:
        with suppress(EndpointError, PeerAlertError, TimeoutError):
            await asyncio.wait_for(endpoint.fail(alert, alert.label), _FAIL_TIMEOUT)


def open_endpoint(fd: int) -> Endpoint:
    """The endpoint for whatever kind of socket `fd` is; it owns the fd then."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        with suppress(OSError):
            os.close(fd)
        raise EndpointError(error.errno or EBADF, "what came with the request is no socket") from None
    if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_SEQPACKET:
        return UserspaceEndpoint(sock)
    if sock.proto == IPPROTO_QUIC:
        return QuicKernelEndpoint(LongOptionsSocket(fileno=sock.detach()))
    if sock.proto == socket.IPPROTO_TCP:
        return TcpEndpoint(sock)
    reason = f"a socket of family {int(sock.family)}, type {int(sock.type)}, protocol {sock.proto} is no transport"
    sock.close()
    raise EndpointError(EPROTONOSUPPORT, reason)


def success(complete: Complete) -> HandshakeOutcome:
    return HandshakeOutcome(
        status=0,
        cipher_suite=complete.cipher_suite.name,
        group=None if complete.group is None else complete.group.name,
        signature_scheme=None if complete.signature_scheme is None else complete.signature_scheme.name,
        peer_chain=complete.peer_chain,
        psk_identity=complete.psk_identity,
        resumed=complete.resumed,
        early_data=complete.early_data,
    )
