"""What only a kernel with TLS can show: both ends ours, kTLS on both sockets, and plain reads and writes on them after.

For a guest: ``python -m tests.interop.kernel_tls`` prints a line for each check and ends with status 1 if one fails.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable

from quic_tlshd.endpoint.tcp_ktls import KernelTls, TcpEndpoint, connection_with_tls, kernel_cipher_suites
from quic_tlshd.monitor.modules import load_tls
from quic_tlshd.tls.events import InstallSecret, SendMessage
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import ClientParameters, Direction, Level
from quic_tlshd.tls.protection import Protection, TrafficKeys
from quic_tlshd.uapi.tls import SOL_TLS, SocketOption
from tests.interop.party import NAME, UserspaceTls, client_parameters, secure, server_parameters
from tests.peers import pki

ROOT = pki.Authority("a root")
SERVER = ROOT.issue((NAME,))


class Kernel(UserspaceTls):
    """A connection whose TLS is the kernel's."""

    def prepare(self, sock: socket.socket) -> tuple[int, ...]:
        return KernelTls().prepare(sock)

    def limits_records(self, sock: socket.socket) -> bool:
        return KernelTls().limits_records(sock)

    def install(self, sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        KernelTls().install(sock, send, receive, send_limit)

    async def write(self, data: bytes) -> None:
        self.sock.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self) -> bytes:
        self.sock.setblocking(False)
        return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


async def both(client: UserspaceTls, server: UserspaceTls, ours: ClientParameters) -> None:
    await asyncio.gather(secure(client, ours), secure(server, server_parameters(SERVER), SERVER))


async def each_cipher_suite() -> None:
    assert set(kernel_cipher_suites()) == set(CipherSuite), kernel_cipher_suites()
    for suite in CipherSuite:
        for kinds in ((Kernel, Kernel), (Kernel, UserspaceTls), (UserspaceTls, Kernel)):
            socks = connected()
            client, server = kinds[0](socks[0]), kinds[1](socks[1])
            await both(client, server, client_parameters(ROOT, cipher_suites=(suite,)))
            for turn in range(3):
                await client.write(b"request %d" % turn)
                assert await server.read() == b"request %d" % turn
                await server.write(b"response %d" % turn)
                assert await client.read() == b"response %d" % turn
            for sock in socks:
                sock.close()


class Late(Kernel):
    """Whose keys come when the peer has sent all that it has."""

    def install(self, sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        time.sleep(0.2)
        super().install(sock, send, receive, send_limit)


async def data_before_the_keys() -> None:
    """Data right behind the client's Finished, and the end of it, wait in the socket and are not lost."""
    socks = connected()
    client, server = UserspaceTls(socks[0]), Late(socks[1])

    async def speak() -> None:
        await secure(client, client_parameters(ROOT))
        await client.write(b"first ")
        await client.write(b"second")
        socks[0].shutdown(socket.SHUT_WR)

    await asyncio.gather(secure(server, server_parameters(SERVER), SERVER), speak())
    got = b""
    while data := await server.read():
        got += data
    assert got == b"first second", got
    await server.write(b"response")
    assert await client.read() == b"response"
    for sock in socks:
        sock.close()


async def sequence_numbers() -> None:
    """A record that was sent under the application keys in user space counts for the kernel."""
    socks = connected()
    endpoint = TcpEndpoint(socks[0].dup())
    await endpoint.settings()
    secrets = {direction: bytes((number,)) * 32 for number, direction in enumerate(Direction)}
    for direction, secret in secrets.items():
        await endpoint.apply(InstallSecret(Level.APP, direction, CipherSuite.TLS_AES_128_GCM_SHA256, secret))
    await endpoint.apply(SendMessage(Level.APP, bytes(38) + b"\0"))
    await endpoint.finish()
    endpoint.close()
    keys = TrafficKeys.derive(CipherSuite.TLS_AES_128_GCM_SHA256, secrets[Direction.SEND])
    peer = UserspaceTls(socks[1])
    peer.receive = Protection(keys)
    socks[0].sendall(b"data")
    assert await peer.read() == b"data"
    assert peer.tickets == 1
    for sock in socks:
        sock.close()


class Limited(Kernel):
    """Whose peer takes little."""

    def install(self, sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        super().install(sock, send, receive, 512)


async def record_size_limit() -> None:
    """The kernel keeps to it, where it has the option."""
    with connection_with_tls() as probe:
        try:
            probe.getsockopt(SOL_TLS, SocketOption.TX_MAX_PAYLOAD_LEN, 2)
        except OSError as error:
            print(f"        not on this kernel: {error}")
            return
    socks = connected()
    client, server = Limited(socks[0]), UserspaceTls(socks[1])
    await both(client, server, client_parameters(ROOT))
    await client.write(bytes(2000))
    assert [len(await server.read()) for _ in range(4)] == [511, 511, 511, 467]
    for sock in socks:
        sock.close()


async def failures() -> None:
    """With the upper layer protocol set and no keys, an alert still goes through."""
    socks = connected()
    results = await asyncio.gather(
        secure(Kernel(socks[0]), client_parameters(pki.Authority("a stranger"))),
        secure(Kernel(socks[1]), server_parameters(SERVER), SERVER),
        return_exceptions=True,
    )
    assert "unknown_ca" in str(results[0]), results
    assert "unknown_ca" in str(results[1]), results
    for sock in socks:
        sock.close()


CHECKS: tuple[Callable[[], Awaitable[None]], ...] = (
    each_cipher_suite,
    data_before_the_keys,
    sequence_numbers,
    record_size_limit,
    failures,
)


def main() -> int:
    load_tls()
    failed = 0
    for check in CHECKS:
        try:
            asyncio.run(asyncio.wait_for(check(), 60))
            print(f"ok      {check.__name__}")
        except Exception:  # noqa: BLE001 - the next check is to be run too
            failed += 1
            print(f"FAILED  {check.__name__}")
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
