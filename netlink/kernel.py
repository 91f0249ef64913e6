"""The kernel's side: an asyncio socket of the `handshake` family that accepts requests and reports DONE.

    READY (multicast) ─▶ ACCEPT until EAGAIN ─▶ on_accept(Accept) … done(Done) ─▶ DONE

The kernel keeps requests apart by network namespace: who serves several has a KernelHandshakeSocket for each.

Two netlink sockets: one in the group `tlshd` whose messages only mean "look", and one for requests. The kernel answers
a request before send() returns, so ACCEPT and DONE need no waiting and no task. A READY may be lost (ENOBUFS) and
requests may be older than we are, therefore every wake-up, and the start, accepts all there is. It does so at once,
before any work: the kernel keeps only a few unaccepted requests (hn_pending_max) and turns the rest away.

Sources: include/uapi/linux/handshake.h, net/handshake/netlink.c of the kernel. One event loop; only a refused socket
is closed by a thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable

from netlink.command import ANSWER_OPTIONS, RECEIVE_SIZE, CommandSocket, NetlinkSocket
from netlink.descriptors import close_elsewhere
from netlink.family import Family, Policy, dump_policy, resolve_family
from netlink.handshake import (
    FAMILY,
    GROUP,
    VERSION,
    Accept,
    Command,
    Done,
    decode_accept,
    encode_accept_request,
    encode_kernel_done,
    salvage_sockfd,
)
from netlink.limited_log import LimitedLog
from netlink.message import NLM_F_ACK, NLM_F_REQUEST, MalformedMessage
from netlink.namespace import made_in

log = logging.getLogger(__name__)
refused = LimitedLog(log)

SOL_NETLINK = 270
NETLINK_GENERIC = 16
NETLINK_ADD_MEMBERSHIP = 1

TURN = 64  # requests accepted before the rest of the event loop has its turn
RETRY = 1.0  # seconds until ACCEPT is tried again after an error that is not ours to mend (EMFILE, ENOMEM)
# ACCEPT's answers when the KEYRING of a request can't be linked. The kernel has ended that request by itself then.
KEYRING_ERRORS = {errno.EACCES, errno.EDEADLK, errno.EDQUOT, errno.ENOKEY, errno.ENOTDIR}
KEYRING_ERRORS |= {errno.EKEYEXPIRED, errno.EKEYREJECTED, errno.EKEYREVOKED}


def _netlink_sockets() -> tuple[socket.socket, socket.socket]:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    ready = socket.socket(socket.AF_NETLINK, kind, NETLINK_GENERIC)
    try:
        return ready, socket.socket(socket.AF_NETLINK, kind, NETLINK_GENERIC)
    except OSError:
        ready.close()
        raise


class KernelHandshakeSocket:
    """Accepts the requests of one network namespace and gives each to `on_accept`, which owns the sockfd in it.

    `on_accept` is called from the event loop and must not block. If it raises, it has not taken the sockfd: the request
    is ended with EIO and the descriptor closed. An Accept with a `keyring` has linked that keyring into the process
    keyring; whoever accepts should unlink it when the handshake is over.
    """

    def __init__(self, on_accept: Callable[[Accept], None]) -> None:
        self._on_accept = on_accept
        self._ready: NetlinkSocket | None = None
        self._requests = CommandSocket()
        self._later: asyncio.Handle | None = None
        self._fetched: deque[bytes] = deque()  # answers to ACCEPT that are not handed over yet
        self._accepted = 0  # requests that wait for DONE
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Serve the network namespace that we are in. FileNotFoundError without the family (CONFIG_NET_HANDSHAKE)."""
        self.join(await resolve_family(FAMILY))

    def join(self, family: Family, namespace: int | None = None) -> None:
        """Serve the network namespace of a descriptor, None for ours: accept what already waits, then what comes.

        PermissionError without CAP_NET_ADMIN, and for another namespace without CAP_SYS_ADMIN.
        """
        if GROUP not in family.groups:
            raise FileNotFoundError(errno.ENOENT, f"the family {FAMILY!r} has no multicast group {GROUP!r}")
        ready, requests = _netlink_sockets() if namespace is None else made_in(namespace, _netlink_sockets)
        try:
            for sock in (ready, requests):
                sock.bind((0, 0))
            ready.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, family.groups[GROUP])
            for option in ANSWER_OPTIONS:
                requests.setsockopt(SOL_NETLINK, option, 1)
            self.attach(family.id, ready, requests)
        except OSError:
            ready.close()
            requests.close()
            raise

    def attach(self, family: int, ready: NetlinkSocket, requests: NetlinkSocket) -> None:
        """Take over two sockets that are set up, and accept what already waits. `family` is the family's number."""
        self._ready, self._requests = ready, CommandSocket(requests, family, VERSION)
        try:
            self._accept_waiting()
        except OSError as error:
            if error.errno == errno.EPERM:
                self._ready, self._requests = None, CommandSocket()
                raise PermissionError(error.errno, "ACCEPT from the kernel needs CAP_NET_ADMIN") from error
            self._retry(error)
        self._loop.add_reader(ready.fileno(), self._wake)

    def leave(self) -> None:
        """Accept no more, and close as soon as there was DONE for all that was accepted."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._ready is not None:
            self._loop.remove_reader(self._ready.fileno())
            self._ready.close()
            self._ready = None
        while self._fetched:
            self._hand_over(self._fetched.popleft())
        if self._accepted <= 0:
            self._requests.close()

    def close(self) -> None:
        """Leave the group. Requests that were accepted can't be ended any more: end them first."""
        self.leave()
        self._requests.close()

    async def policy(self) -> Policy:
        """Which attributes this kernel takes: command → attribute → PolicyType, as CTRL_CMD_GETPOLICY dumps it."""
        return await dump_policy(FAMILY)

    def done(self, done: Done) -> bool:
        """Report how a handshake ended, while sockfd is still open here: the kernel finds the request by it.

        Whether the kernel took it; an error is logged, not raised. DONE for a request whose consumer gave up is taken.
        What can't be encoded goes out as EIO: a request without DONE would have its consumer wait.
        """
        try:
            try:
                attributes = encode_kernel_done(done)
            except MalformedMessage as error:
                log.error("DONE for sockfd %d can't be sent as it is, EIO goes out: %s", done.sockfd, error)
                attributes = encode_kernel_done(Done(status=errno.EIO, sockfd=done.sockfd))
            self._requests.send(Command.DONE, attributes, NLM_F_REQUEST | NLM_F_ACK)
        except (OSError, MalformedMessage) as error:
            log.error("DONE for sockfd %d, status %s: %s", done.sockfd, done.status, error)
            return False
        finally:
            self._accepted -= 1
            if self._ready is None and self._accepted <= 0:
                self._requests.close()
        return True

    def _wake(self) -> None:
        """READY only means "look". To read them takes longer than to look, so that comes first; a request that has come
        in between may have had its READY among those read."""
        self._drain()
        try:
            while self._ready is not None:
                self._ready.recv(RECEIVE_SIZE)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                log.error("READY: %s", error)
        if self._later is None:
            self._drain()

    def _drain(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        try:
            self._accept_waiting()
        except OSError as error:
            self._retry(error)

    def _retry(self, error: OSError) -> None:
        log.error("ACCEPT: %s; trying again in %g s", error, RETRY)
        self._later = self._loop.call_later(RETRY, self._drain)

    def _accept_waiting(self) -> None:
        """Accept all there is, hand over one, and again: what that one sets off takes longer than to accept what has
        come meanwhile. An OSError is an answer that more ACCEPTs would not change."""
        for _ in range(TURN):
            try:
                self._fetch()
            except OSError:
                while self._fetched:
                    self._hand_over(self._fetched.popleft())
                raise
            if not self._fetched:
                return
            self._hand_over(self._fetched.popleft())
        self._later = self._loop.call_soon(self._drain)

    def _fetch(self) -> None:
        """ACCEPT until the kernel has no more."""
        failure = None
        for _ in range(TURN):
            if self._ready is None:  # left by on_accept
                return
            try:
                self._fetched.append(self._requests.send(Command.ACCEPT, encode_accept_request(), NLM_F_REQUEST))
                self._accepted += 1
                failure = None
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in KEYRING_ERRORS:
                    raise
                failure = error
                refused.error("the kernel ended a request whose KEYRING can't be linked: %s", error.strerror)
        if failure is not None:
            raise failure

    def _hand_over(self, attributes: bytes) -> None:
        try:
            accept = decode_accept(attributes)
            if accept.sockfd < 0:
                raise MalformedMessage("SOCKFD: absent")
        except MalformedMessage as error:
            log.error("ACCEPT: %s", error)
            sockfd = salvage_sockfd(attributes)
            if sockfd is not None and sockfd >= 0:
                self._refuse(sockfd, errno.EINVAL)
            else:
                self._accepted -= 1
            return
        try:
            self._on_accept(accept)
        except Exception:
            log.exception("the request of sockfd %d was not taken", accept.sockfd)
            self._refuse(accept.sockfd, errno.EIO)

    def _refuse(self, sockfd: int, status: int) -> None:
        self.done(Done(status=status, sockfd=sockfd))
        close_elsewhere(sockfd)
