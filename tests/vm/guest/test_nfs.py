"""NFS with xprtsec=: SunRPC's client and NFSD make the requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm.guest import keyring, netns, nfs
from tests.vm.guest.scenario import Credentials, Handlers, refusal

SIZE = 64 << 20  # bytes of the file that is copied

Record = Callable[[str, object], None]


def copy_and_compare(mount: Path, exported: Path) -> None:
    """To the server and back."""
    data = os.urandom(SIZE)
    (mount / "file").write_bytes(data)
    assert (exported / "file").read_bytes() == data
    (exported / "back").write_bytes(data)
    assert (mount / "back").read_bytes() == data
    for name in ("file", "back"):
        (mount / name).unlink()


@pytest.mark.parametrize(("xprtsec", "export"), [("tls", "all"), ("mtls", "staff")], ids=["tls", "mtls"])
def test_mount(pair: Handlers, nfs_server: None, xprtsec: str, export: str, tmp_path: Path) -> None:
    """Mount, and copy a file to and fro."""
    with nfs.mounted(export, xprtsec, tmp_path) as mount:
        assert f"xprtsec={xprtsec}," in netns.run("client", "grep", str(mount), "/proc/mounts").stdout
        copy_and_compare(mount, nfs.EXPORTS / export)


def denied(record: Record, export: str, xprtsec: str, target: Path, host: str = netns.NAMES["server"]) -> str:
    """What mount says of an export that it is refused, which the table at the end has too."""
    status, said = nfs.mount_error(export, xprtsec, target, host)
    said = said.replace(str(target), "TARGET")
    record("mount", f"exit status {status}: {said}")
    assert status == 32, said
    return said


def test_client_without_certificate(pair: Handlers, nfs_server: None, tmp_path: Path, record_property: Record) -> None:
    """An export with xprtsec=mtls is not for who did not show a certificate."""
    said = denied(record_property, "staff", "tls", tmp_path)
    assert said == "mount.nfs: Operation not permitted for server.test:/staff on TARGET"


ANOTHER_NAME = {
    "quic-tlshd": "the server's certificate is for 'server.test', not for 'another.test'",
    "tlshd": "Certificate owner unexpected.",
}
STRANGER = {"quic-tlshd": "no trust anchor for", "tlshd": "Certificate signer not found."}
REVOKED = {"quic-tlshd": "'CN=client.test' is revoked", "tlshd": "Certificate revoked."}
BY_SERIAL = {"tlshd": "The request is invalid."}  # tlshd 1.4.0 reads the certificate and shows another, which is none
ACCESS_DENIED = "mount.nfs: access denied by server while mounting {}:/{}"


@pytest.mark.parametrize("xprtsec", ["tls", "mtls"])
def test_wrong_name(pair: Handlers, nfs_server: None, xprtsec: str, tmp_path: Path, record_property: Record) -> None:
    with refusal(pair.client, ANOTHER_NAME):
        said = denied(record_property, "all", xprtsec, tmp_path, netns.ANOTHER_NAME)
    assert said == ACCESS_DENIED.format(netns.ANOTHER_NAME, "all")


def test_untrusted_server(
    pair: Handlers, nfs_server: None, credentials: Credentials, tmp_path: Path, record_property: Record
) -> None:
    with (
        pair.client.configured("authenticate.client", credentials.trusting("strangers.pem")),
        refusal(pair.client, STRANGER),
    ):
        said = denied(record_property, "all", "tls", tmp_path)
    assert said == ACCESS_DENIED.format("server.test", "all")


def test_untrusted_client(
    pair: Handlers, nfs_server: None, credentials: Credentials, tmp_path: Path, record_property: Record
) -> None:
    with (
        pair.client.configured("authenticate.client", credentials.showing("stranger")),
        refusal(pair.server, STRANGER),
    ):
        said = denied(record_property, "staff", "mtls", tmp_path)
    assert said == ACCESS_DENIED.format("server.test", "staff")


def test_revoked_client(
    pair: Handlers, nfs_server: None, credentials: Credentials, tmp_path: Path, record_property: Record
) -> None:
    with (
        pair.client.configured("authenticate.client", credentials.showing("revoked")),
        refusal(pair.server, REVOKED),
    ):
        said = denied(record_property, "staff", "mtls", tmp_path)
    assert said == ACCESS_DENIED.format("server.test", "staff")


def test_certificate_by_serial(
    pair: Handlers, nfs_server: None, credentials: Credentials, tmp_path: Path, record_property: Record
) -> None:
    """The mount options cert_serial= and privkey_serial= name keys in .nfs, and the configuration's do not count."""
    issued = credentials.authority.issue((netns.NAMES["client"],), usage="client")
    with (
        pair.client.configured("authenticate.client", credentials.showing("stranger")),
        keyring.credential(issued, keyring.find(keyring.NFS)) as serials,
    ):
        options = f"cert_serial={serials['cert']},privkey_serial={serials['privkey']}"
        if pair.client.name == "tlshd":
            with refusal(pair.client, BY_SERIAL):
                denied(record_property, "staff", f"mtls,{options}", tmp_path)
            return
        with nfs.mounted("staff", f"mtls,{options}", tmp_path) as mount:
            assert list(mount.iterdir()) == []
