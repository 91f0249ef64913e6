"""TCP sockets whose consumer is in the kernel: the handshake is the handlers', and then TLS is the kernel's own."""

from __future__ import annotations

import errno

from tests.vm.guest import keyring, netns
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Handlers, exchange, handshake


def test_server_certificate(pair: Handlers) -> None:
    """The client shows no certificate and verifies the server's."""
    with netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_ANON)
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid == 0, "NFSD would take the client as authenticated"
        exchange(client, server)


def test_both_certificates(pair: Handlers) -> None:
    with netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_X509)
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid != 0, "NFSD would take the client as not authenticated"
        exchange(client, server)


def test_wrong_name(pair: Handlers) -> None:
    """The server is not who the consumer wants: the client's side may not report success."""
    with netns.connection() as (client, server):
        ours, _ = handshake(client, server, Kind.CLIENT_ANON, "another.test", timeout_ms=3000)
        assert ours.status == -errno.EACCES, ours


def test_kernel_tls() -> None:
    """What else there is to check of our own records' hand-over to the kernel, without a daemon."""
    netns.execute("python3", "-m", "tests.interop.kernel_tls")


def test_pre_shared_key(pair: Handlers) -> None:
    netns.execute("modprobe", "nvme-keyring")
    ring = keyring.find(keyring.NVME)
    serial = keyring.add("psk", keyring.nvme_identity("client", "server"), bytes(range(32)), ring)
    with netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,), keyring=ring)
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid == serial
        exchange(client, server)
