"""NFS with xprtsec=: SunRPC's client and NFSD make the requests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm.guest import netns, nfs
from tests.vm.guest.scenario import Handlers


def copy_and_compare(mount: Path, exported: Path) -> None:
    data = os.urandom(2_000_000)
    (mount / "file").write_bytes(data)
    assert (exported / "file").read_bytes() == data
    (exported / "back").write_bytes(data)
    assert (mount / "back").read_bytes() == data


@pytest.mark.parametrize("policy", ["tls", "mtls"])
def test_mount(pair: Handlers, nfs_server: None, policy: str, tmp_path: Path) -> None:
    """Mount, and copy a file to and fro."""
    with nfs.mounted(policy, policy, tmp_path) as mount:
        assert f"xprtsec={policy}," in netns.run("client", "grep", str(mount), "/proc/mounts").stdout
        copy_and_compare(mount, nfs.EXPORTS / policy)


def test_client_without_certificate(pair: Handlers, nfs_server: None, tmp_path: Path) -> None:
    """An export with xprtsec=mtls is not for who did not show a certificate."""
    with pytest.raises(AssertionError, match="Operation not permitted"), nfs.mounted("mtls", "tls", tmp_path):
        pass
