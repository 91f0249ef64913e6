"""Kernel keyrings: pre-shared keys, and the certificates that a kernel consumer names by serial (KERNEL keyrings(7)).

The keyrings of the kernel's consumers and those of the configuration are linked into our session keyring, since only a
possessor may read them. They are looked up by name at use, as they may be made after our start. What comes with
one request (its KEYRING attribute) is searched for that request only.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES, EINVAL, ENOKEY
from pathlib import Path
from re import compile as regex
from time import monotonic

import keyctl2
from cryptography.x509 import load_der_x509_certificate
from keyctl2 import Key, KeySpec

from quic_tlshd.policy.config import ALWAYS_LINKED
from quic_tlshd.policy.credentials import Credential, credential_from_der
from quic_tlshd.tls.parameters import Psk

log = logging.getLogger(__name__)

INTERVAL = 0.1  # seconds between two looks for keyrings that have come, when keys are not found
_PSK_TYPES = ("psk", "user")  # NVMe's own type first
# "NVMe", version, retained or generated, then the hash that the key is for (NVMe TCP transport specification 3.6.1.3).
_NVME_IDENTITY = regex(rb"NVMe[01][RG](01|02) ")
_PROC_KEYS = Path("/proc/keys")
_LINE = regex(r"([0-7][0-9a-f]{7}) ")  # of /proc/keys, which begins with the key's serial


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A PSK and the serial of the key that it is, which the consumer wants to hear of."""

    psk: Psk
    serial: int


class Keyrings:
    """`names`: keyrings by name or serial number, beside those that are always linked. `open` first."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = (*ALWAYS_LINKED, *names)
        self._held: Counter[int] = Counter()  # requests by the keyring that came with them
        self._linked = -INTERVAL  # when the keyrings were looked up

    def use(self, names: tuple[str, ...]) -> None:
        """Those instead, from now on."""
        before, self._names = self._names, (*ALWAYS_LINKED, *names)
        for serial in _keyrings_of(set(before) - set(self._names)):
            with suppress(OSError):
                Key(_signed(serial)).unlink(KeySpec.SESSION_KEYRING)
        self._linked = -INTERVAL

    def open(self) -> None:
        """Have a session keyring of our own, so that nothing that we link is seen or kept by others."""
        try:
            keyctl2.join_session_keyring()
        except OSError as error:
            log.warning("there is no session keyring, so PSKs are not found: %s", error.strerror)

    def psk(self, serial: int) -> FoundKey:
        """The key of that serial; its description is the identity. OSError if it isn't there or isn't ours to read."""
        key = _key(serial)
        identity = os.fsencode(key.describe().description)
        return FoundKey(Psk(identity, self._read(key), hash_of(identity)), serial)

    def find(self, identity: bytes, keyring: int | None) -> FoundKey | None:
        """The key for an identity that a client offers: in `keyring`, the request's own, or in those of the session.

        Only if it isn't there are the keyrings looked up that have come meanwhile: that costs more than all the rest.
        And not for each of the many that a hostile client offers: others wait for it.
        """
        found = self._search(identity, keyring)
        if found is None and monotonic() >= self._linked + INTERVAL:
            self._link()
            found = self._search(identity, keyring)
        return found

    def _search(self, identity: bytes, keyring: int | None) -> FoundKey | None:
        for ring in (KeySpec.SESSION_KEYRING,) if keyring is None else (_signed(keyring), KeySpec.SESSION_KEYRING):
            for kind in _PSK_TYPES:
                # ValueError: a NUL in what should be a name.
                with suppress(OSError, ValueError):
                    found = self.psk(keyctl2.search(ring, kind, os.fsdecode(identity)))
                    if not _is_certificate(found.psk.key):
                        return found
        return None

    def credential(self, certificate: int, private_key: int) -> Credential:
        """The certificate and the private key that these serials hold, both DER. OSError if they can't be used."""
        try:
            return credential_from_der(self._read(_key(certificate)), self._read(_key(private_key)))
        except ValueError as error:
            raise OSError(EINVAL, str(error)) from None

    def hold(self, keyring: int) -> None:
        """A request is there for which ACCEPT has linked that keyring into our process keyring."""
        self._held[keyring] += 1

    def release(self, keyring: int) -> None:
        """We are done with that request. Unlink its keyring, unless another request came with the same."""
        self._held[keyring] -= 1
        if self._held[keyring] > 0:
            return
        del self._held[keyring]
        with suppress(OSError):
            Key(_signed(keyring)).unlink(KeySpec.PROCESS_KEYRING)

    def _read(self, key: Key) -> bytes:
        """What the key holds; the keyrings are looked up only if we don't possess it yet."""
        try:
            return key.read()
        except OSError as error:
            if error.errno != EACCES:
                raise
        self._link()
        return key.read()

    def _link(self) -> None:
        for serial in _keyrings_of(self._names):
            with suppress(OSError):
                Key(_signed(serial)).link(KeySpec.SESSION_KEYRING)
        self._linked = monotonic()


def hash_of(identity: bytes) -> str:
    """The hash that an external PSK is for: an NVMe identity says so, for others it is SHA-256 (RFC 8446 4.2.11)."""
    match = _NVME_IDENTITY.match(identity)
    return "sha384" if match is not None and match[1] == b"02" else "sha256"


def _is_certificate(key: bytes) -> bool:
    """Keyrings hold these too, in keys of type `user`, and they are no secret."""
    try:
        load_der_x509_certificate(key)
    except ValueError:
        return False
    return True


def _keyrings_of(names: Iterable[str]) -> Iterator[int]:
    """The serials that these are, or those of the keyrings with that description, if they are root's or our own user's:
    anybody can give a keyring such a name."""
    try:
        lines = os.fsdecode(_PROC_KEYS.read_bytes()).split("\n")
    except OSError:
        lines = []
    for name in names:
        try:
            yield int(name, 0)
        except ValueError:
            found = [int(match[1], 16) for line in lines if name in line and (match := _LINE.match(line))]
            yield from [serial for serial in found if _is_keyring(serial, name)]


def _is_keyring(serial: int, name: str) -> bool:
    """Asked of the key itself: a description may have any bytes in it, even what looks like a line about another."""
    try:
        found = Key(serial).describe()
    except OSError:
        return False
    return found.type == "keyring" and found.description == name and found.uid in (0, os.geteuid())


def _key(serial: int) -> Key:
    """OSError(ENOKEY) for what is no serial: 0, and the numbers that stand for keyrings of who asks, which are ours."""
    if not 0 < serial < 1 << 31:
        raise OSError(ENOKEY, os.strerror(ENOKEY))
    return Key(serial)


def _signed(serial: int) -> int:
    """A key serial as key_serial_t has it; netlink's attributes are unsigned."""
    return serial - (1 << 32) if serial >= 1 << 31 else serial
