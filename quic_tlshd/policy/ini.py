"""Sections of `key = value` lines, as GLib's GKeyFile has them, with the line that each came from.

Comments are whole lines that open with `#`; lists are separated by `;`; there are no continuation lines. An empty value
is no value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from iniconfig import IniConfig, ParseError

from quic_tlshd.policy import pkcs11_url
from quic_tlshd.policy.files import read_regular

Choice = TypeVar("Choice", bound=Enum)

MAXIMUM_FILE = 1 << 22  # bytes


class ConfigError(Exception):
    """A configuration that can't be used: which file, which line (counted from 1, None for the whole file) and why.

    others: the further errors of the same configuration, where loading went on to find them.
    """

    def __init__(self, path: Path | None, line: int | None, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path = path
        self.line = line
        self.reason = reason
        self.others: tuple[ConfigError, ...] = ()

    def __str__(self) -> str:
        return f"{Source(self.path, self.line)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a setting was read; no path for what is built in."""

    path: Path | None
    line: int | None = None

    def __str__(self) -> str:
        if self.path is None:
            return "built-in configuration"
        return f"{self.path}" if self.line is None else f"{self.path}:{self.line}"

    def error(self, reason: str) -> ConfigError:
        """The exception that says so of this place."""
        return ConfigError(self.path, self.line, reason)


BUILT_IN = Source(None)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that loads but deserves a look. severe: peers will refuse it, so a check counts it as an error."""

    source: Source
    reason: str
    severe: bool = False

    def __str__(self) -> str:
        return self.reason if self.source is BUILT_IN else f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a setting names, and where it does."""

    path: Path
    source: Source


@dataclass(frozen=True, slots=True)
class NamedUrl:
    """A URL that stands where a file could, and where it does."""

    url: str
    source: Source


class Section:
    """One section. Every reader takes a key and gives its value or the default; ConfigError names the key's line."""

    def __init__(self, name: str, source: Source, values: dict[str, tuple[str, Source]]) -> None:
        self.name = name
        self.source = source
        self._values = {key: value for key, value in values.items() if value[0]}
        self._keys = {key: source for key, (_, source) in values.items()}

    def unknown(self, known: Iterable[str]) -> tuple[tuple[str, Source], ...]:
        """The keys that are not among `known`."""
        return tuple((key, source) for key, source in self._keys.items() if key not in set(known))

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """ConfigError for the first key that is not among `known`: a misspelt key must not be a silent default."""
        for key, source in self.unknown(known):
            raise source.error(f"[{self.name}] has no key {key!r}")

    def source_of(self, key: str) -> Source:
        """Where the key is, or where the section opens if it is absent."""
        return self._keys.get(key, self.source)

    def text(self, key: str) -> str | None:
        """The value as it stands."""
        return self._values[key][0] if key in self._values else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A `;` list; a `;` at the end is allowed, as GKeyFile writes one, an empty member elsewhere is not."""
        value = self.text(key)
        if value is None:
            return ()
        members = [member.strip() for member in value.removesuffix(";").split(";")]
        if "" in members:
            raise self.source_of(key).error(f"{key} has an empty member")
        return tuple(members)

    def integer(self, key: str, default: int, low: int, high: int, *, base: int = 10) -> int:
        """A whole number from low to high."""
        value = self.text(key)
        if value is None:
            return default
        try:
            number = int(value, base)
        except ValueError:
            kind = "an octal number" if base == 8 else "a whole number"
            raise self.source_of(key).error(f"{key} is {value!r}, not {kind}") from None
        if not low <= number <= high:
            span = f"{low:o} to {high:o}" if base == 8 else f"{low} to {high}"
            raise self.source_of(key).error(f"{key} is {value}, not in {span}")
        return number

    def seconds(self, key: str, default: float, high: float = 3600.0) -> float:
        """A time in seconds, above 0 and up to `high`."""
        value = self.text(key)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            raise self.source_of(key).error(f"{key} is {value!r}, not a number of seconds") from None
        if not 0 < number <= high:
            raise self.source_of(key).error(f"{key} is {value}, not above 0 and up to {high:g} seconds")
        return number

    def choice(self, key: str, default: Choice) -> Choice:
        """One of the values of the default's enum."""
        value = self.text(key)
        if value is None:
            return default
        try:
            return type(default)(value)
        except ValueError:
            words = ", ".join(str(member.value) for member in type(default))
            raise self.source_of(key).error(f"{key} is {value!r}, not one of {words}") from None

    def path(self, key: str) -> Path | None:
        """A path; a relative one is seen from the folder of the file that holds it."""
        value = self.text(key)
        return None if value is None else self._resolve(value)

    def file(self, key: str) -> NamedFile | None:
        """A path with its source, see `path`."""
        value = self.path(key)
        return None if value is None else NamedFile(value, self.source_of(key))

    def files(self, key: str) -> tuple[NamedFile, ...]:
        """A `;` list of paths."""
        return tuple(NamedFile(self._resolve(value), self.source_of(key)) for value in self.texts(key))

    def key(self, key: str) -> NamedFile | NamedUrl | None:
        """A private key: a path, see `path`, or its URL in a token."""
        value = self.text(key)
        return None if value is None else self._locate(key, value)

    def keys(self, key: str) -> tuple[NamedFile | NamedUrl, ...]:
        """A `;` list of private keys."""
        return tuple(self._locate(key, value) for value in pkcs11_url.join(self.texts(key)))

    def _locate(self, key: str, value: str) -> NamedFile | NamedUrl:
        source = self.source_of(key)
        return (
            NamedUrl(value, source) if value.startswith(pkcs11_url.SCHEME) else NamedFile(self._resolve(value), source)
        )

    def _resolve(self, value: str) -> Path:
        if "\0" in value:
            raise self.source.error("a path can't hold a NUL")
        folder = self.source.path.parent if self.source.path else Path()
        return folder / value


def load_sections(path: Path) -> tuple[Section, ...]:
    """The sections of a file in their order; ConfigError if it can't be read or understood."""
    try:
        # A line may end with CR LF or CR too.
        text = read_regular(path, MAXIMUM_FILE).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ConfigError(path, None, error.strerror or type(error).__name__) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, error.object.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None
    # GKeyFile ignores what a line is indented by; to iniconfig it would continue the value before.
    flush = "\n".join(line.lstrip() for line in text.split("\n"))
    try:
        parsed = IniConfig.parse(path, flush, strip_inline_comments=False)
    except ParseError as error:
        raise ConfigError(path, error.lineno + 1, error.msg) from None
    return tuple(_section(parsed, path, name) for name in parsed.sections)


def empty_section(name: str) -> Section:
    """A section of which nothing is set."""
    return Section(name, BUILT_IN, {})


def _section(parsed: IniConfig, path: Path, name: str) -> Section:
    values = {}
    for key, value in parsed.sections[name].items():
        source = Source(path, parsed.lineof(name, key))
        if "\n" in value or value.startswith("["):
            # iniconfig takes a section line without its closing bracket for more of the value above it.
            raise source.error(f"the line after {key} is neither a section nor a key")
        values[key] = (value, source)
    return Section(name, Source(path, parsed.lineof(name)), values)
