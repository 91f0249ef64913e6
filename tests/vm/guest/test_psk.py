"""Pre-shared keys, in all modes that a consumer in the kernel can ask for: identities, and where their keys are."""

from __future__ import annotations

import errno
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from socket import SHUT_RDWR, socket

import pytest

from quic_tlshd.tls.extensions import decode_offered_psks
from quic_tlshd.tls.iana import ExtensionType
from quic_tlshd.tls.messages import ClientHello
from quic_tlshd.uapi.tls import CIPHER_SUITES, SOL_TLS, SocketOption
from tests.vm.guest import hsgen, keyring, netns
from tests.vm.guest.conftest import name_of
from tests.vm.guest.handlers import HANDLERS
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Handlers, exchange, handshake, refusal

KEY, ANOTHER_KEY = bytes(range(32)), bytes(32)
IDENTITY = keyring.nvme_identity("client", "server")
REQUEST = "request"  # stands for the keyring of the request itself
PLACES = (keyring.NVME, keyring.NFS, keyring.NFSD, keyring.CONFIGURED, REQUEST)


@contextmanager
def ring_at(place: str) -> Iterator[int]:
    if place == REQUEST:
        with keyring.made("of the request") as ring:
            yield ring
    else:
        yield keyring.find(place)


def hash_of(sock: socket) -> str:
    """That of the cipher suite that the kernel's TLS sends with."""
    _, cipher_type = struct.unpack("=HH", sock.getsockopt(SOL_TLS, SocketOption.TX, 4))
    return CIPHER_SUITES[cipher_type].hash


@pytest.mark.parametrize("place", PLACES)
def test_keyring(pair: Handlers, place: str) -> None:
    """A server finds the key by the identity that the client offers, wherever it may be."""
    with (
        ring_at(place) as ring,
        keyring.added("psk", IDENTITY, KEY, ring) as serial,
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(
            client, server, Kind.CLIENT_PSK, peerids=(serial,), keyring=ring if place == REQUEST else 0
        )
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid == serial
        exchange(client, server)


def test_keyring_made_later(pair: Handlers) -> None:
    """A keyring of the configuration is found when it is needed. tlshd looks for it once, when it loads that."""
    name = "scenarios made later"
    with ExitStack() as stack:
        for handler in pair:
            stack.enter_context(handler.configured("authenticate", {"keyrings": name}))
        ring = stack.enter_context(keyring.made(name))
        serial = stack.enter_context(keyring.added("psk", IDENTITY, KEY, ring))
        client, server = stack.enter_context(netns.connection())
        ours, theirs = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,))
        if pair.server.name == "tlshd":
            assert theirs.status == -errno.EACCES, theirs
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs


def test_key_of_type_user(pair: Handlers) -> None:
    """A key may be of type `user` too; to tlshd's server it may not."""
    with (
        keyring.added("user", IDENTITY, KEY, keyring.find(keyring.NVME)) as serial,
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,))
        if pair.server.name == "tlshd":
            assert theirs.status == -errno.EACCES, theirs
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs


@pytest.mark.parametrize(("hmac", "size", "name"), [(1, 32, "sha256"), (2, 48, "sha384")], ids=["01", "02"])
def test_hash_of_identity(pair: Handlers, hmac: int, size: int, name: str) -> None:
    """An NVMe identity says which hash the key is for, and so which cipher suites there are."""
    identity = keyring.nvme_identity("client", "server", hmac=hmac)
    ring = keyring.find(keyring.NVME)
    with keyring.added("psk", identity, bytes(range(size)), ring) as serial, netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,))
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert hash_of(client) == hash_of(server) == name
        exchange(client, server)


@contextmanager
def five_keys() -> Iterator[tuple[list[str], tuple[int, ...], int]]:
    """Their identities, their serials, and the keyring that has them and that nobody else knows."""
    identities = [keyring.nvme_identity("client", f"server {number}") for number in range(5)]
    with ExitStack() as stack:
        ring = stack.enter_context(keyring.made("of the client"))
        serials = [stack.enter_context(keyring.added("psk", identity, KEY, ring)) for identity in identities]
        yield identities, tuple(serials), ring


@pytest.mark.parametrize("known", [0, 4], ids=["first", "last"])
def test_one_of_several_identities(pair: Handlers, known: int) -> None:
    """The client has five keys, of which the server has one. tlshd's client offers the last one first, and another in
    a further ClientHello, when the server has gone; tlshd's server gives up at the first that it does not know."""
    with (
        five_keys() as (identities, peerids, ring),
        keyring.added("psk", identities[known], KEY, keyring.find(keyring.NVME)) as serial,
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(client, server, Kind.CLIENT_PSK, theirs={"keyring": 0}, keyring=ring, peerids=peerids)
        if known != 4 if pair.client.name == "tlshd" else known != 0 and pair.server.name == "tlshd":
            assert not ours.succeeded, ours
            assert not theirs.succeeded, theirs
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert (ours.peerid, theirs.peerid) == (peerids[known], serial)
        exchange(client, server)


def test_identities_of_a_client_hello(pair: Handlers) -> None:
    """All that the request names, in its order; tlshd has room for one."""
    with five_keys() as (identities, peerids, ring), netns.connection() as (client, server):
        hsgen.run(client.fileno(), Kind.CLIENT_PSK, timeout_ms=1000, keyring=ring, peerids=peerids)
        record = server.recv(1 << 14)
    hello = ClientHello.decode(record[5 : 5 + int.from_bytes(record[3:5], "big")])
    offered, _ = decode_offered_psks(hello.extensions[ExtensionType.PRE_SHARED_KEY])
    expected = identities[-1:] if pair.client.name == "tlshd" else identities
    assert [identity.decode() for identity, _ in offered] == expected


def test_wrong_key(pair: Handlers) -> None:
    reasons = {"quic-tlshd": "the PSK binder is wrong: the client has another key", "tlshd": "illegal parameter"}
    with (
        keyring.made("of the client") as ring,
        keyring.added("psk", IDENTITY, ANOTHER_KEY, ring) as serial,
        keyring.added("psk", IDENTITY, KEY, keyring.find(keyring.NVME)),
        netns.connection() as (client, server),
        refusal(pair.server, reasons),
    ):
        ours, theirs = handshake(
            client, server, Kind.CLIENT_PSK, theirs={"keyring": 0}, keyring=ring, peerids=(serial,)
        )
        assert theirs.status == -errno.EACCES, theirs
        assert not ours.succeeded, ours


def test_unknown_identity(pair: Handlers) -> None:
    """The log names it."""
    reasons = {"quic-tlshd": f"can be used here: '{IDENTITY}'", "tlshd": f"failed to search 'psk' key '{IDENTITY}'"}
    with (
        keyring.made("of the client") as ring,
        keyring.added("psk", IDENTITY, KEY, ring) as serial,
        netns.connection() as (client, server),
        refusal(pair.server, reasons),
    ):
        ours, theirs = handshake(
            client, server, Kind.CLIENT_PSK, theirs={"keyring": 0}, keyring=ring, peerids=(serial,)
        )
        assert theirs.status == -(errno.EACCES if pair.server.name == "tlshd" else errno.EKEYREJECTED), theirs
        assert not ours.succeeded, ours


SELVES = [(name, name) for name in HANDLERS]  # where only the server's matters


@pytest.mark.parametrize("pair", SELVES, indirect=True, ids=name_of)
def test_client_with_psk_ke_only(pair: Handlers) -> None:
    """A client in user space that does no key exchange besides the key."""
    identity = "scenario"
    command = ["gnutls-cli", "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+PSK"]
    command += [f"--pskusername={identity}", f"--pskkey={KEY.hex()}"]
    with keyring.added("psk", identity, KEY, keyring.find(keyring.NVME)) as serial, netns.listener() as listener:
        address, port = listener.getsockname()
        with netns.entered("client"):
            process = subprocess.Popen([*command, f"--port={port}", address], stdin=subprocess.PIPE)
        with process, listener.accept()[0] as server:
            server.settimeout(20)
            theirs = hsgen.run(server.fileno(), Kind.SERVER_PSK, peerids=(0,), timeout_ms=5000)
            assert theirs.succeeded, theirs
            assert theirs.peerid == serial
            assert process.stdin is not None
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert server.recv(100) == b"hello\n"
            server.shutdown(SHUT_RDWR)
    if pair.server.name == "quic-tlshd":
        assert "done: entry psk, no ALPN, TLS_AES_128_GCM_SHA256, PSK scenario," in pair.server.log()[-1]
