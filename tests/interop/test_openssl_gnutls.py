"""The TCP endpoint with OpenSSL and GnuTLS at the other end, in both roles: a handshake, a line each way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.events import Complete
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import ClientParameters, ServerParameters
from tests.interop.party import NAME, UserspaceTls, client_parameters, secure, server_parameters
from tests.interop.programs import GnuTls, OpenSsl, Program, Wish, accepting, connect, free_port, needs, run
from tests.peers import pki

PROGRAMS = [
    pytest.param(OpenSsl(), id="openssl", marks=needs("openssl")),
    pytest.param(GnuTls(), id="gnutls", marks=needs("gnutls-cli")),
]
GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)
ROOT = pki.Authority("a root")
STRANGER = pki.Authority("a stranger")


@cache
def server_identity(key_type: str = "p256") -> pki.Issued:
    return ROOT.issue((NAME,), key_type=key_type)


@cache
def client_identity(key_type: str = "p256") -> pki.Issued:
    return ROOT.issue(("client.example",), key_type=key_type, usage="client")


@dataclass(frozen=True)
class Peer:
    """A program, and the directory of its files."""

    program: OpenSsl | GnuTls
    directory: Path

    @property
    def wish(self) -> Wish:
        return Wish(ROOT.write(self.directory / "root.pem"))

    def with_identity(self, issued: pki.Issued) -> Wish:
        return replace(self.wish, identity=issued.write(self.directory, "identity"))

    @asynccontextmanager
    async def connects(self, wish: Wish) -> AsyncIterator[tuple[Program, UserspaceTls]]:
        """It as a client, and our end of its connection."""
        async with accepting() as (port, accepted), run(*self.program.client(port, wish)) as program:
            with await accepted as sock:
                yield program, UserspaceTls(sock)

    @asynccontextmanager
    async def listens(self, wish: Wish) -> AsyncIterator[tuple[Program, UserspaceTls]]:
        """It as a server, and our connection to it."""
        port = free_port()
        async with run(*self.program.server(port, wish)) as program:
            with await connect(port) as sock:
                yield program, UserspaceTls(sock)

    async def serves(self, wish: Wish, parameters: ClientParameters, ours: pki.Issued | None = None) -> Complete:
        """A whole connection to it."""
        async with self.listens(wish) as (program, connection):
            complete = await secure(connection, parameters, ours)
            await self.program.exchange(program, connection, server=True)
            return complete

    async def is_served(self, wish: Wish, parameters: ServerParameters, ours: pki.Issued | None = None) -> Complete:
        """A whole connection from it."""
        async with self.connects(wish) as (program, connection):
            complete = await secure(connection, parameters, ours or server_identity())
            await self.program.exchange(program, connection, server=False)
            return complete


@pytest.fixture(params=PROGRAMS)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    return Peer(request.param, tmp_path)


# what is negotiated


@pytest.mark.parametrize("suite", list(CipherSuite), ids=lambda suite: suite.name)
async def test_cipher_suites(peer: Peer, suite: CipherSuite) -> None:
    wish = replace(peer.with_identity(server_identity()), cipher_suite=suite)
    assert (await peer.serves(wish, client_parameters(ROOT))).cipher_suite is suite
    wish = replace(peer.wish, cipher_suite=suite)
    assert (await peer.is_served(wish, server_parameters(server_identity()))).cipher_suite is suite


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
async def test_groups(peer: Peer, group: NamedGroup) -> None:
    wish = replace(peer.with_identity(server_identity()), groups=(group,))
    assert (await peer.serves(wish, client_parameters(ROOT, key_shares=(group,)))).group is group
    wish = replace(peer.wish, groups=(group,))
    assert (await peer.is_served(wish, server_parameters(server_identity()))).group is group


@pytest.mark.parametrize("compatibility_mode", [True, False])
async def test_a_hello_retry_request_to_us(peer: Peer, compatibility_mode: bool) -> None:
    wish = replace(peer.with_identity(server_identity()), groups=(NamedGroup.SECP384R1,))
    complete = await peer.serves(wish, client_parameters(ROOT, compatibility_mode=compatibility_mode))
    assert complete.group is NamedGroup.SECP384R1


async def test_a_hello_retry_request_from_us(peer: Peer) -> None:
    wish = replace(peer.wish, groups=(NamedGroup.X25519, NamedGroup.SECP384R1))
    complete = await peer.is_served(wish, server_parameters(server_identity(), groups=(NamedGroup.SECP384R1,)))
    assert complete.group is NamedGroup.SECP384R1


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "ed25519", "rsa"])
async def test_server_keys(peer: Peer, key_type: str) -> None:
    issued = server_identity(key_type)
    assert (await peer.serves(peer.with_identity(issued), client_parameters(ROOT))).peer_chain == issued.chain
    await peer.is_served(peer.wish, server_parameters(issued), issued)


@pytest.mark.parametrize("key_type", ["p256", "p521", "ed25519", "rsa"])
async def test_client_certificates(peer: Peer, key_type: str) -> None:
    issued = client_identity(key_type)
    wish = replace(peer.with_identity(server_identity()), require=True)
    await peer.serves(wish, client_parameters(ROOT, issued=issued), issued)
    complete = await peer.is_served(peer.with_identity(issued), server_parameters(server_identity(), clients=ROOT))
    assert complete.peer_chain[0] == issued.chain[0]  # OpenSSL adds the root if it knows it


async def test_chains_with_an_intermediate(peer: Peer) -> None:
    issued = ROOT.issue((NAME,), intermediate=True)
    await peer.is_served(peer.wish, server_parameters(issued), issued)


async def test_protocol_and_server_name(peer: Peer) -> None:
    wish = replace(peer.with_identity(server_identity()), alpn="smb")
    assert (await peer.serves(wish, client_parameters(ROOT, alpn=(b"h3", b"smb")))).alpn == b"smb"
    complete = await peer.is_served(replace(peer.wish, alpn="smb"), server_parameters(server_identity(), alpn=b"smb"))
    assert (complete.alpn, complete.server_name) == (b"smb", NAME)


# records


@needs("openssl")
@pytest.mark.parametrize("extra", [("-record_padding", "512"), ("-max_send_frag", "512"), ("-no_middlebox",)])
async def test_padding_fragments_and_no_compatibility_mode(tmp_path: Path, extra: tuple[str, ...]) -> None:
    peer = Peer(OpenSsl(), tmp_path)
    issued = server_identity("rsa")
    await peer.serves(replace(peer.with_identity(issued), extra=extra), client_parameters(ROOT))
    await peer.is_served(replace(peer.wish, extra=extra), server_parameters(issued), issued)


@needs("gnutls-cli")
async def test_a_record_size_limit(tmp_path: Path) -> None:
    peer = Peer(GnuTls(), tmp_path)
    async with peer.connects(replace(peer.wish, extra=("--recordsize", "512"))) as (program, connection):
        parameters = replace(server_parameters(server_identity()), record_size_limit=16385)
        await secure(connection, parameters, server_identity())
        assert connection.send_limit == 513
        await peer.program.exchange(program, connection, server=False)
    async with peer.listens(replace(peer.with_identity(server_identity()), extra=("--recordsize", "600"))) as (
        program,
        connection,
    ):
        await secure(connection, replace(client_parameters(ROOT), record_size_limit=16385))
        assert connection.send_limit == 601


async def test_a_peer_in_a_hurry(peer: Peer) -> None:
    """What it was told to send before it could connect comes right behind its Finished."""
    async with peer.connects(peer.wish) as (program, connection):
        await program.say(b"from them")
        await secure(connection, server_parameters(server_identity()), server_identity())
        assert await connection.read() == b"from them\n"


# refusals: the other side always knows why


async def test_we_refuse_its_certificate(peer: Peer) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = ROOT.issue((NAME,), not_before=yesterday - timedelta(days=1), not_after=yesterday)
    for issued, alert in ((STRANGER.issue((NAME,)), A.UNKNOWN_CA), (expired, A.CERTIFICATE_EXPIRED)):
        async with peer.listens(peer.with_identity(issued)) as (program, connection):
            with pytest.raises(PeerError) as refused:
                await secure(connection, client_parameters(ROOT))
            assert refused.value.alert is alert
            await program.until(peer.program.alerts[alert])


@pytest.mark.parametrize("alert", [A.UNKNOWN_CA, A.CERTIFICATE_REQUIRED], ids=lambda alert: alert.label)
async def test_we_refuse_its_client_certificate(peer: Peer, alert: A) -> None:
    wish = peer.with_identity(client_identity()) if alert is A.UNKNOWN_CA else peer.wish
    async with peer.connects(wish) as (program, connection):
        with pytest.raises(PeerError) as refused:
            await secure(connection, server_parameters(server_identity(), clients=STRANGER), server_identity())
        assert refused.value.alert is alert
        await program.until(peer.program.alerts[alert])


async def test_we_have_no_group_in_common(peer: Peer) -> None:
    wish = replace(peer.wish, groups=(NamedGroup.X25519,))
    async with peer.connects(wish) as (program, connection):
        with pytest.raises(PeerError, match="no group in common"):
            await secure(connection, server_parameters(server_identity(), groups=(NamedGroup.SECP384R1,)))
        await program.until(peer.program.alerts[A.HANDSHAKE_FAILURE])


async def test_it_refuses_our_certificate(peer: Peer) -> None:
    issued = STRANGER.issue((NAME,))
    async with peer.connects(peer.wish) as (_, connection):
        with pytest.raises(PeerAlertError) as heard:
            await secure(connection, server_parameters(issued), issued)
        # GnuTLS has but one alert for all that is wrong with a certificate.
        assert heard.value.description in (A.UNKNOWN_CA, A.BAD_CERTIFICATE)


async def test_it_has_no_group_in_common(peer: Peer) -> None:
    wish = replace(peer.with_identity(server_identity()), groups=(NamedGroup.SECP256R1,))
    async with peer.listens(wish) as (_, connection):
        with pytest.raises(PeerAlertError, match="handshake_failure"):
            await secure(connection, client_parameters(ROOT, groups=(NamedGroup.X25519,)))
