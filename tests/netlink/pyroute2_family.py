"""The family as pyroute2 classes: a second opinion on our bytes, and what bench_netlink.py measures against."""

from __future__ import annotations

from typing import ClassVar

from pyroute2.netlink import genlmsg, nla  # type: ignore[import-untyped]  # pyroute2 ships no types


class accept_message(genlmsg):  # type: ignore[misc]  # noqa: N801  # pyroute2's way of naming
    nla_map: ClassVar = (
        (1, "SOCKFD", "int32"),
        (2, "HANDLER_CLASS", "uint32"),
        (3, "MESSAGE_TYPE", "uint32"),
        (4, "TIMEOUT", "uint32"),
        (5, "AUTH_MODE", "uint32"),
        (6, "PEER_IDENTITY", "uint32"),
        (7, "CERTIFICATE", "x509"),
        (8, "PEERNAME", "asciiz"),
        (9, "KEYRING", "uint32"),
        (0x1001, "ALPN", "cdata"),
    )

    class x509(nla):  # type: ignore[misc]  # noqa: N801
        nla_flags = 0x8000
        nla_map: ClassVar = ((1, "CERT", "int32"), (2, "PRIVKEY", "int32"))


class done_message(genlmsg):  # type: ignore[misc]  # noqa: N801
    nla_map: ClassVar = (
        (1, "STATUS", "uint32"),
        (2, "SOCKFD", "int32"),
        (3, "REMOTE_AUTH", "uint32"),
        (0x1001, "SELECTED_ALPN", "cdata"),
        (0x1002, "SELECTED_SERVER_NAME", "asciiz"),
        (0x1003, "MATCHED_ENTRY", "asciiz"),
        (0x1004, "TAG", "asciiz"),
        (0x1005, "PEER_CERTIFICATE", "cdata"),
        (0x1006, "ALERT", "uint32"),
        (0x1007, "REASON", "asciiz"),
    )
