"""Files that others renew every few hours, read anew without being told: revocation lists and OCSP responses. Monitor
only.

What can't be read or used leaves in force what was there before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from msgspec.structs import replace as replace_struct

from quic_tlshd.policy.entries import Loaded
from quic_tlshd.policy.files import stamp
from quic_tlshd.policy.ini import NamedFile
from quic_tlshd.policy.pem import FileError, der, load_crls
from quic_tlshd.policy.registry import OcspResponse
from quic_tlshd.policy.stapling import load_response

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds from one look at the files to the next


class Refresher:
    """Looks after the files of `loaded`, which is another after a refresh."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._stamps = dict(loaded.renewed.stamps)
        self._expired: set[OcspResponse] = set()

    def refresh(self, now: datetime) -> bool:
        """Read what has changed; whether `loaded` is another now. It may block, as files do."""
        stamps = {path: stamp(path) for path in self._stamps}
        changed = {path for path, before in self._stamps.items() if stamps[path] != before}
        self._stamps = stamps
        registry, renewed = self.loaded.registry, self.loaded.renewed
        trust, responses = dict(registry.trust), dict(registry.responses)
        for name, file in renewed.crls.items():
            if file.path in changed:
                with _reading(file):
                    trust[name] = replace_struct(trust[name], crls=tuple(map(der, load_crls(file.path))))
        for id, file in renewed.responses.items():  # noqa: A001 - CertificateChain's field
            if file.path in changed:
                with _reading(file):
                    responses[id] = load_response(file.path, self.loaded.credentials[id], now)
            if id in responses:
                self._tell_if_expired(responses[id], file, now)
        if (trust, responses) == (registry.trust, registry.responses):
            return False
        self.loaded = replace(self.loaded, registry=replace_struct(registry, trust=trust, responses=responses))
        return True

    def _tell_if_expired(self, response: OcspResponse, file: NamedFile, now: datetime) -> None:
        if response.until < now.timestamp() and response not in self._expired:
            self._expired.add(response)
            log.warning("%s: %s has expired and is not stapled any more", file.source, file.path)


@contextmanager
def _reading(file: NamedFile) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        log.error("%s: %s; what was there before stays in force", file.source, error)
    else:
        log.info("%s has changed and was read anew", file.path)
