"""OCSP responses: which of them say that a certificate is good."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from quic_tlshd.policy.ocsp import MAXIMUM_AGE, MAXIMUM_RESPONSE, check_response
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.tls.alert import AlertDescription, PeerError
from tests.peers import pki
from tests.peers.crafted import DAY, NOW, Crafted, craft
from tests.peers.responder import respond

ROOT = craft("root", ca=True)
END = craft("a.example", ROOT)
SIGNS = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
DELEGATE = craft("responder", ROOT, extensions=[SIGNS])
UNSATISFACTORY = AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE


def check(response: bytes, end: Crafted = END, issuer: Crafted = ROOT, now: datetime = NOW) -> datetime:
    return check_response(response, end.certificate, issuer.certificate, now)


def refusal(response: bytes, end: Crafted = END, issuer: Crafted = ROOT, now: datetime = NOW) -> PeerError:
    with pytest.raises(PeerError) as caught:
        check(response, end, issuer, now)
    return caught.value


@pytest.mark.parametrize("hash_algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA512()])
@pytest.mark.parametrize("identified", list(ocsp.OCSPResponderEncoding))
def test_a_good_response(hash_algorithm: hashes.HashAlgorithm, identified: ocsp.OCSPResponderEncoding) -> None:
    response = respond(END, ROOT, hash_algorithm=hash_algorithm, identified=identified)
    assert check(response) == NOW + 7 * DAY


@pytest.mark.parametrize("key", ["rsa", "p384", "p521", "ed25519", "ed448"])
def test_keys_of_responders(key: str) -> None:
    root = craft("root", ca=True, key=key)
    end = craft("a.example", root)
    check(respond(end, root), end, root)
    delegate = craft("responder", root, key=key, extensions=[SIGNS])
    check(respond(end, root, by=delegate, shown=(delegate,)), end, root)


@pytest.mark.parametrize("identified", list(ocsp.OCSPResponderEncoding))
def test_a_delegates_response(identified: ocsp.OCSPResponderEncoding) -> None:
    check(respond(END, ROOT, by=DELEGATE, shown=(END, DELEGATE), identified=identified))


OTHER = craft("root", ca=True)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(respond(END, ROOT, by=OTHER), id="another of the issuer's name"),
        pytest.param(respond(END, ROOT, by=OTHER, shown=(OTHER,)), id="it shows itself"),
        pytest.param(respond(END, ROOT, by=DELEGATE), id="the delegate is not shown"),
        pytest.param(respond(END, ROOT, by=END, shown=(END,)), id="not made a delegate"),
        *[
            pytest.param(respond(END, ROOT, by=delegate, shown=(delegate,)), id=whose)
            for whose, delegate in {
                "another's delegate": craft("responder", OTHER, extensions=[SIGNS]),
                "an expired delegate": craft("responder", ROOT, extensions=[SIGNS], until=NOW - DAY / 2),
                "a delegate to be": craft("responder", ROOT, extensions=[SIGNS], since=NOW + DAY),
                "a delegate's own delegate": craft("responder", DELEGATE, extensions=[SIGNS]),
                "a delegate with a weak key": craft("responder", ROOT, key="rsa1024", extensions=[SIGNS]),
                "any usage": craft(
                    "responder",
                    ROOT,
                    extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
                ),
                "no usage": craft("responder", ROOT, without=(x509.ExtendedKeyUsage,)),
            }.items()
        ],
    ],
)
def test_responses_of_those_who_may_not(response: bytes) -> None:
    error = refusal(response)
    assert error.alert is UNSATISFACTORY
    assert "not signed by" in error.reason


def test_a_response_for_another() -> None:
    for response, end, issuer in (
        (respond(craft("b.example", ROOT), ROOT), END, ROOT),
        (respond(craft("a.example", OTHER, serial=END.certificate.serial_number), OTHER), END, ROOT),
    ):
        error = refusal(response, end, issuer)
        assert error.alert is UNSATISFACTORY
        assert "is for another" in error.reason


def test_revoked() -> None:
    error = refusal(respond(END, ROOT, status=ocsp.OCSPCertStatus.REVOKED))
    assert error.alert is AlertDescription.CERTIFICATE_REVOKED
    error = refusal(respond(END, ROOT, status=ocsp.OCSPCertStatus.UNKNOWN))
    assert error.alert is UNSATISFACTORY
    assert "does not know it" in error.reason


def test_dates() -> None:
    response = respond(END, ROOT)
    for now, reason in ((NOW + 8 * DAY, "expired on"), (NOW - 2 * DAY, "not valid before")):
        error = refusal(response, now=now)
        assert error.alert is UNSATISFACTORY
        assert reason in error.reason
    check(respond(END, ROOT, since=NOW + timedelta(minutes=1)))  # a responder's clock may be ahead
    forever = respond(END, ROOT, until=None)
    assert check(forever) == NOW - DAY + MAXIMUM_AGE
    assert "expired on" in refusal(forever, now=NOW + MAXIMUM_AGE).reason


def test_a_broken_signature() -> None:
    response = respond(END, ROOT)
    assert "not signed by" in refusal(response[:-1] + bytes([response[-1] ^ 1])).reason


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\x30\x00",
        b"no DER",
        respond(END, ROOT)[:-1],
        ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
        bytes(MAXIMUM_RESPONSE + 1),
        END.der,
    ],
)
def test_what_is_no_response(response: bytes) -> None:
    error = refusal(response)
    assert error.alert is UNSATISFACTORY
    assert "can't be parsed" in error.reason


FUZZED = respond(END, ROOT, by=DELEGATE, shown=(DELEGATE,))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=3), st.integers(0, 5000))
def test_whatever_comes_is_good_or_a_peer_error(edits: list[tuple[int, int]], cut: int) -> None:
    response = bytearray(FUZZED)
    for position, value in edits:
        response[position % len(response)] = value
    if cut < len(response):
        del response[cut:]
    try:
        check(bytes(response))
    except PeerError as error:
        assert error.alert in (UNSATISFACTORY, AlertDescription.CERTIFICATE_REVOKED)  # noqa: PT017


STAPLES = (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
MIDDLE = craft("middle", ROOT, ca=True)
LEAF = craft("a.example", MIDDLE)


def store() -> TrustStore:
    return TrustStore(TrustAnchors("test", (ROOT.der,)))


def test_a_chain_with_responses() -> None:
    trust, chain = store(), (LEAF.der, MIDDLE.der)
    good, above = respond(LEAF, MIDDLE), respond(MIDDLE, ROOT)
    for responses in ((), (good,), (good, above), (b"", above)):
        trust.verify_server(chain, "a.example", NOW, responses)
    revoked = ocsp.OCSPCertStatus.REVOKED
    for responses in (
        (respond(LEAF, MIDDLE, status=revoked), above),
        (good, respond(MIDDLE, ROOT, status=revoked)),
        (b"", respond(MIDDLE, ROOT, status=revoked)),
    ):
        with pytest.raises(PeerError) as caught:
            trust.verify_server(chain, "a.example", NOW, responses)
        assert caught.value.alert is AlertDescription.CERTIFICATE_REVOKED
    with pytest.raises(PeerError) as caught:
        trust.verify_server(chain, "a.example", NOW, (above, good))
    assert caught.value.alert is UNSATISFACTORY


def test_a_remembered_chain_is_bound_to_its_response_and_its_time() -> None:
    trust, chain = store(), (LEAF.der, MIDDLE.der)
    responses = (respond(LEAF, MIDDLE),)
    first = trust.verify_server(chain, "a.example", NOW, responses)
    assert trust.verify_server(chain, "a.example", NOW, responses) is first
    with pytest.raises(PeerError, match="expired"):
        trust.verify_server(chain, "a.example", NOW + 8 * DAY, responses)
    with pytest.raises(PeerError):
        trust.verify_server(chain, "a.example", NOW, (b"another",))


@pytest.mark.parametrize("where", ["end", "issuer"])
def test_a_certificate_that_must_be_stapled(where: str) -> None:
    middle = craft("middle", ROOT, ca=True, extensions=[STAPLES] if where == "issuer" else [])
    end = craft("a.example", middle, extensions=[STAPLES] if where == "end" else [])
    chain = (end.der, middle.der)
    store().verify_server(chain, "a.example", NOW, (respond(end, middle),))
    for responses in ((), (b"",), (b"", respond(middle, ROOT))):
        with pytest.raises(PeerError, match="has to be there") as caught:
            store().verify_server(chain, "a.example", NOW, responses)
        assert caught.value.alert is UNSATISFACTORY
    store().verify_client(chain, NOW)  # which we ask for none


def test_a_certificate_that_is_trusted_itself_needs_no_response() -> None:
    own = craft("a.example", extensions=[STAPLES])
    trust = TrustStore(TrustAnchors("test", (own.der,)))
    trust.verify_server((own.der,), "a.example", NOW)
    trust.verify_server((own.der,), "a.example", NOW, (b"whatever",))


@pytest.mark.parametrize("feature", [x509.TLSFeatureType.status_request_v2])
def test_another_feature_of_tls_asks_for_nothing(feature: x509.TLSFeatureType) -> None:
    end = craft("a.example", ROOT, extensions=[(x509.TLSFeature([feature]), False)])
    store().verify_server((end.der,), "a.example", NOW)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
@pytest.mark.parametrize("key", ["p256", "rsa"])
@pytest.mark.parametrize("revoked", [False, True])
def test_openssls_responses(key: str, revoked: bool, tmp_path: Path) -> None:
    root = craft("root", ca=True, key=key)
    end = craft("a.example", root)
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "root.key").write_bytes(pki.key_pem(root.key))
    (tmp_path / "end.pem").write_bytes(end.pem)
    status, when = ("R", "250101000000Z,keyCompromise") if revoked else ("V", "")
    serial = f"{end.certificate.serial_number:X}"
    (tmp_path / "index").write_text(
        f"{status}\t391231235959Z\t{when}\t{serial.zfill(len(serial) + len(serial) % 2)}\tunknown\t/CN=a.example\n"
    )
    command = ["openssl", "ocsp", "-index", "index", "-CA", "root.pem", "-rsigner", "root.pem", "-rkey", "root.key"]
    command += ["-issuer", "root.pem", "-cert", "end.pem", "-ndays", "2", "-no_nonce", "-respout", "response.der"]
    subprocess.run([*command, "-CAfile", "root.pem"], cwd=tmp_path, check=True, capture_output=True)
    response = (tmp_path / "response.der").read_bytes()
    now = datetime.now(UTC)
    if revoked:
        assert refusal(response, end, root, now).alert is AlertDescription.CERTIFICATE_REVOKED
    else:
        assert check(response, end, root, now) > now + DAY
