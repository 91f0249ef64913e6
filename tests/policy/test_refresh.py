"""Revocation lists and OCSP responses that are renewed while we run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from quic_tlshd.policy import config
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.entries import Loaded, load
from quic_tlshd.policy.refresh import Refresher
from tests.peers import pki
from tests.peers.crafted import DAY, NOW, Crafted
from tests.peers.responder import respond

ROOT = pki.Authority("root")
MIDDLE = ROOT.intermediate("middle")
ISSUED = MIDDLE.issue(("a.example",))
ISSUER = Crafted(MIDDLE.certificate, MIDDLE.private_key)
END = Crafted(ISSUED.certificate, ISSUED.private_key)
ENTRY = (
    "[entry a]\ncertificate=a.pem\nprivate_key=a.key\nocsp_response=a.ocsp\n"
    "client_certificate=require\ntruststore=ca.pem\ncrl=ca.crl\n"
)


def write(path: Path, content: bytes) -> None:
    """In one step, as those who renew files should."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def crl(*revoked: x509.Certificate) -> bytes:
    return x509.load_der_x509_crl(MIDDLE.crl(*revoked)).public_bytes(Encoding.PEM)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The registry's folder."""
    (tmp_path / "config").write_text(f"[authenticate.client]\nx509.truststore={tmp_path}/registry.d/ca.pem\n")
    registry = tmp_path / "registry.d"
    registry.mkdir()
    ISSUED.write(registry, "a")
    ROOT.write(registry / "ca.pem")
    (registry / "ca.crl").write_bytes(crl())
    (registry / "a.ocsp").write_bytes(respond(END, ISSUER))
    (registry / "a.conf").write_text(ENTRY)
    return registry


def loaded(folder: Path) -> Loaded:
    return load(config.load(folder.parent / "config"), NOW)


def test_what_is_loaded(folder: Path) -> None:
    result = loaded(folder)
    (certificate,) = result.registry.entries[0].certificates
    response = result.registry.responses[certificate.id]
    assert response.der == (folder / "a.ocsp").read_bytes()
    assert response.until == (NOW + 7 * DAY).timestamp()
    assert result.warnings == ()


def test_nothing_happens_where_nothing_has_changed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    refresher = Refresher(loaded(folder))
    before = refresher.loaded
    os.utime(folder / "a.conf")
    (folder / "b.conf").write_text("not even a configuration")
    assert not refresher.refresh(NOW)
    assert refresher.loaded is before
    os.utime(folder / "a.ocsp")
    assert not refresher.refresh(NOW)
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == []


def test_renewed_files_are_read(folder: Path) -> None:
    refresher = Refresher(loaded(folder))
    before = refresher.loaded
    write(folder / "ca.crl", crl(ISSUED.certificate))
    write(folder / "a.ocsp", respond(END, ISSUER, until=NOW + 9 * DAY))
    assert refresher.refresh(NOW)
    after = refresher.loaded
    (entry, _) = after.registry.entries
    assert after.registry.entries == before.registry.entries
    assert after.credentials is before.credentials
    assert after.registry.trust[entry.trust].crls == (MIDDLE_CRL(folder),)
    assert after.registry.trust[entry.trust].certificates == before.registry.trust[entry.trust].certificates
    (response,) = after.registry.responses.values()
    assert response.until == (NOW + 9 * DAY).timestamp()
    assert not refresher.refresh(NOW)


def MIDDLE_CRL(folder: Path) -> bytes:  # noqa: N802
    return x509.load_pem_x509_crl((folder / "ca.crl").read_bytes()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("content", [None, b"", b"half a", crl()[:-30]])
@pytest.mark.parametrize("name", ["ca.crl", "a.ocsp"])
def test_what_can_not_be_used_changes_nothing(
    folder: Path, name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    refresher = Refresher(loaded(folder))
    before, path = refresher.loaded, folder / name
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(2):
        assert not refresher.refresh(NOW)
    assert refresher.loaded is before
    (record,) = caplog.records  # once, not at every look
    assert f"a.conf:{7 if name == 'ca.crl' else 4}" in record.getMessage()
    assert str(path) in record.getMessage()
    assert "stays in force" in record.getMessage()
    write(path, good)
    assert not refresher.refresh(NOW)  # which is what was there before


def test_a_response_that_says_revoked_is_not_stapled_and_neither_is_the_old_one_forever(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refresher = Refresher(loaded(folder))
    write(folder / "a.ocsp", respond(END, ISSUER, status=ocsp.OCSPCertStatus.REVOKED))
    assert not refresher.refresh(NOW)
    assert "is revoked" in caplog.text
    for _ in range(2):
        refresher.refresh(NOW + 8 * DAY)
    assert caplog.text.count("has expired and is not stapled any more") == 1


BAD_RESPONSES = {
    "expired": (respond(END, ISSUER, until=NOW - DAY / 2), "expired on"),
    "revoked": (respond(END, ISSUER, status=ocsp.OCSPCertStatus.REVOKED), "is revoked"),
    "another's": (respond(Crafted(MIDDLE.issue().certificate, None), ISSUER), "is for another"),
    "by another": (respond(END, ISSUER, by=END), "not signed by"),
    "no response": (b"nothing", "can't be parsed"),
}


@pytest.mark.parametrize("which", BAD_RESPONSES)
def test_a_response_that_peers_would_refuse_is_not_stapled(folder: Path, which: str) -> None:
    """And keeps nobody from starting: the next one may be good."""
    content, reason = BAD_RESPONSES[which]
    (folder / "a.ocsp").write_bytes(content)
    result = loaded(folder)
    assert result.registry.responses == {}
    (warned,) = result.warnings
    assert warned.severe
    assert "a.conf:4" in str(warned)
    assert reason in str(warned)
    assert "not stapled" in str(warned)
    refresher = Refresher(result)
    assert not refresher.refresh(NOW)
    write(folder / "a.ocsp", respond(END, ISSUER))
    assert refresher.refresh(NOW)
    assert len(refresher.loaded.registry.responses) == 1


def test_the_issuers_certificate_is_needed(folder: Path) -> None:
    issued = ROOT.issue(("a.example",))
    issued.write(folder, "a")
    root = Crafted(ROOT.certificate, ROOT.private_key)
    (folder / "a.ocsp").write_bytes(respond(Crafted(issued.certificate, None), root))
    (warned,) = loaded(folder).warnings
    assert "lacks the certificate of its issuer" in str(warned)
    (folder / "a.pem").write_bytes(issued.pem + ROOT.pem)
    assert loaded(folder).warnings == ()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (ENTRY.replace("a.ocsp", "absent"), 4, "No such file"),
        (ENTRY.replace("a.ocsp", "a.ocsp;a.ocsp"), 4, "ocsp_response has 2 members, certificate has 1"),
        (ENTRY + ENTRY.replace("a]", "b]\nalpn=b").replace("a.ocsp", "b.ocsp"), 12, "has another OCSP response in"),
    ],
)
def test_errors_name_file_line_and_reason(folder: Path, text: str, line: int, reason: str) -> None:
    (folder / "b.ocsp").write_bytes(respond(END, ISSUER))
    (folder / "a.conf").write_text(text)
    with pytest.raises(ConfigError) as caught:
        loaded(folder)
    assert (caught.value.line, caught.value.path) == (line, folder / "a.conf")
    assert reason in caught.value.reason
