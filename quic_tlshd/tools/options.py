"""The command line that s_server and s_client share: OpenSSL's options where it has them, with its spellings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

from quic_tlshd.policy.files import open_private
from quic_tlshd.tls.extensions import MAX_RECORD_SIZE
from quic_tlshd.tls.iana import CipherSuite, NamedGroup, SignatureScheme
from quic_tlshd.tls.parameters import Psk

CodePoint = TypeVar("CodePoint", bound=IntEnum)

_OPENSSL_NAMES: dict[str, IntEnum] = {
    "P-256": NamedGroup.SECP256R1,
    "P-384": NamedGroup.SECP384R1,
    "P-521": NamedGroup.SECP521R1,
    "ECDSA+SHA256": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "ECDSA+SHA384": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "ECDSA+SHA512": SignatureScheme.ECDSA_SECP521R1_SHA512,
    "RSA-PSS+SHA256": SignatureScheme.RSA_PSS_RSAE_SHA256,
    "RSA-PSS+SHA384": SignatureScheme.RSA_PSS_RSAE_SHA384,
    "RSA-PSS+SHA512": SignatureScheme.RSA_PSS_RSAE_SHA512,
    "RSA+SHA256": SignatureScheme.RSA_PKCS1_SHA256,
    "RSA+SHA384": SignatureScheme.RSA_PKCS1_SHA384,
    "RSA+SHA512": SignatureScheme.RSA_PKCS1_SHA512,
}
_MINIMUM_RECORD = 64  # RFC 8449 section 4


def parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser with the options that both have. epilog: printed as it is."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
    )
    add = parser.add_argument
    files: dict[str, Any] = {"type": Path, "action": "append", "default": [], "metavar": "FILE"}
    add("-cert", **files, help="certificate chain (PEM), may be repeated")
    add("-key", **files, help="its private key, if not in the same file")
    add("-CAfile", type=Path, metavar="FILE", help="trusted certificates (PEM); the system's where not given")
    add("-CRL", type=Path, metavar="FILE", help="certificate revocation lists (PEM or DER)")
    add("-noverify", action="store_true", help="take any certificate")
    add("-registry", type=Path, metavar="DIR", help="take certificates and policy from the registry entries in DIR")
    add("-alpn", type=_protocols, default=(), metavar="LIST", help="application protocols, separated by commas")
    add("-groups", type=code_points(NamedGroup), default=(), metavar="LIST", help="separated by colons")
    add("-ciphersuites", type=code_points(CipherSuite), default=(), metavar="LIST", help="separated by colons")
    add(
        "-sigalgs",
        type=code_points(SignatureScheme),
        default=(),
        metavar="LIST",
        help="signature schemes to take and to sign with, separated by colons",
    )
    add("-psk", type=bytes.fromhex, metavar="HEX", help="external pre-shared key")
    add("-psk_identity", default="Client_identity", metavar="NAME", help="its identity (default: %(default)s)")
    add("-psk_hash", choices=("sha256", "sha384"), default="sha256", help="the hash it is for (default: %(default)s)")
    add("-record_size_limit", type=_number(_MINIMUM_RECORD), default=MAX_RECORD_SIZE, metavar="N",
        help="largest record to take (RFC 8449), content and its type")  # fmt: skip
    add("-max_send_frag", type=_number(1), metavar="N", help="bytes of content in a protected record at most")
    add("-record_padding", type=_number(1), default=1, metavar="N", help="pad protected records to multiples of N")
    add("-keylogfile", type=_key_log, metavar="FILE", help="append the secrets of all handshakes (RFC 9850)")
    add("-timeout", type=float, default=30.0, metavar="SECONDS", help="for a handshake, and to wait for data")
    add("-quic_messages", action="store_true", help="the handshake over standard input and output, see below")
    add("-transport_parameters", type=bytes.fromhex, default=b"", metavar="HEX", help="ours, over QUIC")
    add("-quiet", action="store_true", help="say nothing about handshakes that succeed")
    return parser


def psk_of(options: argparse.Namespace) -> Psk | None:
    """The external PSK of the command line."""
    if options.psk is None:
        return None
    return Psk(options.psk_identity.encode(), options.psk, options.psk_hash)


def address(default_host: str) -> Callable[[str], tuple[str, int]]:
    """A parser of [HOST:]PORT; a numeric IPv6 host stands in brackets."""

    def parse(text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        if not port.isdecimal() or int(port) > 0xFFFF:
            raise argparse.ArgumentTypeError(f"{text!r} is not [HOST:]PORT")
        return host.strip("[]") or default_host, int(port)

    return parse


def contents(path: str) -> bytes:
    """What a file has."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None


def _key_log(path: str) -> Callable[[str], object]:
    """What writes a line to the file."""
    try:
        return open(open_private(Path(path)), "a", buffering=1).write
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None


def _number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= MAX_RECORD_SIZE:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {MAX_RECORD_SIZE}")
        return int(text)

    return parse


def _protocols(text: str) -> tuple[bytes, ...]:
    return tuple([name.encode() for name in text.split(",") if name])


def code_points(kind: type[CodePoint]) -> Callable[[str], tuple[CodePoint, ...]]:
    """A parser of a list of IANA names, in any case, or OpenSSL's for the same."""
    known = {member.name: member for member in kind}
    known |= {name: member for name, member in _OPENSSL_NAMES.items() if isinstance(member, kind)}

    def parse(text: str) -> tuple[CodePoint, ...]:
        names = [name.upper() for name in text.split(":") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return tuple([known[name] for name in names])

    return parse
