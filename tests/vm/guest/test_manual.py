"""quic-tlshd-kernel(7): its commands work as they stand there. Its configuration and exports are all scenarios'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vm.guest import keyring, manual, netns, nvme
from tests.vm.guest.conftest import name_of
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Credentials, Handlers, handshake

pytestmark = pytest.mark.parametrize("pair", [("quic-tlshd", "quic-tlshd")], indirect=True, ids=name_of)


def test_nfs(pair: Handlers, nfs_server: None, credentials: Credentials, tmp_path: Path) -> None:
    changes = {
        "server.example.org": netns.NAMES["server"],
        "/etc/quic-tlshd": str(credentials.directory),
        "/mnt": str(tmp_path),
    }
    commands = [block for block in manual.section("NFS") if "# " in block]
    assert sum(block.count("mount -t nfs") for block in commands) == 3
    for block in commands:
        manual.run(block, changes)
    done = [line for line in pair.server.log()[-3:] if " done: " in line]
    assert ["peer certificate verified" in line for line in done] == [False, True, True], done


def test_nvme(pair: Handlers, nvme_target: None) -> None:
    make, insert, port, connect = [block for block in manual.section("NVME/TCP") if "# " in block]
    changes = {
        "nqn.2014-08.org.example:client": nvme.HOST,
        "nqn.2014-08.org.example:disk": nvme.SUBSYSTEM,
        "192.0.2.1": netns.ADDRESSES["server"],
    }
    said = manual.run(make, changes)
    key = re.search(r"NVMeTLSkey-1:\S+", said)
    assert key is not None, said
    said = manual.run(insert, {**changes, "$key": key[0]})
    with nvme.out_of_service():
        manual.run(port, {})
    manual.run(connect, changes)
    try:
        assert nvme.device()
    finally:
        nvme.disconnect()
        serial = re.search(r"nserted TLS key ([0-9a-f]+)", said)
        assert serial is not None, said
        keyring.keyctl("unlink", f"0x{serial[1]}", str(keyring.find(keyring.NVME)))


def test_other_keyrings(pair: Handlers) -> None:
    (commands,) = manual.section("OTHER KEYRINGS")
    ring = int(manual.run(f"{commands}server# echo $ring", {}))
    identity = keyring.nvme_identity("client", "server")
    serial = int(keyring.keyctl("padd", "psk", identity, str(ring), data=bytes(32)))
    try:
        with (
            pair.client.configured("authenticate", {"keyrings": "storage"}),
            pair.server.configured("authenticate", {"keyrings": "storage"}),
            netns.connection() as (client, server),
        ):
            ours, theirs = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,))
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
    finally:
        keyring.keyctl("unlink", str(ring), "@u")
