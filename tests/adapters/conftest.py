"""One daemon for all tests that don't break theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import daemon as daemons
from tests.peers.daemon import Daemon, entry
from tests.peers.pki import Authority, Issued


@pytest.fixture(scope="session")
def root() -> Authority:
    """The authority that everybody here trusts."""
    return Authority("adapter test root")


@pytest.fixture(scope="session")
def identities(root: Authority) -> dict[str, Issued]:
    """What each registry entry shows."""
    return {
        "h3": root.issue(("localhost", "127.0.0.1"), key_type="p256", intermediate=True),
        "smb": root.issue(("localhost", "files.localhost"), key_type="rsa"),
        "mutual": root.issue(("localhost",), key_type="p384"),
        "client": root.issue(("client.example",), key_type="ed25519", usage="client"),
    }


@pytest.fixture(scope="session")
def daemon(
    root: Authority, identities: dict[str, Issued], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    trust = str(root.write(tmp_path_factory.mktemp("trust") / "root.pem"))
    entries = {
        "h3": entry(identities["h3"], alpn="h3"),
        "smb": entry(identities["smb"], alpn="smb"),
        "mutual": entry(identities["mutual"], alpn="mutual", client_certificate="require", truststore=trust),
        "picky": entry(identities["h3"], alpn="picky", groups="secp384r1"),
        "presenting": entry(identities["client"], role="client", alpn="mutual", truststore=trust),
    }
    with daemons.running(entries, client={"x509.truststore": trust}) as daemon:
        yield daemon
