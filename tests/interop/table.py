"""The table of what works with whom: every peer, in both roles, times every scenario."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from string import ascii_lowercase

from quic_tlshd.request import Role
from quic_tlshd.tls.iana import NamedGroup, SignatureScheme
from quic_tlshd.tls.iana import SignatureScheme as S

OK, FAILED = "ok", "FAILED"


@dataclass(frozen=True)
class Scenario:
    """What a handshake is about. group, scheme: the one key exchange, or the server's one signature, that there is."""

    name: str
    group: NamedGroup | None = None
    scheme: SignatureScheme | None = None


FULL = Scenario("full")
RETRY = Scenario("HRR")
RESUMPTION = Scenario("resumption")
EARLY_DATA = Scenario("0-RTT")
CLIENT_CERTIFICATE = Scenario("client cert.")
EXTERNAL_PSK = Scenario("ext. PSK")
BASIC = (FULL, RETRY, RESUMPTION, EARLY_DATA, CLIENT_CERTIFICATE, EXTERNAL_PSK)
GROUPS = tuple([Scenario(group.name.lower(), group=group) for group in NamedGroup])
SCHEMES = tuple(
    [
        Scenario(scheme.name.lower(), scheme=scheme)
        for scheme in SignatureScheme
        if not scheme.name.startswith("RSA_PKCS1")
    ]
)
SCENARIOS = (*BASIC, *GROUPS, *SCHEMES)

KEY_TYPES = {
    S.ECDSA_SECP256R1_SHA256: "p256",
    S.ECDSA_SECP384R1_SHA384: "p384",
    S.ECDSA_SECP521R1_SHA512: "p521",
    S.ED25519: "ed25519",
    S.ED448: "ed448",
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512), "rsa"),
    **dict.fromkeys((S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512), "rsapss"),
    S.MLDSA44: "mldsa44",
    S.MLDSA65: "mldsa65",
    S.MLDSA87: "mldsa87",
}
"""The type of the certificate's key that a scheme needs, as tests.peers.pki names it."""


@dataclass(frozen=True)
class Cell:
    """role: ours."""

    peer: str
    role: Role
    scenario: Scenario

    def __str__(self) -> str:
        return f"{self.peer}-{self.role.value}-{self.scenario.name.replace(' ', '_')}"


class Table:
    """What became of each cell: OK, FAILED, or the reason why it is empty."""

    def __init__(self) -> None:
        self._cells: dict[Cell, str] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def put(self, cell: Cell, outcome: str) -> None:
        self._cells[cell] = outcome

    def lines(self) -> Iterator[str]:
        reasons: dict[str, str] = {}
        for title, columns in (("", BASIC), ("Groups", GROUPS), ("Signatures of the server", SCHEMES)):
            shown = [scenario for scenario in columns if any(cell.scenario == scenario for cell in self._cells)]
            if shown:
                yield ""
                yield from self._block(title, shown, reasons)
        yield ""
        yield from (f"{mark})  {reason}" for reason, mark in reasons.items())
        counts = [list(self._cells.values()).count(outcome) for outcome in (OK, FAILED)]
        yield f"{counts[0]} cells work, {counts[1]} fail, {len(self._cells) - sum(counts)} are empty for a reason"

    def _block(self, title: str, columns: list[Scenario], reasons: dict[str, str]) -> Iterator[str]:
        rows = list(dict.fromkeys((cell.peer, cell.role) for cell in self._cells))
        heads = [_wrapped(scenario.name) for scenario in columns]
        names = [f"{peer}, we are the {role.value}" for peer, role in rows]
        first = max(map(len, [*names, title]))
        widths = [max(map(len, head)) for head in heads]
        for number, parts in enumerate(zip_longest(*heads, fillvalue="")):
            yield _row("" if number else title, parts, first, widths)
        for (peer, role), name in zip(rows, names, strict=True):
            marks = [self._mark(Cell(peer, role, scenario), reasons) for scenario in columns]
            if any(marks):
                yield _row(name, marks, first, widths)

    def _mark(self, cell: Cell, reasons: dict[str, str]) -> str:
        outcome = self._cells.get(cell, "")
        if outcome in (OK, FAILED, ""):
            return outcome
        return reasons.setdefault(outcome, _letters(len(reasons)))


def _wrapped(head: str) -> list[str]:
    """A column's head in lines. ECDSA's hashes go without saying: the curves have but one each in TLS 1.3."""
    words = head.replace("_", " ").split(" ")
    return words[:-1] if words[0] == "ecdsa" else words


def _row(name: str, parts: Iterable[str], first: int, widths: list[int]) -> str:
    cells = [part.ljust(max(width, 3)) for part, width in zip(parts, widths, strict=True)]
    return f"{name.ljust(first)}  {' '.join(cells)}".rstrip()


def _letters(number: int) -> str:
    """a, b, … z, aa, ab, …"""
    high, low = divmod(number, 26)
    return (ascii_lowercase[high - 1] if high else "") + ascii_lowercase[low]
