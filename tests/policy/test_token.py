"""Private keys in PKCS #11 tokens: what they sign, how their URLs are read, and what happens without the token."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quic_tlshd.policy import pkcs11_url
from quic_tlshd.policy.credentials import CredentialError, Pace, load_credential
from quic_tlshd.policy.pkcs11_module import TokenError
from quic_tlshd.policy.token import TokenKey
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.signature import schemes_of, verify
from tests.peers import pki, softhsm

pytestmark = softhsm.quiet
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: see the extra `pkcs11`")
ROOT = pki.Authority("root")


# URLs


def test_a_url_with_everything() -> None:
    text = (
        "pkcs11:token=My%20token;manufacturer=me;model=m;serial=0a;slot-id=3;object=k%C3%A9y;id=%00%3b;type=private"
        "?module-path=/usr/lib/x.so&pin-source=file:/etc/pin"
    )
    url = pkcs11_url.parse(text)
    assert dict(url.token) == {
        "token": "My token",
        "manufacturer": "me",
        "model": "m",
        "serial": "0a",
        "slot-id": "3",
    }
    assert (url.label, url.id, str(url)) == ("kéy", b"\0;", text)
    assert (url.module, url.pin) == (Path("/usr/lib/x.so"), Path("/etc/pin"))


@pytest.mark.parametrize("pin", ["/etc/pin", "file:/etc/pin", "file:///etc/pin", "file:///etc/%70in"])
def test_where_the_pin_is(pin: str) -> None:
    assert pkcs11_url.parse(f"pkcs11:object=a?pin-source={pin}").pin == Path("/etc/pin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pkcs11:", "names no key"),
        ("pkcs11:token=a", "names no key"),
        ("pkcs11:object=a;type=cert", "a private key is needed"),
        ("pkcs11:object=a;object=b", "object twice"),
        ("pkcs11:object=a;colour=red", "has colour, not one of"),
        ("pkcs11:object", "no attribute"),
        ("pkcs11:object=a?pin-value=1234", "use pin-source"),
        ("pkcs11:object=a?module-name=x", "has module-name, not one of"),
        ("pkcs11:object=a?pin-source=pin", "absolute path"),
        ("pkcs11:object=a?pin-source=%7c/bin/askpass", "absolute path"),
        ("pkcs11:object=a?module-path=x.so", "absolute path"),
        ("pkcs11:object=%ff", "can't decode"),
    ],
)
def test_urls_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        pkcs11_url.parse(text)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "joined"),
    [
        (("a.key", "b.key"), ("a.key", "b.key")),
        (("pkcs11:token=a", "object=b", "c.key"), ("pkcs11:token=a;object=b", "c.key")),
        (("pkcs11:token=a", "object=b?pin-source=/x", "id=c"), ("pkcs11:token=a;object=b?pin-source=/x", "id=c")),
        (("pkcs11:object=a", "pkcs11:object=b", "type=private"), ("pkcs11:object=a", "pkcs11:object=b;type=private")),
        (("a.key", "object=b"), ("a.key", "object=b")),
    ],
)
def test_urls_in_a_list(members: tuple[str, ...], joined: tuple[str, ...]) -> None:
    assert pkcs11_url.join(members) == joined


# Tokens


@pytest.fixture
def token() -> Iterator[softhsm.SoftHsm]:
    if softhsm.needed.args[0]:
        pytest.skip(softhsm.needed.kwargs["reason"])
    hsm = softhsm.token()
    yield hsm
    for gone in hsm.folder.glob("gone"):
        gone.rename(hsm.tokens)
    restart()


def restart() -> None:
    """What a service behind a module does when it starts anew, or a card when it is put in again: sessions are gone."""
    library = pkcs11.lib(str(softhsm.MODULES[0]))
    library.reinitialize()


def key(url: str) -> TokenKey:
    return TokenKey(pkcs11_url.parse(url))


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "rsa", "rsa3072", "ed25519", "ed448"])
def test_all_that_it_can_sign(token: softhsm.SoftHsm, key_type: str, tmp_path: Path) -> None:
    issued = ROOT.issue(key_type=key_type, intermediate=True)
    certificate, _ = issued.write(tmp_path, "a")
    credential = load_credential(certificate, pkcs11_url.parse(token.store(issued.private_key)))
    public_key = issued.private_key.public_key()
    assert credential.chain.chain == issued.chain
    assert credential.chain.schemes == schemes_of(public_key)
    assert credential.pace is Pace.ANY
    assert credential.certificate == issued.certificate
    for scheme in credential.chain.schemes:
        for content in (b"", b"content", bytes(1000)):
            verify(public_key, scheme, credential.sign(scheme, content), content)


def test_what_it_can_not_sign(token: softhsm.SoftHsm) -> None:
    issued = ROOT.issue()
    ours = key(token.store(issued.private_key))
    for scheme in (S.RSA_PSS_RSAE_SHA256, S.ED25519, S.MLDSA44, S.RSA_PKCS1_SHA256):
        with pytest.raises(ValueError, match="can't sign"):
            ours.sign(scheme, b"content")
    assert ours.schemes_for(ROOT.issue().certificate) == ()
    assert ours.schemes_for(ROOT.issue(key_type="rsa").certificate) == ()
    assert ours.schemes_for(issued.certificate) == (S.ECDSA_SECP256R1_SHA256,)


def test_the_certificate_is_found_by_its_key(token: softhsm.SoftHsm, tmp_path: Path) -> None:
    issued = ROOT.issue(intermediate=True)
    path = tmp_path / "a.pem"
    path.write_bytes(ROOT.pem + issued.pem)
    url = pkcs11_url.parse(token.store(issued.private_key))
    assert load_credential(path, url).chain.chain == issued.chain
    path.write_bytes(ROOT.pem)
    with pytest.raises(CredentialError, match=r"a\.pem: holds no certificate for the key in pkcs11:") as caught:
        load_credential(path, url)
    assert caught.value.path == path


def test_a_weak_key(token: softhsm.SoftHsm, tmp_path: Path) -> None:
    issued = ROOT.issue(key_type="rsa1024")
    certificate, _ = issued.write(tmp_path, "a")
    with pytest.raises(CredentialError, match="1024 bits"):
        load_credential(certificate, pkcs11_url.parse(token.store(issued.private_key)))


def test_a_session_that_ended_is_opened_anew(token: softhsm.SoftHsm) -> None:
    issued = ROOT.issue()
    ours, theirs = (key(token.store(each)) for each in (issued.private_key, ROOT.issue().private_key))
    for _ in range(2):
        verify(
            issued.private_key.public_key(), S.ECDSA_SECP256R1_SHA256, ours.sign(S.ECDSA_SECP256R1_SHA256, b"x"), b"x"
        )
        theirs.sign(S.ECDSA_SECP256R1_SHA256, b"x")
        restart()


def test_a_token_that_goes_and_comes_back(token: softhsm.SoftHsm) -> None:
    ours = key(token.store(ROOT.issue().private_key))
    ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")
    token.tokens.rename(token.folder / "gone")
    token.tokens.mkdir()
    restart()
    for _ in range(2):
        with pytest.raises(TokenError, match="no token is there that fits"):
            ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")
    shutil.rmtree(token.tokens)
    (token.folder / "gone").rename(token.tokens)
    restart()
    ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")


def test_another_who_is_logged_in_already(token: softhsm.SoftHsm) -> None:
    """A process logs into a token once; here the same token is meant by other words."""
    ours = key(token.store(ROOT.issue().private_key))
    ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")
    other = token.store(ROOT.issue().private_key).replace(
        "pkcs11:token=a%20token", "pkcs11:manufacturer=SoftHSM%20project"
    )
    key(other.replace("pkcs11:", "pkcs11:token=a%20token;")).sign(S.ECDSA_SECP256R1_SHA256, b"x")
    ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("object=absent", "has 0 private keys that fit"),
        ("type=private;id=%99%99", "has 0 private keys that fit"),
    ],
)
def test_keys_that_are_not_there(token: softhsm.SoftHsm, url: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason):
        key(token.url(url)).sign(S.ED25519, b"x")


def test_two_keys_that_fit(token: softhsm.SoftHsm) -> None:
    for _ in range(2):
        file = token.folder / "same.pem"
        file.touch(0o600)
        file.write_bytes(pki.key_pem(pki.generate_key("p256")))
        arguments = ("--token", softhsm.LABEL, "--label", "same", "--pin", softhsm.PIN, "--force", "--id", "ffff")
        subprocess.run(["softhsm2-util", "--import", file, *arguments], check=True, capture_output=True)
        file.unlink()
    with pytest.raises(TokenError, match="has 2 private keys that fit, not one"):
        key(token.url("object=same")).sign(S.ECDSA_SECP256R1_SHA256, b"x")


def test_another_token_and_another_module(token: softhsm.SoftHsm, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="no token is there that fits; there are 'a token'"):
        key(token.url("object=a", token="another")).sign(S.ED25519, b"x")
    with pytest.raises(TokenError, match=r"none\.so can't be used"):
        key(f"pkcs11:object=a?module-path={tmp_path}/none.so").sign(S.ED25519, b"x")
    with pytest.raises(TokenError, match="only public objects are seen"):
        key(f"pkcs11:token=a%20token;object=key%3B1?module-path={softhsm.MODULES[0]}").sign(S.ED25519, b"x")


def test_a_refused_pin_is_tried_once_only(token: softhsm.SoftHsm, tmp_path: Path) -> None:
    """Or three handshakes would lock the token."""
    pin = tmp_path / "pin"
    pin.write_text("wrong")
    pin.chmod(0o600)
    url = token.store(ROOT.issue().private_key).replace(str(token.pin), str(pin))
    restart()
    ours = key(url)
    with pytest.raises(TokenError, match=r"refused the PIN in .* \(PinIncorrect\)"):
        ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")
    for _ in range(3):
        with pytest.raises(TokenError, match="not tried again until it changes"):
            ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")
    pin.write_text(softhsm.PIN)
    ours.sign(S.ECDSA_SECP256R1_SHA256, b"x")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, None])
def test_a_pin_that_others_could_read(token: softhsm.SoftHsm, tmp_path: Path, mode: int | None) -> None:
    pin = tmp_path / "pin"
    if mode is not None:
        pin.write_text(softhsm.PIN)
        pin.chmod(mode)
    url = token.store(ROOT.issue().private_key).replace(str(token.pin), str(pin))
    restart()
    with pytest.raises(TokenError, match=r"PIN can't be read: .*pin: ") as caught:
        key(url).sign(S.ECDSA_SECP256R1_SHA256, b"x")
    assert softhsm.PIN not in str(caught.value)


def test_a_representation_tells_which_key(token: softhsm.SoftHsm) -> None:
    url = token.url("object=a")
    assert repr(key(url)) == f"TokenKey({url!r})"


def test_without_the_library(tmp_path: Path) -> None:
    """As after a plain `pip install quic-tlshd`."""
    (tmp_path / "pkcs11.py").write_text("raise ImportError\n")
    code = (
        "from quic_tlshd.policy.token import TokenKey\n"
        "from quic_tlshd.policy.pkcs11_module import TokenError\n"
        "from quic_tlshd.policy.pkcs11_url import parse\n"
        "try:\n    TokenKey(parse('pkcs11:object=a'))\n"
        "except TokenError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "quic-tlshd[pkcs11]" in result.stdout
