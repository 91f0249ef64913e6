"""Keys that hold a peer's certificates: what REMOTE_AUTH names to a client's consumer in the kernel.

They are of type `asymmetric`, as tlshd's are, so the kernel can verify with them and describe them, but nobody can read
them out. They are in a keyring of ours, which goes with us, and each expires, so that they do not pile up: a consumer
that wants one for longer links it elsewhere. A certificate that is shown again has the same key for longer.
"""

from __future__ import annotations

import hashlib
import logging
from errno import EKEYEXPIRED, EKEYREVOKED, ENOKEY

import keyctl2
from keyctl2 import Key, KeyctlError, KeyPerm, KeySpec

log = logging.getLogger(__name__)

LIFETIME = 3600  # seconds since the certificate was shown last
MOST = 5  # REMOTE_AUTH attributes that the kernel keeps of a DONE

_KEYRING = "quic-tlshd peers"
_TYPE = "asymmetric"
_POSSESSOR = KeyPerm.POS_VIEW | KeyPerm.POS_READ | KeyPerm.POS_SEARCH | KeyPerm.POS_LINK | KeyPerm.POS_SETATTR
_OWNER = KeyPerm.USR_VIEW | KeyPerm.USR_READ | KeyPerm.USR_SEARCH | KeyPerm.USR_LINK  # root, as a consumer is


def peer_keys(chain: tuple[bytes, ...], name: str) -> tuple[int, ...]:
    """The serials of the keys for a verified chain (DER, the end certificate first) of the server `name`.

    At most MOST. None from the first certificate on that the kernel can't hold: it knows not all kinds of public keys.
    """
    serials = []
    for certificate in chain[:MOST]:
        try:
            serials.append(_key(certificate, name))
        except OSError as error:
            log.debug("no key for certificate %d of %s: %s", len(serials), name, error)
            break
    return tuple(serials)


def _key(certificate: bytes, name: str) -> int:
    description = f"TLS x509 {name} {hashlib.sha256(certificate).hexdigest()[:16]}"
    ring = _keyring()
    try:
        serial = keyctl2.search(ring, _TYPE, description)
    except KeyctlError as error:
        if error.errno not in (ENOKEY, EKEYEXPIRED, EKEYREVOKED):
            raise
        serial = keyctl2.add_key(_TYPE, description, certificate, ring)
        Key(serial).set_perm(_POSSESSOR | _OWNER)
    Key(serial).set_timeout(LIFETIME)
    return serial


def _keyring() -> int:
    """Ours in the session keyring, which Keyrings.open has made our own."""
    try:
        return keyctl2.search(KeySpec.SESSION_KEYRING, "keyring", _KEYRING)
    except KeyctlError:
        return keyctl2.add_key("keyring", _KEYRING, None, KeySpec.SESSION_KEYRING)
