"""The configuration file: tlshd's as it is, our sections, and errors that name file, line and reason."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.policy import config
from quic_tlshd.policy.config import ConfigError, KernelUpcalls

CONF = Path(__file__).parents[2] / "conf"

# The layout of /etc/tlshd/config as ktls-utils installs it, with everything switched on.
TLSHD = """\
#
# See tlshd.conf(5) for details.
#

[debug]
loglevel=1
tls=2
nl=3

[authenticate]
keyrings= quic;.nvme;1234567;

[authenticate.client]
x509.truststore= /etc/tlshd/ca.pem
x509.crl= /etc/tlshd/crl.pem
  x509.certificate= /etc/tlshd/client.pem
x509.private_key= client.key
x509.pq.certificate= /etc/tlshd/pq.pem
#x509.pq.private_key= <pathname>

[authenticate.server]
x509.certificate=
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "config"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("names", "served", "others"),
    [("", "", "blue"), ("blue;red", "blue red", "green"), ("all", "blue green", ""), ("blue;", "blue", "red")],
)
def test_network_namespaces(tmp_path: Path, names: str, served: str, others: str) -> None:
    netns = config.load(written(tmp_path, f"[netns]\nnames={names}\n")).netns
    assert all(netns.has(name) for name in served.split())
    assert not any(netns.has(name) for name in others.split())


@pytest.mark.parametrize("names", ["a/b", "..", ".", "blue;all", "/run/netns/blue", "blue;;red"])
def test_what_is_no_network_namespace(tmp_path: Path, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, f"[netns]\nnames={names}\n"))
    assert caught.value.line == 2


def test_tlshd_configuration_works_as_it_is(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, TLSHD))
    assert (loaded.debug.loglevel, loaded.debug.tls, loaded.debug.nl) == (1, 2, 3)
    assert loaded.keyrings == ("quic", "1234567")
    client = loaded.client
    assert client.truststore is not None
    assert client.truststore.path == Path("/etc/tlshd/ca.pem")
    assert client.crl is not None
    assert client.certificate is not None
    assert client.certificate.path == Path("/etc/tlshd/client.pem")
    assert str(client.certificate.source) == f"{tmp_path}/config:16"
    assert client.private_key is not None
    assert client.private_key.path == tmp_path / "client.key"
    assert loaded.server.certificate is None
    assert [(str(certificate.path), str(key.path)) for certificate, key in client.pairs()] == [
        ("/etc/tlshd/pq.pem", "/etc/tlshd/pq.pem"),
        ("/etc/tlshd/client.pem", str(tmp_path / "client.key")),
    ]
    assert loaded.warnings == ()


def test_own_sections(tmp_path: Path) -> None:
    text = (
        "[upcall]\nsocket=/tmp/s\nsocket_mode=0660\nsocket_group=www-data\nkernel=no\n"
        "[worker]\ncount=3\nuser=tlshd\ntimeout.client=2.5\ntimeout.server=1\n[registry]\ndirectory=entries\n"
    )
    loaded = config.load(written(tmp_path, text))
    assert (loaded.upcall.socket, loaded.upcall.socket_mode) == (Path("/tmp/s"), 0o660)
    assert loaded.upcall.socket_group == "www-data"
    assert loaded.upcall.kernel is KernelUpcalls.NO
    assert (loaded.worker.count, loaded.worker.user) == (3, "tlshd")
    assert (loaded.worker.timeout_client, loaded.worker.timeout_server) == (2.5, 1.0)
    assert loaded.registry == tmp_path / "entries"


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x:/run/y")
    loaded = config.load(written(tmp_path, ""))
    assert loaded.upcall.socket == Path("/run/x/handshake.sock")
    assert (loaded.upcall.socket_mode, loaded.upcall.kernel) == (0o600, KernelUpcalls.AUTO)
    assert 1 <= loaded.worker.count <= 64
    assert (loaded.worker.user, loaded.worker.timeout_client, loaded.worker.timeout_server) == (None, 10.0, 5.0)
    assert loaded.registry == Path("/etc/quic-tlshd/registry.d")
    (tmp_path / "registry.d").mkdir()
    assert config.load(tmp_path / "config").registry == tmp_path / "registry.d"


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    monkeypatch.setattr(config, "SEARCH", (ours, theirs))
    assert config.load().path is None
    theirs.write_text("[debug]\nloglevel=7\n")
    assert config.load().debug.loglevel == 7
    ours.write_text("")
    assert config.load().path == ours


def test_sample_loads_and_shows_every_key() -> None:
    loaded = config.load(CONF / "config")
    assert loaded.warnings == ()
    text = (CONF / "config").read_text()
    sections = (*config._TLSHD_KEYS.items(), *config._OWN_KEYS.items())
    for name, keys in sections:
        assert f"\n[{name}]\n" in text
        for key in keys:
            assert f"\n#{key}=" in text


def test_unknown_names(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, "[debug]\ndelay_done=1\n[future]\nx=1\n"))
    assert [str(warned) for warned in loaded.warnings] == [
        f"{tmp_path}/config:2: unknown key 'delay_done' is ignored",
        f"{tmp_path}/config:3: unknown section [future] is ignored",
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[worker]\n\ncounts=3\n", 3, "[worker] has no key 'counts'"),
        ("[worker]\ncount=0\n", 2, "count is 0, not in 1 to 64"),
        ("[worker]\ncount=many\n", 2, "not a whole number"),
        ("[worker]\ntimeout.client=0\n", 2, "not above 0"),
        ("[worker]\ntimeout.client=nan\n", 2, "not above 0"),
        ("[worker]\ntimeout.server=soon\n", 2, "not a number of seconds"),
        ("[upcall]\nsocket_mode=0888\n", 2, "not an octal number"),
        ("[upcall]\nsocket_mode=1777\n", 2, "not in 0 to 777"),
        ("[upcall]\nkernel=maybe\n", 2, "not one of auto, yes, no"),
        ("[debug]\nloglevel=-1\n", 2, "not in 0"),
        ("[authenticate]\nkeyrings=a;;b\n", 2, "empty member"),
        ("[authenticate.server]\nx509.private_key=/k\n", 2, "x509.certificate is not"),
        ("[debug]\nnonsense\n", 2, "unexpected line"),
        ("loglevel=1\n", 1, "no section header"),
        ("[debug]\nloglevel=1\nloglevel=2\n", 3, "duplicate"),
        ("[debug]\nloglevel=1\n[authenticate\n", 2, "neither a section nor a key"),
        ("[debug]\nloglevel=\n[authenticate\n", 2, "neither a section nor a key"),
    ],
)
def test_errors_name_file_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert reason in caught.value.reason
    assert str(caught.value) == f"{path}:{line}: {caught.value.reason}"


def test_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent: No such file"):
        config.load(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"[debug]\n\xff\n")
    with pytest.raises(ConfigError, match=r"binary:2: not UTF-8"):
        config.load(tmp_path / "binary")


@given(st.text(alphabet="[]=;#:\n \tabdeglov.enu0159\x85\u2028", max_size=80))
def test_any_text_loads_or_is_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any-config"
    path.write_text(f"[debug]\n{text}", newline="")
    with suppress(ConfigError):
        assert config.load(path).path == path


def ticket_keys(tmp_path: Path, text: str, mode: int = 0o600) -> tuple[bytes, ...]:
    (tmp_path / "keys").write_text(text)
    (tmp_path / "keys").chmod(mode)
    return config.load(written(tmp_path, "[tickets]\nkeys=keys\n")).ticket_keys


def test_ticket_keys(tmp_path: Path) -> None:
    text = f"# the newest\n{'0a' * 32}\n\n{'0b' * 48}\n"
    assert ticket_keys(tmp_path, text) == (b"\x0a" * 32, b"\x0b" * 48)
    assert config.load(written(tmp_path, "")).ticket_keys == ()
    assert "0a0a" not in repr(config.load(written(tmp_path, "[tickets]\nkeys=keys\n")))


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("", 0o600, "needs a key"),
        ("# none yet\n", 0o600, "needs a key"),
        ("0a" * 31, 0o600, "32 bytes at least"),
        ("0a" * 32 + "\n0b", 0o600, "32 bytes at least"),
        ("secret" * 20, 0o600, "not hexadecimal"),
        ("ü" * 64, 0o600, "not hexadecimal"),
        ("0a" * 32, 0o640, "others may read it"),
        ("0a" * 32, 0o604, "others may read it"),
    ],
)
def test_ticket_keys_that_can_not_be_used(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        ticket_keys(tmp_path, text, mode)
    assert str(refused.value).startswith(f"{tmp_path}/config:2: ")
    assert text not in str(refused.value) or not text


def test_a_file_of_ticket_keys_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(written(tmp_path, "[tickets]\nkeys=nowhere\n"))
