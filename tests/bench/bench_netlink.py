"""The per-upcall codec against pyroute2's: `python -m tests.bench.bench_netlink`. Prints microseconds and the ratio."""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat

from netlink.handshake import VERSION, Accept, Certificate, Command, Done, decode_accept, encode_kernel_done
from netlink.message import decode_messages, encode_message
from tests.netlink.fake_kernel import encode_accept_with
from tests.netlink.pyroute2_family import accept_message, done_message

FAMILY = 0x1F
ACCEPT = Accept(
    message_type=1, auth_mode=3, timeout=3000, peername="server.example", certificates=(Certificate(4, 5),), keyring=9
)
REPLY = encode_message(FAMILY, 0, 1, Command.ACCEPT, VERSION, encode_accept_with(ACCEPT, 7))
DONE = Done(status=0, sockfd=7, remote_auth=(0xFFFFFFFF,))


def decode_ours() -> Accept:
    (message,) = decode_messages(REPLY)
    return decode_accept(message.generic()[2])


def decode_pyroute2() -> object:
    message = accept_message(REPLY)
    message.decode()
    return message.get_attr("SOCKFD"), message.get_attr("PEERNAME")


def encode_ours() -> bytes:
    return encode_message(FAMILY, 5, 1, Command.DONE, VERSION, encode_kernel_done(DONE))


def encode_pyroute2() -> bytes:
    message = done_message()
    message["cmd"], message["version"] = Command.DONE, VERSION
    message["header"]["type"], message["header"]["flags"] = FAMILY, 5
    message["attrs"] = [("STATUS", 0), ("SOCKFD", 7), ("REMOTE_AUTH", 0xFFFFFFFF)]
    message.encode()
    return bytes(message.data)


def microseconds(function: Callable[[], object], number: int = 5000) -> float:
    return min(repeat(function, number=number, repeat=5)) / number * 1e6


def main() -> None:
    for what, ours, theirs in (
        ("ACCEPT decode", decode_ours, decode_pyroute2),
        ("DONE encode", encode_ours, encode_pyroute2),
    ):
        plain, pyroute2 = microseconds(ours), microseconds(theirs)
        print(f"{what}: struct {plain:.1f} µs, pyroute2 {pyroute2:.1f} µs, ratio {pyroute2 / plain:.1f}")


if __name__ == "__main__":
    main()
