"""The monitor, seen from outside: one DONE per request whatever happens, reloads, and what its workers lack."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from errno import EAGAIN, EBADF, EINVAL, EIO, ENOTSOCK, EOPNOTSUPP, EPROTONOSUPPORT, ETIMEDOUT
from pathlib import Path

import pytest

from netlink.handshake import Accept, AuthMode, Certificate, Done, MessageType
from netlink.upcall import UpcallConnection
from tests.peers import pki, quic_stack
from tests.peers.daemon import Daemon, entry, running

SERVER = Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    root = pki.Authority("test root")
    with running({"h3": entry(root.issue(("localhost",)), alpn="h3")}) as started:
        yield started


async def outcome(daemon: Daemon, accept: Accept, fd: int) -> int:
    async with await UpcallConnection.open(daemon.socket) as connection:
        async with asyncio.timeout(quic_stack.TIMEOUT):
            return (await connection.handshake(accept, fd)).status


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        pytest.param(Accept(message_type=3, auth_mode=AuthMode.X509), EINVAL, id="unknown message type"),
        pytest.param(Accept(message_type=0, auth_mode=AuthMode.X509), EINVAL, id="no message type"),
        pytest.param(Accept(message_type=1, auth_mode=9), EINVAL, id="unknown auth mode"),
        pytest.param(Accept(message_type=2, auth_mode=AuthMode.UNAUTH), EINVAL, id="a server that shows nothing"),
        pytest.param(Accept(message_type=1, auth_mode=AuthMode.PSK), EOPNOTSUPP, id="PSK, not from the kernel"),
        pytest.param(
            Accept(message_type=1, auth_mode=AuthMode.X509, certificates=(Certificate(1, 2),)),
            EOPNOTSUPP,
            id="a keyring's certificate, not from the kernel",
        ),
    ],
)
async def test_a_request_that_makes_no_sense_is_answered_and_logged(
    daemon: Daemon, accept: Accept, status: int
) -> None:
    stack = quic_stack.Stack(b"")
    assert await outcome(daemon, accept, stack.daemons.fileno()) == status
    assert len(daemon.wait_for_log("refused")) == 1
    stack.close()


async def test_what_is_no_socket_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert await outcome(daemon, SERVER, file.fileno()) == ENOTSOCK


async def test_a_socket_that_is_no_transport_is_refused(daemon: Daemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert await outcome(daemon, SERVER, sock.fileno()) == EPROTONOSUPPORT


async def test_a_time_limit_is_kept(daemon: Daemon) -> None:
    stack = quic_stack.Stack(b"")
    began = time.monotonic()
    accept = Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509, timeout=300)
    assert await outcome(daemon, accept, stack.daemons.fileno()) == ETIMEDOUT
    assert 0.3 <= time.monotonic() - began < 2
    stack.close()


async def test_a_transport_that_goes_away_ends_its_handshake(daemon: Daemon) -> None:
    stack = quic_stack.Stack(b"")
    waiting = asyncio.create_task(outcome(daemon, SERVER, stack.daemons.fileno()))
    await asyncio.sleep(0.2)
    stack.close()
    assert await waiting != 0
    daemon.wait_for_log("closed the handshake")


async def test_a_caller_that_goes_away_ends_its_handshake(daemon: Daemon) -> None:
    stack = quic_stack.Stack(b"")
    waiting = asyncio.create_task(outcome(daemon, SERVER, stack.daemons.fileno()))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    daemon.wait_for_log("the request was cancelled")
    stack.close()


async def test_a_hundred_callers_that_go_away_at_once(daemon: Daemon) -> None:
    """Some before their handshake has begun."""
    stacks = [quic_stack.Stack(b"") for _ in range(100)]
    connection = await UpcallConnection.open(daemon.socket)
    waiting = [asyncio.create_task(connection.handshake(SERVER, stack.daemons.fileno())) for stack in stacks]
    await asyncio.sleep(0)
    connection.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    daemon.wait_for_log("the request was cancelled")
    await assert_serves(daemon)
    for stack in stacks:
        stack.close()
    assert not any("given up" in line for line in daemon.log())


async def test_a_worker_that_dies_costs_its_handshakes_an_eio_and_is_replaced(daemon: Daemon) -> None:
    (worker,) = daemon.children
    stack = quic_stack.Stack(b"")
    waiting = asyncio.create_task(outcome(daemon, SERVER, stack.daemons.fileno()))
    await asyncio.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    assert await waiting == EIO
    stack.close()
    await assert_serves(daemon)  # held until there is another worker
    daemon.wait_for_log("took over")
    assert daemon.children != [worker]


async def test_a_worker_that_goes_silent_costs_the_same(daemon: Daemon) -> None:
    (worker,) = daemon.children
    os.kill(worker, signal.SIGSTOP)
    stack = quic_stack.Stack(b"")
    accept = Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509, timeout=100)
    assert await outcome(daemon, accept, stack.daemons.fileno()) == EIO
    stack.close()
    daemon.wait_for_log("took over")
    await assert_serves(daemon)


async def test_the_time_runs_while_no_worker_is_ready(daemon: Daemon) -> None:
    """Held for longer than its time, a request is answered as soon as somebody can, and without being tried."""
    (worker,) = daemon.children
    os.kill(worker, signal.SIGKILL)
    stack = quic_stack.Stack(b"")
    accept = Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509, timeout=1)
    await asyncio.sleep(0.05)
    assert await outcome(daemon, accept, stack.daemons.fileno()) == ETIMEDOUT
    stack.close()
    daemon.wait_for_log("took over")
    await assert_serves(daemon)
    assert sum("given up" in line for line in daemon.log()) == 1


async def assert_serves(daemon: Daemon) -> None:
    """The server's half succeeds in selecting an entry; the client's does not trust it, which is another matter."""
    async with await UpcallConnection.open(daemon.socket) as connection:
        result = await quic_stack.handshake(connection, connection)
    assert result.server.entry == "h3"


async def test_stopping_answers_what_still_runs() -> None:
    root = pki.Authority("test root")
    with running({"h3": entry(root.issue(("localhost",)), alpn="h3")}) as daemon:
        stack = quic_stack.Stack(b"")
        waiting = asyncio.create_task(outcome(daemon, SERVER, stack.daemons.fileno()))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(daemon.stop)
        assert await waiting == EIO
        stack.close()


async def test_a_thousand_bad_requests_leak_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """A process that may open 400 files would not get far; one that leaks says EAGAIN for ever."""
    for pid in (daemon.pid, *daemon.children):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, 400))
    path = tmp_path / "socket"
    async with await UpcallConnection.open(daemon.socket) as connection:
        with (
            (tmp_path / "file").open("wb") as file,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            unix.bind(str(path))
            nothing = os.open(path, os.O_PATH)

            async def bad(number: int) -> None:
                accept = SERVER if number % 5 else Accept(message_type=7, auth_mode=AuthMode.X509)
                done = Done(status=EAGAIN, sockfd=-1)
                while done.status == EAGAIN:  # those before are not closed yet
                    done = await connection.handshake(accept, (file.fileno(), udp.fileno(), nothing)[number % 3])
                assert done.status in (EBADF, EINVAL, ENOTSOCK, EPROTONOSUPPORT), done

            async with asyncio.timeout(120):
                for start in range(0, 1000, 20):
                    await asyncio.gather(*[bad(number) for number in range(start, start + 20)])
            os.close(nothing)
    await assert_serves(daemon)


async def test_a_reload_takes_effect_and_a_bad_one_changes_nothing(daemon: Daemon) -> None:
    conf = daemon.directory / "registry.d" / "h3.conf"
    good = conf.read_text()
    conf.write_text(good.replace("alpn = h3", "alpn = smb"))
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("reloaded")
    async with await UpcallConnection.open(daemon.socket) as connection:
        result = await quic_stack.handshake(connection, connection, alpn=(b"smb",))
        assert result.server.entry == "h3"

        conf.write_text(good + "no_such_key = 1\n")
        os.kill(daemon.pid, signal.SIGHUP)
        (line,) = daemon.wait_for_log("reload refused")
        assert f"{conf}:{len(good.splitlines()) + 1}: " in line
        assert "no_such_key" in line
        result = await quic_stack.handshake(connection, connection, alpn=(b"smb",))
        assert result.server.entry == "h3"


def test_a_worker_has_no_privileges(daemon: Daemon) -> None:
    (worker,) = daemon.children
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0


async def test_no_worker_has_the_key_in_its_memory() -> None:
    issued = pki.Authority("test root").issue(("localhost",))
    secret = issued.private_key.private_numbers().private_value.to_bytes(32, "little")  # type: ignore[union-attr]
    forms = (secret, secret[::-1])
    with running({"h3": entry(issued, alpn="h3")}) as daemon:
        await assert_serves(daemon)
        (worker,) = daemon.children
        if os.geteuid() != 0:  # nobody but root may look, not even the same user
            for pid in (worker, daemon.pid):
                with pytest.raises(PermissionError):
                    memory(pid)
            return
        assert not any(form in memory(worker) for form in forms)
        assert any(form in memory(daemon.pid) for form in forms)  # or the test would prove nothing


def memory(pid: int) -> bytes:
    """All that the process can write to."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as mem, open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            region, permissions = line.split()[:2]
            if permissions.startswith("rw"):
                start, end = (int(part, 16) for part in region.split("-"))
                mem.seek(start)
                try:
                    found.append(mem.read(end - start))
                except OSError:
                    continue  # [vvar] and its like
    return b"".join(found)


def test_a_daemon_that_can_not_start_says_why(tmp_path: Path) -> None:
    import subprocess
    import sys

    config = tmp_path / "config"
    config.write_text("[upcall]\nsocket_mod = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "quic_tlshd", "-c", config], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert f"{config}:2: " in done.stderr
    assert "Traceback" not in done.stderr


# [debug] keylog


async def test_the_key_log_has_the_secrets_of_every_worker(tmp_path: Path) -> None:
    root = pki.Authority("test root")
    log = tmp_path / "keys"
    entries = {"h3": entry(root.issue(("localhost",)), alpn="h3")}
    client = {"x509.truststore": str(root.write(tmp_path / "root.pem"))}
    with running(entries, client=client, worker={"count": "2"}, debug={"keylog": str(log)}) as daemon:
        assert daemon.wait_for_log(f"whoever can read {log} can decrypt all connections")
        async with await UpcallConnection.open(daemon.socket) as connection:
            results = [await quic_stack.handshake(connection, connection) for _ in range(3)]
    assert log.stat().st_mode & 0o7777 == 0o600
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted({label for label, _, _ in lines}) == [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    ]
    assert len(lines) == 3 * 2 * 5
    assert len({random for _, random, _ in lines}) == 3
    for result in results:
        for _, secret in result.client_stack.secrets.values():
            assert [line for line in lines if line[2] == secret.hex()]


def test_a_key_log_that_others_can_read_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    log = tmp_path / "keys"
    log.write_text("")
    log.chmod(0o644)
    config = tmp_path / "config"
    config.write_text(f"[debug]\nkeylog={log}\n[upcall]\nsocket={tmp_path}/s\nkernel=no\n")
    done = subprocess.run(
        [sys.executable, "-m", "quic_tlshd", "-c", config], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert f"{config}:2: keylog: {log}: is there, and not a regular file of our own" in done.stderr


async def test_the_environment_makes_no_key_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    root = pki.Authority("test root")
    client = {"x509.truststore": str(root.write(tmp_path / "root.pem"))}
    with running({"h3": entry(root.issue(("localhost",)), alpn="h3")}, client=client) as daemon:
        async with await UpcallConnection.open(daemon.socket) as connection:
            assert (await quic_stack.handshake(connection, connection)).client.status == 0
    assert not (tmp_path / "keys").exists()
