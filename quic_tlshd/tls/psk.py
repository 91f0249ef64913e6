"""Pre-shared keys: the offer, the binders, and what a server does with them (RFC 8446 section 4.2.11)."""

from __future__ import annotations

from hmac import compare_digest

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.extensions import Extensions, decode_offered_psks, encode_offered_psks
from quic_tlshd.tls.iana import ExtensionType
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data, hash_length
from quic_tlshd.tls.messages import ClientHello
from quic_tlshd.tls.parameters import Psk
from quic_tlshd.tls.transcript import Transcript


def placeholder(psks: tuple[Psk, ...]) -> bytes:
    """The pre_shared_key extension with binders of the right length that are still zeros."""
    identities = tuple([(psk.identity, 0) for psk in psks])  # an external PSK's age is 0
    return encode_offered_psks(identities, tuple([bytes(hash_length(psk.hash_name)) for psk in psks]))


def encode_with_binders(hello: ClientHello, psks: tuple[Psk, ...], transcript: Transcript) -> bytes:
    """The ClientHello's message; its pre_shared_key is `placeholder(psks)`. `transcript`: of all messages before it."""
    message = hello.encode()
    if not psks:
        return message
    binders = [bytes(hash_length(psk.hash_name)) for psk in psks]
    partial = message[: -_binders_length(tuple(binders))]
    bound = [_binder(psk, transcript.digest_with(partial, psk.hash_name)) for psk in psks]
    return partial + encode_offered_psks((), tuple(bound))[2:]


def verify_binder(extensions: Extensions, message: bytes, index: int, psk: Psk, transcript: Transcript) -> None:
    """decrypt_error unless the client proves that it has the key (section 4.2.11.2); nothing else of its hello may be
    believed for the PSK's sake before. `message`: its ClientHello; `transcript`: of all messages before that."""
    _, binders = decode_offered_psks(extensions[ExtensionType.PRE_SHARED_KEY])
    partial = message[: -_binders_length(binders)]
    if not compare_digest(binders[index], _binder(psk, transcript.digest_with(partial, psk.hash_name))):
        raise PeerError(AlertDescription.DECRYPT_ERROR, "the PSK binder is wrong: the client has another key")


def _binder(psk: Psk, transcript_hash: bytes) -> bytes:
    binder_key = EarlySecret.from_psk(psk.hash_name, psk.key).binder_key(external=True)
    return finished_verify_data(psk.hash_name, binder_key, transcript_hash)


def _binders_length(binders: tuple[bytes, ...]) -> int:
    """Of the encoded list at the ClientHello's end, which the binders themselves do not cover."""
    return 2 + sum(1 + len(binder) for binder in binders)
