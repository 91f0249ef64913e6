"""What a server's monitor answers an engine: signatures, PSKs, tickets, and whether early data is new."""

from __future__ import annotations

import time
from collections.abc import Mapping

from quic_tlshd.monitor.signer import Grant
from quic_tlshd.policy.credentials import Credential
from quic_tlshd.request import Role
from quic_tlshd.tls.events import Answer, ClaimEarlyData, FindPsk, FoundPsk, Question, SealTickets, Sign
from quic_tlshd.tls.parameters import PreSharedKey, Psk
from quic_tlshd.tls.ticket import Session, TicketKeys

_PERIOD = 3600.0  # seconds that a ticket key seals for
_MOST_CLAIMS = 100_000


class Keys:
    """All keys of one side. The ticket keys are made here and end with the process, and so do its tickets."""

    def __init__(self, role: Role, credentials: Mapping[str, Credential], psk: Psk | None) -> None:
        self._role = role
        self._credentials = credentials
        self._psk = psk
        self._tickets = TicketKeys(_PERIOD)
        self._claims: set[bytes] = set()

    def answer(self, question: Question) -> Answer:
        match question:
            case Sign(certificate, scheme, transcript_hash):
                return Grant(self._role, self._credentials).sign(certificate.id, scheme, transcript_hash)
            case FindPsk(entry, identities):
                return self._find(entry, identities)
            case SealTickets(entry, states):
                return tuple([self._tickets.seal(state, entry, time.monotonic()) for state in states])
            case ClaimEarlyData(id):
                return self._claim(id)

    def _find(self, entry: str, identities: tuple[bytes, ...]) -> FoundPsk | None:
        for index, identity in enumerate(identities):
            psk: PreSharedKey | None = None
            if self._psk is not None and identity == self._psk.identity:
                psk = self._psk
            elif (state := self._tickets.open(identity, entry, time.monotonic())) is not None:
                psk = Session.decode(state)
            if psk is not None:
                return FoundPsk(index, psk)
        return None

    def _claim(self, id: bytes) -> bool:  # noqa: A002
        """Whether it is new; when too many came, none is."""
        if id in self._claims or len(self._claims) >= _MOST_CLAIMS:
            return False
        self._claims.add(id)
        return True
