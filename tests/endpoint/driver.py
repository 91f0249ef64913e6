"""Whole handshakes over endpoints: two parties that know each other, and the loop between engine and endpoint."""

from __future__ import annotations

from functools import cache

from cryptography import x509

from quic_tlshd.endpoint.interface import Endpoint, Settings
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Complete, Sign
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import (
    DEFAULT_CIPHER_SUITES,
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, schemes_of, sign
from tests.peers import pki


@cache
def identity(role: str) -> pki.Issued:
    return pki.Authority("endpoint root").issue((f"{role}.example",), usage=role, intermediate=True)


def certificates(role: str) -> tuple[CertificateChain, ...]:
    issued = identity(role)
    return (CertificateChain(role, issued.chain, schemes_of(issued.private_key.public_key())),)


def verify(chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> object:
    return x509.load_der_x509_certificate(chain[0]).public_key()


def suites(settings: Settings) -> tuple[CipherSuite, ...]:
    return tuple(CipherSuite(suite) for suite in settings.cipher_suites) or DEFAULT_CIPHER_SUITES


async def client(endpoint: Endpoint) -> Complete:
    """The client's side, as the endpoint's settings want it."""
    settings = await endpoint.settings()
    parameters = ClientParameters(
        "client",
        verify,  # type: ignore[arg-type]
        "server.example",
        settings.alpn or (b"h3",),
        certificates("client") if settings.present_certificate else (),
        settings.transport_parameters,
        suites(settings),
    )
    return await drive(Engine(client_handshake(parameters)), endpoint, "client")


async def server(endpoint: Endpoint, groups: tuple[NamedGroup, ...] = (NamedGroup.X25519,)) -> Complete:
    """The server's side, as the endpoint's settings want it."""
    settings = await endpoint.settings()
    choice = ServerChoice(
        "server",
        (settings.alpn or (b"h3",))[0],
        certificates("server"),
        settings.client_certificate or ClientCertificate.NONE,
        verify,  # type: ignore[arg-type]
        suites(settings),
        groups,
    )
    parameters = ServerParameters(lambda _name, _alpn: choice, settings.transport_parameters)
    return await drive(Engine(server_handshake(parameters)), endpoint, "server")


async def drive(engine: Engine, endpoint: Endpoint, role: str) -> Complete:
    events = engine.start()
    while True:
        for event in events:
            if isinstance(event, Complete):
                return event
            if isinstance(event, Sign):
                content = certificate_verify_content(event.transcript_hash, server=role == "server")
                events = engine.answer(sign(identity(role).private_key, event.scheme, content))
                break
            await endpoint.apply(event)
        else:
            events = engine.receive(*await endpoint.receive())
