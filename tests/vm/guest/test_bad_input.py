"""Requests that make no sense, or whose keys can't be used: an errno that consumers understand, a line in the log that
names the key, and nothing kept."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from netlink.handshake import Accept, AcceptAttribute, AuthMode, MessageType, encode_accept
from netlink.message import encode_attributes
from tests.peers.pki import Authority, Issued
from tests.vm.guest import hsgen, keyring, solo
from tests.vm.guest.handlers import until
from tests.vm.guest.hsgen import Kind, Result
from tests.vm.guest.scenario import handshake
from tests.vm.guest.solo import Solo

MANY = 1000
AT_ONCE = 8
BETWEEN = 0.15  # seconds: refusals are logged ten in a second, and then counted
POSSESSOR_ONLY, NOT_TO_BE_READ = "0x3f000000", "0x3f0b0000"


@dataclass(frozen=True)
class Bad:
    """A request. status, line: of its DONE, and in the log. keys: hsgen's arguments that are serials, by the names of
    `keys`, which may stand in `line` too."""

    status: int
    line: str
    kind: Kind = Kind.SERVER_X509
    keys: Mapping[str, str] = field(default_factory=dict)
    peername: str = "server.test"
    attributes: bytes = b""
    sort: tuple[int, int] = (socket.AF_INET, socket.SOCK_STREAM)


def raw(line: str, message_type: int, auth_mode: int, status: int = errno.EINVAL) -> Bad:
    accept = Accept(message_type=message_type, auth_mode=auth_mode)
    return Bad(status, line, Kind.RAW, attributes=encode_accept(accept))


def malformed(line: str, number: int, payload: bytes) -> Bad:
    return Bad(errno.EINVAL, line, Kind.RAW, attributes=encode_attributes([(number, payload)]))


def pair(status: int, cert: str, privkey: str = "key", line: str = "") -> Bad:
    keys = {"cert": cert, "privkey": privkey}
    return Bad(status, f"certificate {{{cert}:#x}}, key {{{privkey}:#x}}: {line}", Kind.CLIENT_X509, keys)


CASES = {
    "Unix socket": Bad(errno.EINVAL, "is no transport", sort=(socket.AF_UNIX, socket.SOCK_STREAM)),
    "UDP socket": Bad(errno.EINVAL, "is no transport", sort=(socket.AF_INET, socket.SOCK_DGRAM)),
    "no message type": raw("unknown message type 0", MessageType.UNSPEC, AuthMode.X509),
    "unknown message type": raw("unknown message type 3", 3, AuthMode.X509),
    "no auth mode": raw("authentication mode unspec is not for a client", MessageType.CLIENTHELLO, AuthMode.UNSPEC),
    "unknown auth mode": raw("authentication mode 4294967295", MessageType.CLIENTHELLO, 0xFFFFFFFF),
    "server without certificate": raw("mode unauth is not for a server", MessageType.SERVERHELLO, AuthMode.UNAUTH),
    "client without PSK": raw("no pre-shared key", MessageType.CLIENTHELLO, AuthMode.PSK, errno.ENOKEY),
    "malformed timeout": malformed("TIMEOUT", AcceptAttribute.TIMEOUT, b"\1"),
    "malformed name": malformed("PEERNAME", AcceptAttribute.PEERNAME, b"a\nb\0"),
    "malformed certificate": malformed("CERTIFICATE", AcceptAttribute.CERTIFICATE, b"\xff\xff\1\0"),
    "name that is none": Bad(errno.EINVAL, "PEERNAME", Kind.CLIENT_ANON, peername="a b"),
    "certificate that is not there": pair(errno.ENOKEY, "none"),
    "key that is not there": pair(errno.ENOKEY, "certificate", "none"),
    "serial that is special": pair(errno.ENOKEY, "session keyring"),
    "unreadable certificate": pair(errno.EACCES, "unreadable"),
    "unreadable key": pair(errno.EACCES, "certificate", "unreadable"),
    "revoked certificate": pair(errno.ENOKEY, "revoked"),
    "expired certificate": pair(errno.ENOKEY, "expired"),
    "type that can't be read": pair(errno.ENOKEY, "logon"),
    "keyring for a certificate": pair(errno.EINVAL, "ring"),
    "garbage for a certificate": pair(errno.EINVAL, "garbage"),
    "garbage for a key": pair(errno.EINVAL, "certificate", "garbage"),
    "key of another certificate": pair(errno.EINVAL, "certificate", "another's key"),
    "PSK that is not there": Bad(errno.ENOKEY, "key {none:#x}: ", Kind.CLIENT_PSK, {"peerids": "none"}),
    "unreadable PSK": Bad(errno.EACCES, "key {unreadable:#x}: ", Kind.CLIENT_PSK, {"peerids": "unreadable"}),
    "keyring that is not there": Bad(errno.EIO, "KEYRING can't be linked", Kind.SERVER_PSK, {"keyring": "none"}),
    "keyring that is a key": Bad(errno.EIO, "not connected", Kind.SERVER_PSK, {"keyring": "key"}),  # it is linked
}


@pytest.fixture(scope="module")
def keys() -> Iterator[dict[str, int]]:
    """Serials."""
    authority = Authority("keys")
    one, another = authority.issue(("server.test",)), authority.issue(("server.test",))
    payloads = {"certificate": one.chain[0], "key": der(one), "another's key": der(another), "garbage": b"garbage"}
    payloads |= dict.fromkeys(("unreadable", "revoked", "expired"), one.chain[0])
    with keyring.made("bad input") as ring:
        serials = {name: keyring.add("user", name, payload, ring) for name, payload in payloads.items()}
        keyring.keyctl("setperm", str(serials["unreadable"]), POSSESSOR_ONLY)
        keyring.keyctl("revoke", str(serials["revoked"]))
        keyring.keyctl("timeout", str(serials["expired"]), "1")
        logon = int(keyring.keyctl("padd", "logon", "bad:input", str(ring), data=b"secret"))
        keyring.keyctl("setperm", str(logon), NOT_TO_BE_READ)
        time.sleep(2)
        yield {**serials, "ring": ring, "logon": logon, "none": 0x7FFFFFF0, "session keyring": -3}


def der(issued: Issued) -> bytes:
    return issued.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def ask(bad: Bad, keys: Mapping[str, int]) -> Result:
    serials = {name: keys[key] for name, key in bad.keys.items()}
    peerids = (serials.pop("peerids"),) if "peerids" in serials else (0,)
    with solo.new_socket(*bad.sort) as sock:
        return hsgen.run(
            sock.fileno(), bad.kind, bad.peername, 5000, peerids=peerids, attributes=bad.attributes, **serials
        )


@pytest.mark.parametrize("name", CASES)
def test_answer(solo_daemon: Solo, keys: dict[str, int], name: str) -> None:
    """One DONE, with that errno, and one line that says why."""
    bad = CASES[name]
    time.sleep(BETWEEN)
    before = len(solo_daemon.log())
    result = ask(bad, keys)
    # What the kernel ends by itself it ends with a number of the wrong sign.
    assert abs(result.status) == bad.status, result
    assert result.seconds < 2
    (line,) = solo_daemon.daemon.lines_since(before)
    assert bad.line.format_map(keys) in line


def process_keyrings() -> list[str]:
    """How many processes have one, and what is in them."""
    lines = Path("/proc/keys").read_text().splitlines()
    return sorted(line.split(maxsplit=8)[8] for line in lines if " _pid" in line)


def count_of_keys() -> int:
    return len(Path("/proc/keys").read_text().splitlines())


def test_a_thousand(solo_daemon: Solo, keys: dict[str, int]) -> None:
    """Nothing of them is left: no descriptor, no key, no process keyring with something in it."""
    ask(CASES["keyring that is a key"], keys)  # the monitor has its process keyring from now on
    before = solo_daemon.descriptors(), process_keyrings(), count_of_keys()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda bad: ask(bad, keys), islice(cycle(CASES.values()), MANY)))
    lines = [line for line in solo_daemon.log() if " EIO: " in line]
    for (name, bad), result in zip(cycle(CASES.items()), results, strict=False):
        assert abs(result.status) == bad.status, (name, result, lines)
    until(lambda: solo_daemon.descriptors() == before[0], "what was open is closed")
    until(lambda: (process_keyrings(), count_of_keys()) == before[1:], "there are no more keys than before")
    assert set(process_keyrings()) == {"_pid: empty"}
    with solo.connection() as ends:
        assert all(result.succeeded for result in handshake(*ends, Kind.CLIENT_ANON))
