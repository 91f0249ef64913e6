"""The user-space upcall: ACCEPT and DONE over an AF_UNIX SOCK_SEQPACKET socket, for those who are not the kernel.

Whoever holds a connected socket sends a request together with it and gets the answer when the handshake is over:

    caller ── nlmsghdr, genlmsghdr(ACCEPT), attributes; SCM_RIGHTS: one socket ──▶ daemon
    caller ◀──────────────────── nlmsghdr, genlmsghdr(DONE), attributes ────────── daemon

- One packet is one message. nlmsg_type is MESSAGE_TYPE, the generic version is 1, the request's flag is NLM_F_REQUEST.
- The answer carries the request's nlmsg_seq: several upcalls may be outstanding on one connection, in any order.
- SOCKFD is not sent either way: descriptor numbers mean nothing in another process.
- There is no message to cancel: closing the connection (or its writing side) cancels all that is outstanding on it.
- Every request whose nlmsg_seq can be read is answered by exactly one DONE while the connection lasts.
"""

from netlink.upcall.client import DaemonUnavailable, UpcallConnection, handshake, handshake_sync
from netlink.upcall.protocol import DEFAULT_PATH, MESSAGE_TYPE
from netlink.upcall.server import Limits, Peer, Upcall, UpcallServer

__all__ = [
    "DEFAULT_PATH",
    "MESSAGE_TYPE",
    "DaemonUnavailable",
    "Limits",
    "Peer",
    "Upcall",
    "UpcallConnection",
    "UpcallServer",
    "handshake",
    "handshake_sync",
]
