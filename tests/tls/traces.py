"""The traces of RFC 8448 (tests/vectors/rfc8448.toml) as the engine sees them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.key_exchange import EcdheKeyPair, KeyPair, XdhKeyPair
from tests.tls.playbook import Role

VECTORS = Path(__file__).parent.parent / "vectors"


def _unhex(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: text if key in _TEXTS else _unhex(text) for key, text in value.items()}
    return [_unhex(item) for item in value] if isinstance(value, list) else bytes.fromhex(value)


_TEXTS = {"title", "side", "name", "group"}


@cache
def load(file: str) -> dict[str, Any]:
    """A file of vectors, its hex as bytes."""
    with open(VECTORS / file, "rb") as opened:
        loaded: dict[str, Any] = _unhex(tomllib.load(opened))
    return loaded


class Trace:
    """One section of RFC 8448."""

    def __init__(self, section: str) -> None:
        self.data = load("rfc8448.toml")[section]

    def messages(self, side: Role, name: str = "") -> list[bytes]:
        """What that side sends, in order; only messages of that name, if one is given. A ClientHello that the RFC has
        without its binders is given with them."""
        whole = {
            (message["side"], message["name"]): message["bytes"] for message in self.data.get("whole_messages", ())
        }
        return [
            whole.get((side, message["name"]), message["bytes"])
            for message in self.data["messages"]
            if message["side"] == side and name in message["name"]
        ]

    def secret(self, name: str) -> bytes:
        secret: bytes = self.data["secrets"][name]["secret"]
        return secret

    def key_pairs(self, side: Role) -> Iterator[KeyPair]:
        for entry in self.data["key_pairs"]:
            if entry["side"] != side:
                continue
            pair: KeyPair
            if entry["group"] == "x25519":
                pair = XdhKeyPair(NamedGroup.X25519, X25519PrivateKey.from_private_bytes(entry["private"]))
            else:
                private_key = ec.derive_private_key(int.from_bytes(entry["private"], "big"), ec.SECP256R1())
                pair = EcdheKeyPair(NamedGroup.SECP256R1, private_key)
            assert pair.share == entry["public"]
            yield pair
