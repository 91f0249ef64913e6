"""aioquic through a daemon that is slow, dies or is not there; through lost packets; and with much to carry."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aioquic.asyncio
import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicErrorCode

from quic_tlshd.adapters.aioquic import connect, connection_of
from quic_tlshd.adapters.rebind import rebind
from quic_tlshd.adapters.remote import Daemon as Upcalls
from tests.adapters.test_aioquic import ours, served
from tests.peers import daemon as daemons
from tests.peers.aioquic_peer import HOST, TIMEOUT, Recorders, ask, client_configuration, refusal, shown_certificate
from tests.peers.daemon import Daemon, entry
from tests.peers.pki import Authority, Issued

SLOW = 0.2  # seconds


@pytest.fixture
def mortal(identities: dict[str, Issued]) -> Iterator[Daemon]:
    """A daemon for one test alone."""
    with daemons.running({"h3": entry(identities["h3"], alpn="h3")}) as daemon:
        yield daemon


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_slow_daemon_costs_its_own_time_and_no_more(mortal: Daemon, root: Authority) -> None:
    log = QuicLogger()
    configuration = client_configuration(root, "localhost", "h3", quic_logger=log)
    async with served(mortal, "h3") as (port, _):
        began = time.monotonic()
        with mortal.suspended():
            asyncio.get_running_loop().call_later(SLOW, mortal.resume)
            async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
                assert SLOW <= time.monotonic() - began < 4 * SLOW
                assert await ask(protocol, b"hello") == b"hello"
    sent = _frames(log, "packet_sent", "initial")
    # The server has acknowledged the ClientHello, so the client probes (RFC 9002 section 6.2.2.1) and repeats nothing.
    assert sum(frames.count("crypto") for frames in sent) == 1
    assert len(sent) < 12
    assert _frames(log, "packet_received", "initial")[0] == ["ack"]


async def test_a_slow_daemon_at_the_client(mortal: Daemon, root: Authority, tmp_path: Path) -> None:
    async with served(mortal, "h3") as (port, made):
        trust = root.write(tmp_path / "root.pem")
        with daemons.running({}, client={"x509.truststore": str(trust)}) as slow, slow.suspended():
            asyncio.get_running_loop().call_later(SLOW, slow.resume)
            async with ours(slow, port, "h3") as protocol:
                assert await ask(protocol, b"hello") == b"hello"
            assert len(made) == 1


def _frames(log: QuicLogger, name: str, kind: str) -> list[list[str]]:
    (trace,) = log.to_dict()["traces"]
    events = [event["data"] for event in trace["events"] if event["name"] == f"transport:{name}"]
    return [
        [frame["frame_type"] for frame in data["frames"] if frame["frame_type"] != "padding"]
        for data in events
        if data["header"]["packet_type"] == kind
    ]


async def test_a_daemon_that_dies_ends_its_handshakes_and_its_successor_is_found(
    mortal: Daemon, root: Authority
) -> None:
    configuration = client_configuration(root, "localhost", "h3")
    async with served(mortal, "h3") as (port, made):

        async def kill() -> None:
            while not made:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # it has asked the daemon
            mortal.kill()

        with mortal.suspended():
            killing = asyncio.create_task(kill())
            client, _ = await refusal(aioquic.asyncio.connect, port, configuration=configuration)
            await killing
        event = client.ended.result()
        assert event.error_code == QuicErrorCode.INTERNAL_ERROR
        assert event.reason_phrase == "the TLS handshake can't be done here"
        assert connection_of(made[0]).failure == "the handshake daemon closed the connection before DONE"
        mortal.start()
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
            assert await ask(protocol, b"hello") == b"hello"


async def test_without_a_daemon_nobody_is_served(root: Authority, tmp_path: Path) -> None:
    nobody = Daemon(tmp_path)
    async with served(nobody, "h3") as (port, made):
        configuration = client_configuration(root, "localhost", "h3")
        client, _ = await refusal(aioquic.asyncio.connect, port, configuration=configuration)
        assert client.ended.result().error_code == QuicErrorCode.INTERNAL_ERROR
        assert "no handshake daemon" in connection_of(made[0]).failure
        configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
        _, error = await refusal(connect, port, configuration=configuration, daemon=nobody.socket)
        assert "no handshake daemon" in str(error)
        assert len(made) == 1


async def test_a_daemon_that_never_answers_is_given_up(mortal: Daemon, root: Authority) -> None:
    async with served(mortal, "h3", handshake_timeout=0.2) as (port, made):
        upcalls = Upcalls(mortal.socket, patience=0.1)
        with mortal.suspended():
            configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
            began = time.monotonic()
            _, error = await refusal(connect, port, configuration=configuration, daemon=upcalls, handshake_timeout=0.2)
            assert time.monotonic() - began < 5
            assert "in time" in str(error)
            assert not made


async def test_large_certificates(root: Authority, tmp_path: Path) -> None:
    names = ["localhost", *(f"{'x' * 40}.host{number}.example" for number in range(950))]
    issuer = root.intermediate("first").intermediate("second").intermediate("third")
    issued = issuer.issue(names, key_type="rsa3072")
    assert 48 * 1024 < sum(map(len, issued.chain)) < 64 * 1024
    trust = str(root.write(tmp_path / "root.pem"))
    with daemons.running({"big": entry(issued, alpn="h3")}, client={"x509.truststore": trust}) as daemon:
        async with served(daemon, "h3") as (port, _):
            configuration = client_configuration(root, "localhost", "h3")
            async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
                assert shown_certificate(protocol) == issued.chain[0]
                assert await ask(protocol, b"hello") == b"hello"
            async with ours(daemon, port, "h3") as protocol:
                done = connection_of(protocol).handshake
                assert done is not None
                assert done.peer_chain == issued.chain


async def test_nothing_is_left_after_many_handshakes(daemon: Daemon, root: Authority) -> None:
    async with served(daemon, "h3") as (port, made):
        good = client_configuration(root, "localhost", "h3")
        bad = client_configuration(root, "localhost", "gopher")

        async def one(number: int) -> None:
            if number % 10:
                async with aioquic.asyncio.connect(HOST, port, configuration=good) as protocol:
                    await protocol.ping()
            elif number % 20:
                await refusal(aioquic.asyncio.connect, port, configuration=bad)
            else:
                async with ours(daemon, port, "h3") as protocol:
                    await protocol.ping()

        await one(1)
        await asyncio.sleep(0.1)
        before = descriptors()
        for start in range(0, 200, 20):
            await asyncio.gather(*map(one, range(start, start + 20)))
        assert len(made) >= 201  # more on a busy machine: a refused client that repeats itself is taken for a new one
        async with asyncio.timeout(TIMEOUT):
            while descriptors() != before:
                await asyncio.sleep(0.05)
        assert all(connection_of(each).handshake is not None for each in made)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


class _Lossy(asyncio.DatagramProtocol):
    """A UDP relay between one client and a server; each datagram is lost with the same probability."""

    def __init__(self, chance: random.Random, loss: float, target: tuple[str, int]) -> None:
        self.chance, self.loss, self.target = chance, loss, target
        self.client: Any = None
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr != self.target:
            self.client = addr
        if self.chance.random() >= self.loss:
            self.transport.sendto(data, self.client if addr == self.target else self.target)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("daemons_client", [False, True], ids=["aioquic", "daemon"])
async def test_lost_packets(daemon: Daemon, root: Authority, seed: int, daemons_client: bool) -> None:
    async with served(daemon, "h3") as (port, _):
        relay, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Lossy(random.Random(seed), 0.25, (HOST, port)), local_addr=(HOST, 0)
        )
        relayed = relay.get_extra_info("sockname")[1]
        configuration = client_configuration(root, "localhost", "h3")
        connecting = (
            ours(daemon, relayed, "h3")
            if daemons_client
            else aioquic.asyncio.connect(HOST, relayed, configuration=configuration)
        )
        async with asyncio.timeout(30), connecting as protocol:
            assert await ask(protocol, b"x" * 5000) == b"x" * 5000
        relay.close()


async def test_the_keys_can_be_logged(daemon: Daemon, tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w") as mine, (tmp_path / "theirs").open("w") as theirs:
        made = Recorders()
        async with served(daemon, "h3") as (port, _):
            configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost", secrets_log_file=mine)
            async with connect(HOST, port, configuration=configuration, daemon=daemon.socket, create_protocol=made):
                pass
        assert theirs.tell() == 0
    lines = [line.split() for line in (tmp_path / "ours").read_text().splitlines()]
    assert {label for label, _, _ in lines} == {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    }
    assert {len(client_random) for _, client_random, _ in lines} == {64}


def test_another_aioquic_is_refused_with_its_version() -> None:
    script = (
        "from importlib import metadata; version = metadata.version\n"
        "metadata.version = lambda name: '9.0.1' if name == 'aioquic' else version(name)\n"
        "import quic_tlshd.adapters.aioquic"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ImportError: the aioquic adapter is made for aioquic 1.3 to 1.7, and 9.0.1 is installed"
    )


def test_a_function_that_does_not_use_a_name_is_not_the_one_that_was_meant() -> None:
    with pytest.raises(ImportError, match="does not use nothing"):
        rebind(descriptors, nothing=1)
    assert rebind(descriptors, os=os)() == descriptors()
