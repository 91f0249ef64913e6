"""What a scenario works with: the credentials of both sides, and the handlers that run."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.peers.pki import Authority
from tests.vm.guest import hsgen, manual, netns
from tests.vm.guest.handlers import Handler, QuicTlshd, until
from tests.vm.guest.hsgen import Kind, Result


class Credentials:
    """The files that the manual's configuration names, and bad ones.

    ca.pem, client.pem, server.pem; alice.pem and revoked.pem, clients' too, of which ca.crl revokes the latter;
    stranger.pem, a client's, whom only strangers.pem vouches for. Beside each certificate is its .key.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority, strangers = Authority("scenarios"), Authority("strangers")
        self.authority.write(directory / "ca.pem")
        strangers.write(directory / "strangers.pem")
        self.authority.issue((netns.NAMES["server"],)).write(directory, "server")
        for stem in ("client", "alice", "revoked"):
            issued = self.authority.issue((netns.NAMES["client"],), usage="client")
            issued.write(directory, stem)
        crl = x509.load_der_x509_crl(self.authority.crl(issued.certificate))
        (directory / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
        strangers.issue((netns.NAMES["client"],), usage="client").write(directory, "stranger")

    def config(self) -> dict[str, dict[str, str]]:
        """That of the manual, in the form that both handlers' configuration has."""
        return {f"authenticate.{side}": self._settings(f"authenticate.{side}") for side in netns.NAMES}

    def _settings(self, section: str) -> dict[str, str]:
        values = manual.settings("NFS", section)
        return {key: value.replace("/etc/quic-tlshd", str(self.directory)) for key, value in values.items()}

    def trusting(self, name: str) -> dict[str, str]:
        return {"x509.truststore": str(self.directory / name)}

    def showing(self, stem: str) -> dict[str, str]:
        files = {"certificate": f"{stem}.pem", "private_key": f"{stem}.key"}
        return {f"x509.{key}": str(self.directory / name) for key, name in files.items()}


@dataclass(frozen=True)
class Handlers:
    """Who answers the kernel on each side."""

    client: Handler
    server: Handler

    def __iter__(self) -> Iterator[Handler]:
        return iter((self.client, self.server))


@contextmanager
def refusal(handler: Handler, reasons: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile `handler` refuses, and logs why (by its name): ours in one line for each handshake, and nothing else
    fails there. SunRPC's client may try once more, from another port."""
    before = len(handler.log())
    yield
    reason = reasons[handler.name]
    until(lambda: any(reason in line for line in handler.log()[before:]), f"the {handler.side}'s log says {reason!r}")
    if isinstance(handler, QuicTlshd):
        failures = [line.partition(" WARNING ")[2] for line in handler.log()[before:] if " failed: " in line]
        assert all(reason in failure for failure in failures), failures
        assert len(set(failures)) == len(failures), failures


def handshake(
    client: socket.socket,
    server: socket.socket,
    kind: Kind,
    peername: str = netns.NAMES["server"],
    timeout_ms: int = 0,
    *,
    keyring: int = 0,
    theirs: Mapping[str, Any] | None = None,
    **ours: Any,
) -> tuple[Result, Result]:
    """Both sides' requests at once, on the two ends of a connection: the client's result and the server's.

    kind, peername: the client's. ours, theirs: further arguments of hsgen.run() for the client's and for the server's.
    """
    common: dict[str, Any] = {"timeout_ms": timeout_ms, "keyring": keyring}
    is_psk = kind is Kind.CLIENT_PSK
    answer = {"kind": Kind.SERVER_PSK if is_psk else Kind.SERVER_X509, "peerids": (0,) if is_psk else ()}
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(_consume, server, **{**common, **answer, **(theirs or {})})
        first = pool.submit(_consume, client, kind=kind, peername=peername, **{**common, **ours})
        return first.result(), second.result()


def _consume(sock: socket.socket, **request: Any) -> Result:
    """Make the request, and close the connection if it fails, as the kernel's consumers do."""
    result = hsgen.run(sock.fileno(), **request)
    if not result.succeeded:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    return result


def exchange(client: socket.socket, server: socket.socket) -> None:
    """Plain reads and writes in both directions, more than a record each, and twice: the sequence numbers must fit."""
    data = bytes(range(256)) * 200
    for _ in range(2):
        for sender, receiver in ((client, server), (server, client)):
            sender.sendall(data)
            received = bytearray()
            while len(received) < len(data):
                part = receiver.recv(len(data))
                assert part, f"the connection ended after {len(received)} bytes"
                received += part
            assert received == data
