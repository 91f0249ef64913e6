"""The PKCS #11 URI scheme (RFC 7512): which key of which token, by which module, and where its PIN is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

SCHEME = "pkcs11:"

_TOKEN = ("token", "manufacturer", "model", "serial")
_PATH = (*_TOKEN, "object", "id", "type", "slot-id")
_ATTRIBUTE = re.compile(r"[a-z0-9-]+=[^;?&=]*")


@dataclass(frozen=True, slots=True)
class TokenUrl:
    """A private key's URL. text: as it was written, for people.

    token: what must be so of the token: label, manufacturer, model, serial and slot-id, by the attributes' names.
    label, id: of the key; at least one of them. module: the library, None for p11-kit's proxy, which knows those of the
    system. pin: the file of the PIN, None for a token that wants none.
    """

    text: str
    token: frozenset[tuple[str, str]]
    label: str | None
    id: bytes | None
    module: Path | None
    pin: Path | None

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> TokenUrl:
    """ValueError with the reason if it is no URL of a private key, or asks for what is not known here."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    attributes = _attributes(path, ";", _PATH, "path")
    options = _attributes(query, "&", ("pin-source", "module-path"), "query")
    if attributes.get("type", "private") != "private":
        raise ValueError(f"type is {attributes['type']!r}: a private key is needed")
    if not attributes.keys() & {"object", "id"}:
        raise ValueError("it names no key: object or id is needed")
    names = (*_TOKEN, "slot-id")
    return TokenUrl(
        text,
        frozenset((name, unquote(attributes[name], errors="strict")) for name in names if name in attributes),
        unquote(attributes["object"], errors="strict") if "object" in attributes else None,
        unquote_to_bytes(attributes["id"]) if "id" in attributes else None,
        _absolute(options, "module-path"),
        _absolute(options, "pin-source"),
    )


def join(members: tuple[str, ...]) -> tuple[str, ...]:
    """The members of a `;` list, with the URLs among them whole again: their attributes are separated by `;` too."""
    joined: list[str] = []
    for member in members:
        name = member.partition("=")[0]
        if joined and joined[-1].startswith(SCHEME) and "?" not in joined[-1] and name in _PATH:
            joined[-1] += ";" + member
        else:
            joined.append(member)
    return tuple(joined)


def _attributes(text: str, separator: str, known: tuple[str, ...], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for attribute in filter(None, text.split(separator)):
        name, _, value = attribute.partition("=")
        if not _ATTRIBUTE.fullmatch(attribute):
            raise ValueError(f"its {where} has {attribute!r}, which is no attribute")
        if name == "pin-value":
            raise ValueError("a PIN does not belong into a configuration: use pin-source")
        if name not in known:
            raise ValueError(f"its {where} has {name}, not one of {', '.join(known)}")
        if name in found:
            raise ValueError(f"its {where} has {name} twice")
        found[name] = value
    return found


def _absolute(options: dict[str, str], name: str) -> Path | None:
    """A path; for pin-source also as a file: URL, as RFC 7512 section 2.4 has it."""
    if name not in options:
        return None
    path = unquote(options[name], errors="strict").removeprefix("file://").removeprefix("file:")
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{name} is not the absolute path of a file")
    return Path(path)
