"""The OpenSSL that cryptography brings along, which is newer than the system's: each group and each kind of key, post-
quantum ones among them, in both roles."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cryptography's, of what pyOpenSSL imports
    from OpenSSL import SSL, crypto

from quic_tlshd.tls.events import Complete
from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.parameters import ClientParameters, ServerParameters
from tests.interop.party import NAME, TIMEOUT, UserspaceTls, client_parameters, secure, server_parameters
from tests.peers import pki

ROOT = pki.Authority("a root")
CLIENT = ROOT.issue(("client.example",), usage="client")
KEY_TYPES = ("p256", "p384", "p521", "ed25519", "ed448", "rsa", "mldsa44", "mldsa65", "mldsa87")
ISSUED = {key_type: ROOT.issue((NAME,), key_type=key_type) for key_type in KEY_TYPES}

Connected = tuple[socket.socket, socket.socket]


@pytest.fixture
def wire() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def context(issued: pki.Issued | None, groups: tuple[NamedGroup, ...]) -> SSL.Context:
    """With a certificate to show, the root to verify with, and these groups."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.get_cert_store().add_cert(crypto.X509.from_cryptography(ROOT.certificate))  # type: ignore[union-attr]
    if issued is not None:
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = issued.write(Path(directory), "shown")
            made.use_certificate_chain_file(certificate)
            made.use_privatekey_file(key)
    names = ":".join(group.name for group in groups)
    assert SSL._lib.SSL_CTX_set1_curves_list(made._context, names.encode()) == 1  # pyOpenSSL has no name for it
    return made


def handshake(connection: SSL.Connection) -> tuple[str | None, bytes | None]:
    """The group, and the end certificate that the peer has shown."""
    connection.do_handshake()
    shown = connection.get_peer_certificate(as_cryptography=True)
    return connection.get_group_name(), None if shown is None else shown.public_bytes(Encoding.DER)


async def both(
    wire: Connected,
    parameters: ClientParameters | ServerParameters,
    theirs: SSL.Context,
    accept: Callable[[SSL.Connection], None],
    issued: pki.Issued | None = None,
) -> tuple[Complete, tuple[str | None, bytes | None]]:
    connection = SSL.Connection(theirs, wire[1])
    accept(connection)
    async with asyncio.timeout(TIMEOUT):
        return await asyncio.gather(
            secure(UserspaceTls(wire[0]), parameters, issued), asyncio.to_thread(handshake, connection)
        )


GROUPS = pytest.mark.parametrize("group", list(NamedGroup), ids=lambda group: group.name)


@GROUPS
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
async def test_each_group_as_a_client(wire: Connected, group: NamedGroup, retry: bool) -> None:
    other = NamedGroup.SECP384R1 if group is not NamedGroup.SECP384R1 else NamedGroup.SECP256R1
    parameters = client_parameters(ROOT, key_shares=(other if retry else group,))
    complete, (name, _) = await both(
        wire, parameters, context(ISSUED["p256"], (group,)), SSL.Connection.set_accept_state
    )
    assert complete.group is group
    assert name is not None
    assert name.upper() == group.name


@GROUPS
async def test_each_group_as_a_server(wire: Connected, group: NamedGroup) -> None:
    parameters = server_parameters(ISSUED["p256"], groups=(group,))
    theirs = context(None, (NamedGroup.SECP256R1, group) if group is not NamedGroup.SECP256R1 else (group,))
    complete, (name, _) = await both(wire, parameters, theirs, SSL.Connection.set_connect_state, ISSUED["p256"])
    assert complete.group is group
    assert name is not None
    assert name.upper() == group.name


@pytest.mark.parametrize("key_type", KEY_TYPES)
async def test_each_kind_of_key_as_a_client(wire: Connected, key_type: str) -> None:
    issued = ISSUED[key_type]
    theirs = context(issued, (NamedGroup.X25519,))
    complete, _ = await both(wire, client_parameters(ROOT), theirs, SSL.Connection.set_accept_state)
    assert complete.peer_chain[0] == issued.chain[0]


@pytest.mark.parametrize("key_type", KEY_TYPES)
async def test_each_kind_of_key_as_a_server(wire: Connected, key_type: str) -> None:
    issued = ISSUED[key_type]
    theirs = context(None, (NamedGroup.X25519,))
    theirs.set_verify(SSL.VERIFY_PEER)
    _, (_, shown) = await both(wire, server_parameters(issued), theirs, SSL.Connection.set_connect_state, issued)
    assert shown == issued.chain[0]


@pytest.mark.parametrize("key_type", KEY_TYPES)
async def test_each_kind_of_client_certificate(wire: Connected, key_type: str) -> None:
    mine = ROOT.issue(("client.example",), key_type=key_type, usage="client")
    theirs = context(ISSUED["p256"], (NamedGroup.X25519,))
    theirs.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    parameters = client_parameters(ROOT, issued=mine)
    _, (_, shown) = await both(wire, parameters, theirs, SSL.Connection.set_accept_state, mine)
    assert shown == mine.chain[0]


async def test_it_verifies_as_a_server_what_openssl_shows(wire: Connected) -> None:
    parameters = server_parameters(ISSUED["mldsa65"], clients=ROOT)
    theirs = context(CLIENT, (NamedGroup.X25519MLKEM768,))
    complete, _ = await both(wire, parameters, theirs, SSL.Connection.set_connect_state, ISSUED["mldsa65"])
    assert complete.peer_chain[0] == CLIENT.chain[0]
