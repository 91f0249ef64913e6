"""Attributes as dataclass fields: a message's table says which, and both directions follow it.

An attribute's payload is decoded to its field's value or refused with a ValueError (struct.error for a wrong size),
which `encode_fields` and `decode_fields` turn into a MalformedMessage that names the attribute.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from netlink.message import MalformedMessage, encode_attributes, split_attributes

MAX_REPEATS = 255  # of one attribute in one message; the kernel itself keeps 5 key serials


@dataclass(frozen=True, slots=True)
class Field:
    """How one attribute is a dataclass field."""

    attribute: IntEnum
    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    absent: int | None = None  # the value that is said by leaving the attribute out
    repeats: bool = False  # the field is a tuple, one attribute for each member
    flags: int = 0  # of nla_type


class Table(dict[int, Field]):
    """The fields of one message by nla_type, in the order in which they are written."""

    def __init__(self, *fields: Field) -> None:
        super().__init__((field.attribute, field) for field in fields)


def integer(attribute: IntEnum, name: str, layout: str, *, most: int | None = None, **rest: Any) -> Field:
    """A fixed-size integer of a struct `layout`, at most `most`."""
    pack, unpack = struct.Struct(layout).pack, struct.Struct(layout).unpack

    def check(value: int) -> int:
        if most is not None and value > most:
            raise ValueError(f"{value} is more than {most}")
        return value

    return Field(attribute, name, lambda value: pack(check(value)), lambda payload: check(unpack(payload)[0]), **rest)


def binary(attribute: IntEnum, name: str, *, most: int, **rest: Any) -> Field:
    """1 to `most` bytes."""

    def check(payload: bytes) -> bytes:
        if not 1 <= len(payload) <= most:
            raise ValueError(f"{len(payload)} bytes, must be 1 to {most}")
        return payload

    return Field(attribute, name, check, check, **rest)


def string(attribute: IntEnum, name: str, **rest: Any) -> Field:
    """UTF-8, ended by its only NUL (NLA_NUL_STRING)."""
    return Field(attribute, name, _encode_string, _decode_string, **rest)


def printable(attribute: IntEnum, name: str, *, most: int) -> Field:
    """A NUL_STRING of 1 to `most` printable ASCII characters, none of them a space."""

    def check(value: str) -> str:
        if not 1 <= len(value) <= most:
            raise ValueError(f"{len(value)} characters, must be 1 to {most}")
        if not all("!" <= each <= "~" for each in value):
            raise ValueError("must be printable ASCII without spaces")
        return value

    return Field(
        attribute, name, lambda value: _encode_string(check(value)), lambda payload: check(_decode_string(payload))
    )


def shortened(attribute: IntEnum, name: str, *, most: int) -> Field:
    """A string of which only the first `most` bytes are encoded, for what is better cut than not said."""

    def encode(value: str) -> bytes:
        return _encode_string(value.encode(errors="backslashreplace")[:most].decode(errors="ignore"))

    return Field(attribute, name, encode, _decode_string)


def _encode_string(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("NUL in a string")
    return value.encode() + b"\0"


def _decode_string(payload: bytes) -> str:
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise ValueError("a string must end with its only NUL")
    return payload[:-1].decode()


def encode_fields(table: Table, message: Any) -> bytes:
    """The attributes of a dataclass `message`, in the table's order."""
    pairs: list[tuple[int, bytes]] = []
    for number, field in table.items():
        value = getattr(message, field.name)
        if value == field.absent:
            continue
        values = value if field.repeats else (value,)
        try:
            if len(values) > MAX_REPEATS:
                raise ValueError(f"{len(values)} times, at most {MAX_REPEATS}")
            pairs.extend((number | field.flags, field.encode(each)) for each in values)
        except (ValueError, struct.error) as error:
            raise MalformedMessage(f"{field.attribute.name}: {error}") from error
    return encode_attributes(pairs)


def decode_fields(table: Table, data: bytes) -> dict[str, Any]:
    """The values of a dataclass's fields, those that are there. Attributes that the table does not have are ignored."""
    values: dict[str, Any] = {}
    for number, payload in split_attributes(data):
        field = table.get(number)
        if field is None:
            continue
        try:
            value = field.decode(payload)
            if field.repeats:
                value = (*values.get(field.name, ()), value)
                if len(value) > MAX_REPEATS:
                    raise ValueError(f"more than {MAX_REPEATS} times")
            elif field.name in values:
                raise ValueError("more than once")
        except (ValueError, struct.error) as error:
            raise MalformedMessage(f"{field.attribute.name}: {error}") from error
        values[field.name] = value
    return values
