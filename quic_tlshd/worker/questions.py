"""The engine's questions as messages for the monitor, which has the keys, and its answers as the engine takes them."""

from __future__ import annotations

from quic_tlshd import channel
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.events import Answer, FindPsk, FoundPsk, Question, SealTickets, Sign
from quic_tlshd.tls.ticket import Session, TicketKey


def message_of(id: int, question: Question) -> channel.Question:  # noqa: A002 - the request's field
    if isinstance(question, Sign):
        return channel.Sign(id, question.certificate.id, question.scheme, question.transcript_hash)
    if isinstance(question, FindPsk):
        return channel.FindPsk(id, question.entry, question.identities)
    if isinstance(question, SealTickets):
        return channel.SealTickets(id, question.entry, question.states)
    return channel.ClaimEarlyData(id, question.id)


def answer_of(message: channel.Answer) -> Answer:
    """PeerError(internal_error) if there is no signature to go on with."""
    match message:
        case channel.Signature(_, signature):
            return signature
        case channel.NoSignature(_, reason):
            raise PeerError(AlertDescription.INTERNAL_ERROR, f"the private key can't be used: {reason}")
        case channel.PskAnswer(_, index, psk, state):
            found = psk or Session.decode(state)
            return None if found is None else FoundPsk(index, found)
        case channel.Tickets(_, tickets):
            return tickets
        case channel.EarlyDataAnswer(_, is_new):
            return is_new


def answer_with(secret: bytes, question: FindPsk | SealTickets) -> Answer:
    """What the monitor would answer, where the transport has a ticket key of its own."""
    key = TicketKey(secret)
    if isinstance(question, SealTickets):
        return tuple([key.seal(state, question.entry) for state in question.states])
    for index, identity in enumerate(question.identities):
        state = key.open(identity, question.entry)
        session = None if state is None else Session.decode(state)
        if session is not None:
            return FoundPsk(index, session)
    return None
