"""netlink/specs/handshake.yaml and the enums say the same."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from netlink import handshake

yaml = pytest.importorskip("yaml", reason="PyYAML, of the test extra, reads the specification")
SPEC: dict[str, Any] = yaml.safe_load(files("netlink").joinpath("specs/handshake.yaml").read_text())

SETS = {
    "x509": handshake.X509Attribute,
    "accept": handshake.AcceptAttribute,
    "done": handshake.DoneAttribute,
}
ENUMS = {
    "handler-class": handshake.HandlerClass,
    "msg-type": handshake.MessageType,
    "auth": handshake.AuthMode,
}


def upper(name: str) -> str:
    return name.upper().replace("-", "_")


def test_the_family() -> None:
    assert (SPEC["name"], SPEC["protocol"]) == (handshake.FAMILY, "genetlink")
    assert handshake.GROUP in [group["name"] for group in SPEC["mcast-groups"]["list"]]


@pytest.mark.parametrize(("name", "enum"), ENUMS.items())
def test_definitions(name: str, enum: Any) -> None:
    (definition,) = [each for each in SPEC["definitions"] if each["name"] == name]
    first = definition.get("value-start", 0)
    entries = {upper(entry): first + index for index, entry in enumerate(definition["entries"])}
    assert entries == {member.name: member.value for member in enum}


@pytest.mark.parametrize(("name", "enum"), SETS.items())
def test_attribute_sets(name: str, enum: Any) -> None:
    (attributes,) = [each["attributes"] for each in SPEC["attribute-sets"] if each["name"] == name]
    numbers, number = {}, 0
    for attribute in attributes:
        number = attribute.get("value", number + 1)
        numbers[upper(attribute["name"])] = number
        assert (number > 0x1000) == attribute.get("doc", "").startswith("User space only")
    assert numbers == {member.name: member.value for member in enum}


def test_operations() -> None:
    numbers = {upper(each["name"]): index for index, each in enumerate(SPEC["operations"]["list"], 1)}
    assert numbers == {member.name: member.value for member in handshake.Command}


def test_every_attribute_of_an_operation_is_in_its_set() -> None:
    known = {each["name"]: {a["name"] for a in each["attributes"]} for each in SPEC["attribute-sets"]}
    for operation in SPEC["operations"]["list"]:
        for direction in ("request", "reply"):
            named = operation.get("do", {}).get(direction, {}).get("attributes", [])
            assert set(named) <= known[operation.get("attribute-set", "accept")]
