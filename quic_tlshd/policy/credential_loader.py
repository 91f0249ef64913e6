"""Certificates with their keys and OCSP responses, as a configuration names them. Monitor only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from quic_tlshd.policy import pkcs11_url
from quic_tlshd.policy.credentials import Credential, CredentialError, load_credential
from quic_tlshd.policy.files import Stamp, stamp
from quic_tlshd.policy.ini import NamedFile, NamedUrl, Section, Warned
from quic_tlshd.policy.pem import FileError
from quic_tlshd.policy.pkcs11_module import TokenError
from quic_tlshd.policy.pkcs11_url import TokenUrl
from quic_tlshd.policy.registry import OcspResponse
from quic_tlshd.policy.stapling import ResponseError, load_response
from quic_tlshd.tls.parameters import CertificateChain


class CredentialLoader:
    """Loads every credential once, however many entries name it. By CertificateChain.id: credentials, responses and
    response_files, whose stamps these are.

    warnings: what peers would refuse, and what deserves a look.
    """

    def __init__(self, now: datetime) -> None:
        self.credentials: dict[str, Credential] = {}
        self.responses: dict[str, OcspResponse] = {}
        self.response_files: dict[str, NamedFile] = {}
        self.stamps: dict[Path, Stamp] = {}
        self.warnings: list[Warned] = []
        self._now = now
        self._pairs: dict[tuple[Path, Path | TokenUrl], Credential] = {}

    def load_section(self, section: Section) -> tuple[CertificateChain, ...]:
        """What a registry entry shows; ConfigError if any of it can't be used."""
        certificates = section.files("certificate")
        keys, responses = section.keys("private_key"), section.files("ocsp_response")
        for name, members in (("private_key", keys), ("ocsp_response", responses)):
            if members and len(members) != len(certificates):
                reason = f"{name} has {len(members)} members, certificate has {len(certificates)}"
                raise section.source_of(name).error(reason)
        # Without private_key each certificate's file holds the key too.
        chains = tuple(map(self.load, certificates, keys or certificates))
        for chain, response in zip(chains, responses, strict=False):
            self._load_response(chain.id, response)
        return chains

    def load(self, certificate: NamedFile, key: NamedFile | NamedUrl) -> CertificateChain:
        """One certificate with its key; ConfigError if they can't be used."""
        try:
            pair = (certificate.path, key.path if isinstance(key, NamedFile) else pkcs11_url.parse(key.url))
        except ValueError as error:
            raise key.source.error(f"the private key's URL can't be used: {error}") from None
        if pair not in self._pairs:
            try:
                self._pairs[pair] = load_credential(*pair, self._now)
            except CredentialError as error:
                at_fault = certificate if error.path == certificate.path else key
                raise at_fault.source.error(str(error)) from None
            except TokenError as error:
                raise key.source.error(f"{pair[1]}: {error}") from None
            loaded = self._pairs[pair]
            self.warnings += [Warned(certificate.source, reason) for reason in loaded.warnings]
            self.warnings += [Warned(certificate.source, reason, severe=True) for reason in loaded.out_of_date]
        credential = self._pairs[pair]
        self.credentials[credential.chain.id] = credential
        return credential.chain

    def _load_response(self, id: str, file: NamedFile) -> None:  # noqa: A002 - CertificateChain's field
        other = self.response_files.setdefault(id, file)
        if other.path != file.path:
            raise file.source.error(f"the certificate has another OCSP response in {other.source}: {other.path}")
        if other is not file:
            return
        self.stamps[file.path] = stamp(file.path)
        try:
            self.responses[id] = load_response(file.path, self.credentials[id], self._now)
        except ResponseError as error:
            self.warnings.append(Warned(file.source, f"{error}; it is not stapled", severe=True))
        except FileError as error:
            raise file.source.error(str(error)) from None
