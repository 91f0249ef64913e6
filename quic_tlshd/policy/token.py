"""Private keys in PKCS #11 tokens: cards, HSMs, a TPM through tpm2-pkcs11. Monitor only; needs the extra `pkcs11`.

A token may be slow, hang, go and come back: calls block, and one that fails is tried once more with a new session. A
PIN that the token did not take is not tried again before its file has changed, or the token would lock up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from quic_tlshd.policy.files import Stamp, read_private, stamp
from quic_tlshd.policy.pkcs11_module import Module, TokenError, module, reason
from quic_tlshd.policy.pkcs11_url import TokenUrl
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.signature import pss_schemes, schemes_of, verify

try:
    import pkcs11
    from pkcs11 import MGF, Attribute, Mechanism, ObjectClass
except ImportError:
    pass  # `module` says so before anything of it is used

MAXIMUM_PIN = 256  # bytes
_PROBE = b"quic-tlshd asks whether this is the certificate's key"

T = TypeVar("T")

_DIGESTS = {256: sha256, 384: sha384, 512: sha512}
_BITS = {
    S.ECDSA_SECP256R1_SHA256: 256,
    S.ECDSA_SECP384R1_SHA384: 384,
    S.ECDSA_SECP521R1_SHA512: 512,
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_PSS_SHA256), 256),
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_PSS_SHA384), 384),
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_PSS_SHA512), 512),
}

_KEY_TYPES = {"ECDSA": "EC", "ED25519": "EC_EDWARDS", "ED448": "EC_EDWARDS", "RSA": "RSA"}


class TokenKey:
    """A private key in a token. Find out with `schemes_for` whose certificate's it is."""

    def __init__(self, url: TokenUrl) -> None:
        self._url = url
        self._token = _token(url.module, url.token, url.pin)

    def __repr__(self) -> str:
        return f"TokenKey({self._url.text!r})"

    def schemes_for(self, certificate: x509.Certificate) -> tuple[S, ...]:
        """The schemes by which the token signs what the certificate's key verifies: () if that is of another key.

        TokenError if the token can't be asked.
        """
        proven = self._token.proven.get((self._url, certificate))
        if proven is not None:
            return proven
        pss = pss_schemes(certificate)
        found: list[S] = []
        fault: TokenError | None = None
        for scheme in schemes_of(certificate.public_key(), pss):
            try:
                if self._signs(scheme, certificate, pss):
                    found.append(scheme)
            except TokenError as error:  # which may be all that a module says of what it can't do
                fault = error
        if not found and fault is not None:
            raise fault
        if found:
            self._token.proven[self._url, certificate] = tuple(found)
        return tuple(found)

    def sign(self, scheme: S, content: bytes) -> bytes:
        """As `tls.signature.sign`. TokenError if the token can't be used now, ValueError if it never could."""
        return self._token.use(self._url, lambda key: _sign(key, scheme, content))

    def _signs(self, scheme: S, certificate: x509.Certificate, pss: tuple[S, ...]) -> bool:
        try:
            signature = self.sign(scheme, _PROBE)
            verify(certificate.public_key(), scheme, signature, _PROBE, pss)
        except (ValueError, PeerError):
            return False
        return True


@cache
def _token(path: Path | None, wanted: frozenset[tuple[str, str]], pin: Path | None) -> _Token:
    """One for all keys and all reloads: a process logs into a token once."""
    return _Token(module(path), dict(wanted), pin)


class _Token:
    """A token and our session with it. proven: what is known of a key and a certificate, for a TPM takes its time."""

    def __init__(self, of: Module, wanted: dict[str, str], pin: Path | None) -> None:
        self.proven: dict[tuple[TokenUrl, x509.Certificate], tuple[S, ...]] = {}
        self._module = of
        self._wanted = wanted
        self._pin = pin
        self._refused_pin: Stamp = None
        self._session: Any = None
        self._start = 0  # the module's, that the session is of
        self._keys: dict[TokenUrl, Any] = {}

    def use(self, url: TokenUrl, operate: Callable[[Any], T]) -> T:
        """What the operation on the key gives. TokenError if it can't be done now."""
        with self._module.alone():
            return self._use(url, operate)

    def _use(self, url: TokenUrl, operate: Callable[[Any], T]) -> T:
        if self._start != self._module.starts:
            self._session = None
        had_session = self._session is not None
        try:
            return operate(self._key(url))
        except (pkcs11.MechanismInvalid, pkcs11.MechanismParamInvalid, pkcs11.KeyTypeInconsistent) as error:
            raise ValueError(f"the token can't do that ({reason(error)})") from None
        except pkcs11.PKCS11Error as error:
            self._forget()
            if not had_session:
                raise TokenError(f"the token failed ({reason(error)})") from None
        # The session may have been an old one: the token was taken out, or its service has started anew.
        return self._use(url, operate)

    def _key(self, url: TokenUrl) -> Any:
        if self._session is None:
            self._keys.clear()
            self._session = self._log_in(self._find_token())
            self._start = self._module.starts
        if url not in self._keys:
            self._keys[url] = self._find_key(url)
        return self._keys[url]

    def _find_token(self) -> Any:
        tokens = self._module.tokens()
        found = list(filter(self._is_wanted, tokens))
        if not found and self._module.restart():
            tokens = self._module.tokens()
            found = list(filter(self._is_wanted, tokens))
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} tokens fit" if found else "no token is there that fits"
        shown = ["one that can't be read" if token is None else repr(token.label) for token in tokens]
        raise TokenError(f"{what}; there are {', '.join(shown) or 'none'}")

    def _is_wanted(self, token: Any) -> bool:
        if token is None:
            return False
        serial = token.serial.decode("latin-1") if isinstance(token.serial, bytes) else token.serial
        facts = {
            "token": token.label,
            "manufacturer": token.manufacturer_id,
            "model": token.model,
            "serial": serial,
            "slot-id": str(token.slot.slot_id),
        }
        return all(facts[name] == value for name, value in self._wanted.items())

    def _log_in(self, token: Any) -> Any:
        if self._pin is None:
            return token.open()
        current = stamp(self._pin)
        if current is not None and current == self._refused_pin:
            raise TokenError(f"the token refused the PIN in {self._pin}, which is not tried again until it changes")
        try:
            pin = read_private(self._pin, MAXIMUM_PIN).decode().rstrip("\r\n")
        except OSError as error:
            raise TokenError(f"the PIN can't be read: {self._pin}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenError(f"the PIN can't be read: {self._pin}: not UTF-8") from None
        try:
            return token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()
        except (
            pkcs11.PinIncorrect,
            pkcs11.PinInvalid,
            pkcs11.PinLenRange,
            pkcs11.PinLocked,
            pkcs11.PinExpired,
        ) as error:
            self._refused_pin = current
            raise TokenError(f"the token refused the PIN in {self._pin} ({reason(error)})") from None

    def _find_key(self, url: TokenUrl) -> Any:
        template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if url.label is not None:
            template[Attribute.LABEL] = url.label
        if url.id is not None:
            template[Attribute.ID] = url.id
        found = list(self._session.get_objects(template))
        if len(found) != 1:
            hint = "" if found or self._pin is not None else "; without pin-source only public objects are seen"
            raise TokenError(f"the token has {len(found)} private keys that fit, not one{hint}")
        return found[0]

    def _forget(self) -> None:
        session, self._session = self._session, None
        try:
            if session is not None:
                session.close()
        except pkcs11.PKCS11Error:
            pass  # it was gone already


def _sign(key: Any, scheme: S, content: bytes) -> bytes:
    bits = _BITS.get(scheme)
    # There are modules that crash if a key is of another type than the mechanism.
    if _KEY_TYPES.get(scheme.name.partition("_")[0]) != key.key_type.name:
        raise ValueError(f"this key can't sign {scheme.name.lower()}")
    if bits is None:
        return bytes(key.sign(content, mechanism=Mechanism.EDDSA))
    digest = _DIGESTS[bits](content).digest()
    if scheme.name.startswith("ECDSA"):
        # r and s, each as long as the curve's order (PKCS #11 section 6.3.1).
        raw = key.sign(digest, mechanism=Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
    parameters = (Mechanism[f"SHA{bits}"], MGF[f"SHA{bits}"], bits // 8)
    return bytes(key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters))
