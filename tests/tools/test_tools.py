"""s_server and s_client as programs: what goes in and comes out, with each other and with OpenSSL's."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quic_tlshd.endpoint.userspace_protocol import Message, MessageType
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.parameters import Level
from tests.interop.programs import needs
from tests.peers import pki

TIMEOUT = 30.0
ROOT = pki.Authority("a root")
COMPLETE = 255


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    ROOT.write(tmp_path / "root.pem")
    ROOT.issue(("localhost",)).write(tmp_path, "server")
    ROOT.issue(("other.example",), key_type="p384").write(tmp_path, "other")
    ROOT.issue(("client.example",), usage="client").write(tmp_path, "client")
    return {path.name: path for path in tmp_path.iterdir()}


def python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"quic_tlshd.tools.{module}", *map(str, arguments)]


class Server:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    async def says(self, text: str) -> str:
        """The next line on standard error that has it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(TIMEOUT):
            while line := (await self.process.stderr.readline()).decode():
                if text in line:
                    return line
        raise AssertionError(f"it ended without saying {text!r}")


@asynccontextmanager
async def serving(*arguments: object) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        *python("s_server", "-accept", "127.0.0.1:0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"ACCEPT 127\.0\.0\.1:(\d+)\n", line)
        assert match is not None, line
        yield Server(process, int(match[1]))
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGINT)
        await process.communicate()


async def run(command: list[str], given: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def client(server: Server, *arguments: object) -> list[str]:
    return python("s_client", "-connect", f"localhost:{server.port}", *arguments)


async def test_echo(files: dict[str, Path]) -> None:
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-naccept", 2) as server:
        trust = ("-CAfile", files["root.pem"])
        status, out, err = await run(client(server, *trust), b"one\nK\ntwo\nk\nthree\nQ\nfour\n")
        assert (status, out) == (0, "one\ntwo\nthree\n"), err
        assert "ecdsa_secp256r1_sha256, server name 'localhost', 1 certificates" in err
        assert "ecdsa_secp256r1_sha256" in await server.says("TLS_AES_128_GCM_SHA256")
        limits = ("-record_size_limit", 64, "-max_send_frag", 100, "-record_padding", 16, "-quiet")
        status, out, err = await run(client(server, *trust, *limits), b"K\n" * 100_000)
        assert (status, out, err) == (0, "K\n" * 100_000, "")
        assert await server.process.wait() == 0


async def test_a_bad_peer_ends_its_own_connection_only(files: dict[str, Path]) -> None:
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-quiet") as server:
        for bad, line in (
            (b"GET / HTTP/1.0\r\n\r\n", "alert unexpected_message sent: there is no content type 71: is it TLS?"),
            (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", "alert decode_error sent: "),
            (b"\x16\x03", "the peer closed the connection without close_notify"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(bad)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            assert line in await server.says("127.0.0.1 port ")
        assert (await run(client(server, "-CAfile", files["root.pem"]), b"x"))[:2] == (0, "x")


async def test_a_page(files: dict[str, Path]) -> None:
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-www") as server:
        status, out, _ = await run(client(server, "-CAfile", files["root.pem"]), b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = out.partition("\r\n\r\n")
        assert status == 0
        assert head.startswith("HTTP/1.0 200 OK\r\n")
        assert f"Content-Length: {len(body)}" in head
        assert "server name &#x27;localhost&#x27;" in body


async def test_client_certificates(files: dict[str, Path]) -> None:
    ours = ("-cert", files["server.pem"], "-key", files["server.key"], "-Verify", "-CAfile", files["root.pem"])
    async with serving(*ours) as server:
        shown = ("-cert", files["client.pem"], "-key", files["client.key"], "-CAfile", files["root.pem"])
        assert (await run(client(server, *shown), b"x"))[:2] == (0, "x")
        assert "1 certificates of the peer's" in await server.says("TLS_AES")
        status, _, err = await run(client(server, "-CAfile", files["root.pem"]), b"x")
        assert status == 1
        assert "failed: alert certificate_required received" in err
        assert "alert certificate_required sent" in await server.says("failed")


async def test_servers_are_verified(files: dict[str, Path]) -> None:
    async with serving("-cert", files["other.pem"], "-key", files["other.key"], "-quiet") as server:
        status, _, err = await run(client(server, "-CAfile", files["root.pem"]))
        assert status == 1
        assert "failed: alert bad_certificate sent" in err
        named = ("-CAfile", files["root.pem"], "-verify_hostname", "other.example", "-servername", "x.example")
        status, _, err = await run(client(server, *named))
        assert status == 0
        assert "server name 'x.example'" in err
        status, _, err = await run(client(server, "-noverify", "-noservername"))
        assert status == 0
        assert "server name" not in err


async def test_what_is_negotiated(files: dict[str, Path]) -> None:
    both = [
        option
        for name in ("server", "other")
        for option in ("-cert", files[f"{name}.pem"], "-key", files[f"{name}.key"])
    ]
    async with serving(*both, "-alpn", "h3,smb", "-groups", "P-384:x25519") as server:
        wish = ("-alpn", "smb,h3", "-sigalgs", "ECDSA+SHA384", "-ciphersuites", "TLS_AES_256_GCM_SHA384")
        status, _, err = await run(
            client(server, "-noverify", *wish, "-key_shares", "X25519", "-groups", "X25519:P-384")
        )
        assert status == 0, err
        assert "TLS_AES_256_GCM_SHA384, x25519, ecdsa_secp384r1_sha384, ALPN b'h3'" in err
        status, _, err = await run(client(server, "-noverify", "-alpn", "ftp"))
        assert (status, "alert no_application_protocol received" in err) == (1, True)


async def test_registry_entries(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir()
    for name in ("server", "other"):
        (tmp_path / "entries" / f"{name}.conf").write_text(
            f"[entry {name}]\nserver_name={ {'server': 'localhost', 'other': 'other.example'}[name] }\n"
            f"certificate={files[f'{name}.pem']}\nprivate_key={files[f'{name}.key']}\n"
        )
    async with serving("-registry", tmp_path / "entries") as server:
        for name, scheme in (("localhost", "secp256r1"), ("other.example", "secp384r1")):
            wish = ("-CAfile", files["root.pem"], "-verify_hostname", name)
            status, _, err = await run(client(server, *wish))
            assert (status, scheme in err) == (0, True), err


async def test_external_psks() -> None:
    psk = ("-psk_identity", "someone", "-psk", "5a" * 32)
    async with serving(*psk) as server:
        status, _, err = await run(client(server, *psk))
        assert (status, "PSK b'someone'" in err) == (0, True), err
        status, _, err = await run(client(server, "-psk_identity", "someone", "-psk", "5b" * 32))
        assert (status, "alert decrypt_error received" in err) == (1, True), err


async def test_resumption_and_early_data(files: dict[str, Path], tmp_path: Path) -> None:
    session, request = tmp_path / "session", tmp_path / "request"
    request.write_bytes(b"GET / HTTP/1.0\r\n\r\n")
    ours = ("-cert", files["server.pem"], "-key", files["server.key"], "-www")
    async with serving(*ours, "-early_data", "-groups", "X25519") as server:
        command = client(server, "-CAfile", files["root.pem"], "-sess_in", session, "-early_data", request)
        full = client(server, "-CAfile", files["root.pem"], "-sess_out", session)
        assert "1 certificates" in (await run(full, request.read_bytes()))[2]
        assert session.stat().st_mode & 0o777 == 0o600
        for more, said in (
            ((), "resumed with early data"),
            (("-groups", "P-256:X25519", "-key_shares", "P-256"), "x25519, resumed, "),  # a retry refuses it
        ):
            status, out, err = await run([*command, *more])
            assert status == 0, err
            assert said in out, err
            assert said in err
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-www") as server:
        command = client(server, "-CAfile", files["root.pem"], "-sess_in", session, "-early_data", request)
        status, out, err = await run(command)
        assert (status, "resumed" in err) == (0, False)
        assert "<p>TLS_AES" in out  # it was sent again


async def test_no_tickets(files: dict[str, Path], tmp_path: Path) -> None:
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-no_ticket") as server:
        assert (await run(client(server, "-noverify", "-sess_out", tmp_path / "session"), b"x"))[0] == 0
    async with serving("-cert", files["server.pem"], "-key", files["server.key"]) as server:
        assert (await run(client(server, "-noverify", "-no_ticket", "-sess_out", tmp_path / "session"), b"x"))[0] == 0
    assert not (tmp_path / "session").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-cert", "/nowhere.pem"), "/nowhere.pem: No such file"),
        (("-cert", "a", "-cert", "b", "-key", "c"), "-key is to be given as often"),
        (("-registry", "/nowhere"), "/nowhere is not a directory"),
        (("-groups", "X25519:P-1"), "'P-1' is not one of"),
        (("-record_size_limit", "63"), "'63' is not a number from 64"),
        (("-connect", "somewhere"), "not [HOST:]PORT"),
    ],
)
async def test_wrong_usage(arguments: tuple[str, ...], reason: str) -> None:
    status, _, err = await run(python("s_client", *arguments))
    assert status == 2
    assert reason in err
    assert "Traceback" not in err


async def test_nobody_listens() -> None:
    status, _, err = await run(python("s_client", "-connect", "127.0.0.1:1", "-noverify"))
    assert (status, "Traceback" in err) == (1, False)
    assert "Connect call failed" in err


@needs("openssl")
async def test_key_logs(files: dict[str, Path], tmp_path: Path) -> None:
    """What we write is what OpenSSL writes of the same handshake."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shown = ("-cert", files["server.pem"], "-key", files["server.key"], "-keylogfile", ours)
    async with serving(*shown) as server:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-keylogfile", str(theirs), "-tls1_3"]
        await run(command)
        await server.says("TLS_AES")
    lines = [set(path.read_text().splitlines()) for path in (ours, theirs)]
    assert lines[0] == {line for line in lines[1] if not line.startswith("#")}
    assert len(lines[0]) == 5
    ours.chmod(0o644)
    status, _, err = await run(python("s_client", "-keylogfile", ours))
    assert status == 2
    assert "not a regular file of our own" in err


@needs("openssl")
async def test_with_openssl(files: dict[str, Path]) -> None:
    async with serving("-cert", files["server.pem"], "-key", files["server.key"], "-www") as server:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(files["root.pem"])]
        _, out, err = await run([*command, "-verify_return_error", "-ign_eof"], b"GET / HTTP/1.0\r\n\r\n")
        assert "<p>TLS_AES_128_GCM_SHA256, x25519" in out, err
        assert "Verify return code: 0 (ok)" in out


# -quic_messages


class QuicParty:
    """A tool as one side of a QUIC handshake. secrets: by message type and level. alert: what it ended with."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.secrets: dict[tuple[int, Level], bytes] = {}
        self.told: dict[int, bytes] = {}
        self.alert: int | None = None

    @classmethod
    async def start(cls, module: str, *arguments: object) -> QuicParty:
        return cls(
            await asyncio.create_subprocess_exec(
                *python(module, "-quic_messages", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )

    def send(self, message: Message) -> None:
        assert self.process.stdin is not None
        packet = message.encode()
        self.process.stdin.write(struct.pack("!I", len(packet)) + packet)

    async def carry_to(self, peer: QuicParty) -> None:
        """Carry its handshake messages until it is complete or has failed."""
        assert self.process.stdout is not None
        while COMPLETE not in self.told and (head := await self.process.stdout.read(4)):
            (length,) = struct.unpack("!I", head)
            message = Message.decode(await self.process.stdout.readexactly(length))
            if message.type == MessageType.CRYPTO:
                peer.send(message)
            elif message.type in (MessageType.SEND_SECRET, MessageType.RECEIVE_SECRET):
                self.secrets[message.type, message.level] = message.body
            elif message.type == MessageType.ALERT:
                self.alert = message.argument
                peer.send(message)
            else:
                self.told[message.type] = message.body

    async def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.process.wait()


async def quic(files: dict[str, Path], *arguments: object) -> tuple[QuicParty, QuicParty]:
    server = await QuicParty.start(
        "s_server", "-cert", files["server.pem"], "-key", files["server.key"], "-alpn", "h3",
        "-transport_parameters", "0f00",
    )  # fmt: skip
    client = await QuicParty.start(
        "s_client", "-connect", "localhost:443", "-CAfile", files["root.pem"], "-transport_parameters", "0f0101",
        *arguments,
    )  # fmt: skip
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(client.carry_to(server), server.carry_to(client))
    return client, server


async def test_quic(files: dict[str, Path]) -> None:
    client, server = await quic(files, "-alpn", "h3")
    for level in (Level.HANDSHAKE, Level.APP):
        for one, other in ((client, server), (server, client)):
            assert one.secrets[MessageType.SEND_SECRET, level] == other.secrets[MessageType.RECEIVE_SECRET, level]
    assert client.told[MessageType.PEER_TRANSPORT_PARAMETERS] == bytes.fromhex("0f00")
    assert server.told[MessageType.PEER_TRANSPORT_PARAMETERS] == bytes.fromhex("0f0101")
    assert client.told[MessageType.SELECTED_ALPN] == b"h3"
    assert b"ALPN b'h3'" in client.told[COMPLETE]
    assert [await client.end(), await server.end()] == [0, 0]


async def test_quic_that_fails(files: dict[str, Path]) -> None:
    client, server = await quic(files, "-alpn", "ftp")
    assert (client.alert, server.alert) == (None, AlertDescription.NO_APPLICATION_PROTOCOL)
    assert [await client.end(), await server.end()] == [1, 1]
