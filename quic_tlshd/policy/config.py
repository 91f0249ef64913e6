"""The daemon's configuration file: tlshd's sections as tlshd.conf(5) describes them, and ours beside them.

An /etc/tlshd/config works as it is. Something unknown in tlshd's sections is warned of, since another version of tlshd
may know it; in ours it is an error, since nobody else's file has them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from quic_tlshd.policy.files import read_private
from quic_tlshd.policy.ini import (
    ConfigError,
    NamedFile,
    NamedUrl,
    Section,
    Source,
    Warned,
    empty_section,
    load_sections,
)

__all__ = [
    "SEARCH",
    "X509",
    "Config",
    "ConfigError",
    "Debug",
    "KernelUpcalls",
    "NamedFile",
    "Netns",
    "Source",
    "Upcall",
    "Warned",
    "Worker",
    "load",
    "runtime_directory",
]

SEARCH = (Path("/etc/quic-tlshd/config"), Path("/etc/tlshd/config"))
REGISTRY_DIRECTORY = Path("/etc/quic-tlshd/registry.d")
_SHORTEST_TICKET_KEY = 32  # bytes
_MAXIMUM_TICKET_KEYS = 64 * 1024  # bytes of their file
ALWAYS_LINKED = (".nvme", ".nfs", ".nfsd")

_X509_KEYS = (
    "x509.truststore",
    "x509.crl",
    "x509.certificate",
    "x509.private_key",
    "x509.pq.certificate",
    "x509.pq.private_key",
)
_TLSHD_KEYS: Mapping[str, tuple[str, ...]] = {
    "debug": ("loglevel", "tls", "nl", "keylog"),
    "authenticate": ("keyrings",),
    "authenticate.client": _X509_KEYS,
    "authenticate.server": _X509_KEYS,
}
_OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    "upcall": ("socket", "socket_mode", "socket_group", "kernel"),
    "netns": ("names",),
    "worker": ("count", "user", "timeout.client", "timeout.server"),
    "registry": ("directory",),
    "tickets": ("keys",),
}


class KernelUpcalls(StrEnum):
    """Whether to listen for the kernel's upcalls: if it can be done, as a must, or not."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Debug:
    """[debug]: how much to log about the daemon, TLS and netlink; 0 is the least. keylog: where the secrets of all
    handshakes go, None for nowhere."""

    loglevel: int = 0
    tls: int = 0
    nl: int = 0
    keylog: NamedFile | None = None


@dataclass(frozen=True, slots=True)
class X509:
    """[authenticate.client] or [authenticate.server]: what verifies the peer and what we show. source: the section."""

    source: Source
    truststore: NamedFile | None = None
    crl: NamedFile | None = None
    certificate: NamedFile | None = None
    private_key: NamedFile | NamedUrl | None = None
    pq_certificate: NamedFile | None = None
    pq_private_key: NamedFile | NamedUrl | None = None

    def pairs(self) -> tuple[tuple[NamedFile, NamedFile | NamedUrl], ...]:
        """Certificates with their keys: the post-quantum one is preferred, as tlshd does."""
        pairs = ((self.pq_certificate, self.pq_private_key), (self.certificate, self.private_key))
        return tuple((certificate, key or certificate) for certificate, key in pairs if certificate is not None)


@dataclass(frozen=True, slots=True)
class Upcall:
    """[upcall]: the user-space upcall socket with its mode and group, and whether the kernel is served too.

    Who may connect may have handshakes done as any entry, so by default that is nobody but the daemon's own user.
    """

    socket: Path
    socket_mode: int = 0o600
    socket_group: str | None = None
    kernel: KernelUpcalls = KernelUpcalls.AUTO


@dataclass(frozen=True, slots=True)
class Netns:
    """[netns]: the network namespaces that are served besides our own, by their names in /run/netns, or all there."""

    names: tuple[str, ...] = ()
    all: bool = False

    def has(self, name: str) -> bool:
        return self.all or name in self.names


@dataclass(frozen=True, slots=True)
class Worker:
    """[worker]: how many, as which user (None: the daemon's own), and the seconds for a request that gives none.

    NFSD waits 5 seconds and the SunRPC client 10 without saying so in the request.
    """

    count: int
    user: str | None = None
    timeout_client: float = 10.0
    timeout_server: float = 5.0


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. path: the file it came from, None for the built-in one.

    keyrings: the auxiliary ones, by name or serial number, those that are always linked left out.
    ticket_keys: secrets that session tickets are sealed with, by the first, and opened; empty to make some up.
    registry: the folder of entries. registry_source: where it was set, None for a default, which need not exist.
    """

    path: Path | None
    debug: Debug
    keyrings: tuple[str, ...]
    client: X509
    server: X509
    upcall: Upcall
    worker: Worker
    registry: Path
    registry_source: Source | None = None
    netns: Netns = Netns()
    ticket_keys: tuple[bytes, ...] = field(default=(), repr=False)
    warnings: tuple[Warned, ...] = field(default=())


def runtime_directory() -> Path:
    """Where sockets live: what systemd made for us, else /run/quic-tlshd, or the user's own for who isn't root."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own, "quic-tlshd") if own and os.geteuid() != 0 else Path("/run/quic-tlshd")


def load(path: Path | None = None) -> Config:
    """Load the named file, else the first of SEARCH that exists, else the built-in configuration."""
    if path is None:
        path = next((candidate for candidate in SEARCH if os.path.exists(candidate)), None)
    # Absolute: a reload must find the same file from wherever the daemon then is.
    path = None if path is None else path.absolute()
    sections = {} if path is None else {section.name: section for section in load_sections(path)}

    def section(name: str) -> Section:
        return sections.get(name) or empty_section(name)

    debug, upcall, worker = section("debug"), section("upcall"), section("worker")
    directory = section("registry").file("directory")
    levels = {key: debug.integer(key, 0, 0, 1_000_000) for key in ("loglevel", "tls", "nl")}
    return Config(
        path=path,
        debug=Debug(**levels, keylog=debug.file("keylog")),
        keyrings=tuple(name for name in section("authenticate").texts("keyrings") if name not in ALWAYS_LINKED),
        client=_x509(section("authenticate.client")),
        server=_x509(section("authenticate.server")),
        upcall=Upcall(
            socket=upcall.path("socket") or runtime_directory() / "handshake.sock",
            socket_mode=upcall.integer("socket_mode", 0o600, 0, 0o777, base=8),
            socket_group=upcall.text("socket_group"),
            kernel=upcall.choice("kernel", KernelUpcalls.AUTO),
        ),
        netns=_netns(section("netns")),
        ticket_keys=_ticket_keys(section("tickets").file("keys")),
        worker=Worker(
            count=worker.integer("count", max(1, min(os.cpu_count() or 1, 64)), 1, 64),
            user=worker.text("user"),
            timeout_client=worker.seconds("timeout.client", 10.0),
            timeout_server=worker.seconds("timeout.server", 5.0),
        ),
        registry=directory.path if directory else _registry_directory(path),
        registry_source=directory.source if directory else None,
        warnings=_check_names(tuple(sections.values())),
    )


def _x509(section: Section) -> X509:
    found = X509(
        section.source,
        section.file("x509.truststore"),
        section.file("x509.crl"),
        section.file("x509.certificate"),
        section.key("x509.private_key"),
        section.file("x509.pq.certificate"),
        section.key("x509.pq.private_key"),
    )
    for kind, certificate, key in (
        ("x509", found.certificate, found.private_key),
        ("x509.pq", found.pq_certificate, found.pq_private_key),
    ):
        if key is not None and certificate is None:
            raise key.source.error(f"{kind}.private_key is set, {kind}.certificate is not")
    return found


def _netns(section: Section) -> Netns:
    names = section.texts("names")
    if names == ("all",):
        return Netns(all=True)
    for name in names:
        # What ip-netns(8) can call one: the name of a file in /run/netns.
        if "/" in name or "\0" in name or name in (".", ".."):
            raise section.source_of("names").error(f"{name!r} can't be a network namespace's name")
        if name == "all":
            raise section.source_of("names").error("all stands alone")
    return Netns(names)


def _ticket_keys(file: NamedFile | None) -> tuple[bytes, ...]:
    """The secrets of a file that nobody but us may read: one a line, in hexadecimal digits."""
    if file is None:
        return ()
    try:
        text = read_private(file.path, _MAXIMUM_TICKET_KEYS).decode("ascii")
        keys = tuple([bytes.fromhex(line) for line in text.splitlines() if line.strip() and not line.startswith("#")])
    except OSError as error:
        raise file.source.error(f"{file.path}: {error.strerror or type(error).__name__}") from None
    except ValueError:
        raise file.source.error(f"{file.path}: not hexadecimal digits") from None
    if not keys or min(map(len, keys)) < _SHORTEST_TICKET_KEY:
        raise file.source.error(f"{file.path}: needs a key, and each {_SHORTEST_TICKET_KEY} bytes at least")
    return keys


def _registry_directory(path: Path | None) -> Path:
    beside = None if path is None else path.parent / "registry.d"
    return beside if beside is not None and os.path.isdir(beside) else REGISTRY_DIRECTORY


def _check_names(sections: tuple[Section, ...]) -> tuple[Warned, ...]:
    warnings: list[Warned] = []
    for section in sections:
        if section.name in _OWN_KEYS:
            section.refuse_unknown(_OWN_KEYS[section.name])
        elif section.name in _TLSHD_KEYS:
            unknown = section.unknown(_TLSHD_KEYS[section.name])
            warnings += [Warned(source, f"unknown key {key!r} is ignored") for key, source in unknown]
        else:
            warnings.append(Warned(section.source, f"unknown section [{section.name}] is ignored"))
    return tuple(warnings)
