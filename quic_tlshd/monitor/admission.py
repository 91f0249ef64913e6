"""From an ACCEPT to what a worker is asked to do, and to which keys it may use for that."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from netlink.handshake import Accept, MessageType
from quic_tlshd.monitor.keyring import Keyrings
from quic_tlshd.monitor.sessions import Sessions
from quic_tlshd.monitor.signer import Grant
from quic_tlshd.policy.config import Config
from quic_tlshd.policy.entries import Loaded
from quic_tlshd.policy.resolve import candidates, canonical_name
from quic_tlshd.request import AuthMode, HandshakeRequest, Role
from quic_tlshd.status import kernel_errno
from quic_tlshd.tls.parameters import Psk

MAXIMUM_TIMEOUT = 60.0
"""Seconds, whatever the request says, which could be 49 days. The kernel's consumers give up after 5 to 20 seconds, and
a caller in user space must not hold a worker's handshake, and ours, for longer than any handshake takes."""

_ROLES = {MessageType.CLIENTHELLO: Role.CLIENT, MessageType.SERVERHELLO: Role.SERVER}


class RequestError(Exception):
    """A request that can't be begun; `errno` is what DONE says."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from: who asks, and the IP address and port that the socket is connected to, if it is.

    netns: the name of the network namespace, None for the daemon's own.
    keyrings: for the kernel's requests only; a serial that another process names is not its own to use.
    """

    caller: str
    address: tuple[str, int] | None = None
    netns: str | None = None
    keyrings: Keyrings | None = None

    @property
    def peer(self) -> str:
        """Whom the log names: the address, never its reverse DNS, or else who asks."""
        return self.caller if self.address is None else f"{self.address[0]} port {self.address[1]}"


def peer_address(fd: int) -> tuple[str, int] | None:
    """The IP address and port that a socket is connected to, None for any other file."""
    # Neither fstat nor dup and close: on a file they could wait for whoever serves its file system.
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port = sock.getpeername()[:2]
            mapped = IPv6Address(host).ipv4_mapped if sock.family == socket.AF_INET6 else None
            return str(mapped or host), port
    except OSError:
        pass  # not connected
    finally:
        sock.detach()
    return None


@dataclass(frozen=True, slots=True)
class Admission:
    """serials: of the PSKs that were found for the request, by identity; the kernel's consumer hears which was used."""

    request: HandshakeRequest
    grant: Grant
    serials: dict[bytes, int] = field(default_factory=dict)


def admit(
    id: int,  # noqa: A002 - the request's field
    accept: Accept,
    origin: Origin,
    config: Config,
    loaded: Loaded,
    sessions: Sessions,
) -> Admission:
    """RequestError if it can't be."""
    keyrings = origin.keyrings
    try:
        role = _ROLES[MessageType(accept.message_type)]
        mode = AuthMode(accept.auth_mode)
    except (ValueError, KeyError):
        reason = f"unknown message type {accept.message_type} or authentication mode {accept.auth_mode}"
        raise RequestError(errno.EINVAL, reason) from None
    if mode is AuthMode.UNSPEC or (mode is AuthMode.UNAUTH and role is Role.SERVER):
        raise RequestError(errno.EINVAL, f"authentication mode {mode.name.lower()} is not for a {role.value}")
    if keyrings is None and (mode is AuthMode.PSK or accept.certificates):
        raise RequestError(errno.EOPNOTSUPP, "keys of a kernel keyring are for the kernel's requests only")
    default = config.worker.timeout_server if role is Role.SERVER else config.worker.timeout_client
    timeout = min(accept.timeout / 1000, MAXIMUM_TIMEOUT) if accept.timeout else default
    request = HandshakeRequest(
        id=id,
        role=role,
        auth_mode=mode,
        deadline=time.monotonic() + timeout,
        peer=origin.peer,
        netns=origin.netns,
        peername=_peername(role, mode, accept.peername, origin),
        alpn=accept.alpn,
    )
    if mode is AuthMode.PSK:
        assert keyrings is not None
        return _admit_psk(request, accept, keyrings)
    return _admit_x509(request, accept, loaded, keyrings, sessions)


def _peername(role: Role, mode: AuthMode, peername: str | None, origin: Origin) -> str | None:
    """Whom a client will verify, in the one spelling that entries are compared by: the name that the request gives or
    else the address that it is connected to, never that one's reverse DNS. A server verifies no name, nor do PSKs."""
    if role is Role.SERVER:
        return None
    if peername is None and mode is not AuthMode.PSK and origin.address is not None:
        peername = origin.address[0]
    if peername is None:
        return None
    try:
        return canonical_name(peername)
    except ValueError as error:
        raise RequestError(errno.EINVAL, str(error)) from None


def _admit_x509(
    request: HandshakeRequest, accept: Accept, loaded: Loaded, keyrings: Keyrings | None, sessions: Sessions
) -> Admission:
    """What may be signed: with the certificates that the kernel gave, else those of the entries that fit the request,
    and nothing if it shall show none. A server may resume sessions of these entries."""
    # The kernel names no ALPN: if there is one, it is an option of the socket, which the worker reads.
    alpn = None if keyrings is not None and not request.alpn else request.alpn
    entries = candidates(loaded.registry, request.role, alpn, request.peername)
    request = replace(request, entries=tuple([entry.name for entry in entries]))
    if request.auth_mode is not AuthMode.X509:
        return Admission(request, Grant(request.role, {}))
    if accept.certificates:
        assert keyrings is not None
        given = [
            _from_keyring(
                f"certificate {pair.cert:#x}, key {pair.privkey:#x}", keyrings.credential, pair.cert, pair.privkey
            )
            for pair in accept.certificates
        ]
        request = replace(request, certificates=tuple([credential.chain for credential in given]))
    else:
        given = [loaded.credentials[chain.id] for entry in entries for chain in entry.certificates]
    granted = sessions.of(request.entries) if request.role is Role.SERVER else None
    credentials = {credential.chain.id: credential for credential in given}
    return Admission(request, Grant(request.role, credentials, sessions=granted))


def _admit_psk(request: HandshakeRequest, accept: Accept, keyrings: Keyrings) -> Admission:
    """A client offers the keys that the kernel names; a server finds its key by the identity that the client offers."""
    serials: dict[bytes, int] = {}
    if request.role is Role.SERVER:

        def find(identity: bytes) -> Psk | None:
            found = keyrings.find(identity, accept.keyring)
            if found is None:
                return None
            serials[identity] = found.serial
            return found.psk

        return Admission(request, Grant(request.role, {}, find), serials)
    psks = []
    for serial in accept.peer_identities:
        found = _from_keyring(f"key {serial:#x}", keyrings.psk, serial)
        serials[found.psk.identity] = found.serial
        psks.append(found.psk)
    if not psks:
        raise RequestError(errno.ENOKEY, "the request names no pre-shared key")
    return Admission(replace(request, psks=tuple(psks)), Grant(request.role, {}), serials)


P = ParamSpec("P")
T = TypeVar("T")


def _from_keyring(what: str, load: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What `load` gives; its OSError refuses the request and names the key."""
    try:
        return load(*arguments, **options)
    except OSError as error:
        raise RequestError(kernel_errno(error.errno or errno.ENOKEY), f"{what}: {error.strerror}") from None
