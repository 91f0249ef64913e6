"""The manual pages: their markup, and that quic-tlshd.conf(5) has the keys that there are, no more and no fewer.

What the pages describe, the daemon takes; what the sample files in conf/ show, the pages describe.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from quic_tlshd.control.check import CertificateRow, EntryRow, Report
from quic_tlshd.policy import config, entries
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.ini import load_sections
from quic_tlshd.request import Role
from quic_tlshd.tools import s_client, s_server

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "man").glob("*.[1-8]"))
ENTRY = "entry"  # what the keys of registry entries are gathered under
SERVER_ONLY = {"client_certificate", "mismatch_alert", "tickets", "ticket_lifetime"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_markup(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("there is no mandoc")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    title, section = page.stem, page.suffix.removeprefix(".")
    assert f"\n.Dt {title.upper()} {section}\n" in page.read_text()


def test_there_are_pages() -> None:
    assert {"quic-tlshd.8", "quic-tlshd.conf.5", "quic-tlshdctl.1"} <= {page.name for page in PAGES}


def test_members_of_the_report() -> None:
    page = (REPOSITORY / "man" / "quic-tlshdctl.1").read_text()
    described = [name for item in re.findall(r"(?m)^\.It Ic (.*)$", page) for name in item.split(" , ")]
    assert sorted(described) == sorted(
        field for struct in (Report, EntryRow, CertificateRow) for field in struct.__struct_fields__
    )


@pytest.mark.parametrize("tool", [s_server, s_client], ids=["s_server", "s_client"])
def test_options_of_the_tools(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    page = (REPOSITORY / "man" / "quic-tlshd-tools.1").read_text()
    sections = dict(re.findall(r"(?ms)^\.Ss Options of (\S+)\n(.*?)(?=^\.S[sh])", page))
    described = [
        re.findall(r"\bFl (\S+)", item)
        for name in ("both", tool.__name__.rpartition(".")[2])
        for item in re.findall(r"(?m)^\.It (.*)$", sections[name])
    ]
    with pytest.raises(SystemExit):
        tool.main(["-h"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert {name for names in described for name in names} - {"-help"} == set(re.findall(r"(?<![a-z_])-(\w+)", usage))


def documented() -> dict[str, set[str]]:
    """The keys of every section: the items marked `Ic` below a heading that is one."""
    found: dict[str, set[str]] = {}
    section = None
    for line in (REPOSITORY / "man" / "quic-tlshd.conf.5").read_text().splitlines():
        if heading := re.fullmatch(r"\.S[hs] (.*)", line):
            title = heading[1]
            section = ENTRY if title == "REGISTRY ENTRIES" else title[1:-1] if title.startswith("[") else None
        elif section is not None and (item := re.fullmatch(r"\.It Ic (.*)", line)):
            found.setdefault(section, set()).update(item[1].split(" , "))
    return found


def shown(path: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(section, key) of a sample file, of those too that are commented out."""
    sample = tmp_path / path.name
    sample.write_text(re.sub(r"(?m)^#(?=[a-z0-9._]+=)", "", path.read_text()))
    for section in load_sections(sample):
        for key, _ in section.unknown(()):
            yield section.name.partition(" ")[0], key


def test_keys_of_the_sample_files_are_documented(tmp_path: Path) -> None:
    samples = [REPOSITORY / "conf" / "config", *(REPOSITORY / "conf" / "registry.d").iterdir()]
    found = {pair for path in samples for pair in shown(path, tmp_path)}
    assert {("debug", "loglevel"), ("worker", "count"), (ENTRY, "alpn")} < found
    assert found <= {(section, key) for section, keys in documented().items() for key in keys}


def test_documented_keys_of_the_configuration_exist(tmp_path: Path) -> None:
    file = tmp_path / "config"
    sections = {section: keys for section, keys in documented().items() if section != ENTRY}
    # An empty value is no value, so only the names are judged.
    file.write_text("".join(f"[{name}]\n" + "".join(f"{key}=\n" for key in keys) for name, keys in sections.items()))
    assert config.load(file).warnings == ()
    file.write_text(file.read_text() + "surplus=\n")
    with pytest.raises(ConfigError, match="has no key 'surplus'"):
        config.load(file)


@pytest.mark.parametrize("role", Role)
def test_documented_keys_of_an_entry_exist(tmp_path: Path, role: Role) -> None:
    keys = documented()[ENTRY] - {"role"} - (SERVER_ONLY if role is Role.CLIENT else set())
    (tmp_path / "config").touch()
    (tmp_path / "registry.d").mkdir()
    values = "".join(f"{key}=\n" for key in keys)
    (tmp_path / "registry.d" / "a.conf").write_text(f"[entry a]\nrole={role}\n{values}")
    # Nothing is set: a server lacks its certificate, and a client is what [authenticate.client] stands for.
    with pytest.raises(ConfigError) as caught:
        entries.load(config.load(tmp_path / "config"))
    expected = "needs a certificate" if role is Role.SERVER else "both serve any ALPN"
    assert expected in str(caught.value)
    assert caught.value.others == ()
