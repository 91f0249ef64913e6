"""What the kernel says of a generic netlink family: its number, its groups and its policy. All of it through pyroute2.

Sources: include/uapi/linux/genetlink.h (`CTRL_CMD_GETFAMILY`, `CTRL_CMD_GETPOLICY`), include/uapi/linux/netlink.h
(`enum netlink_attribute_type`).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pyroute2.netlink import genlmsg  # type: ignore[import-untyped]  # pyroute2 ships no types
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket  # type: ignore[import-untyped]


class PolicyType(IntEnum):
    """`enum netlink_attribute_type`."""

    INVALID = 0
    FLAG = 1
    U8 = 2
    U16 = 3
    U32 = 4
    U64 = 5
    S8 = 6
    S16 = 7
    S32 = 8
    S64 = 9
    BINARY = 10
    STRING = 11
    NUL_STRING = 12
    NESTED = 13
    NESTED_ARRAY = 14
    BITFIELD32 = 15
    SINT = 16
    UINT = 17


@dataclass(frozen=True, slots=True)
class Family:
    """One family as this kernel has it, in the network namespace of the caller."""

    id: int  # nlmsg_type of its messages
    groups: Mapping[str, int]


# Which attributes a command's request may carry, and of which type: command → attribute → type.
Policy = Mapping[int, Mapping[int, int]]


class _Socket(AsyncGenericNetlinkSocket):  # type: ignore[misc]  # pyroute2 ships no types
    module_err_level = "debug"  # the absent family is told to the caller, who knows whether that is an error


def _os_error(name: str, error: Exception) -> OSError:
    code = getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO
    if code == errno.ENOENT:
        return FileNotFoundError(code, f"this kernel has no generic netlink family {name!r}")
    return OSError(code, f"generic netlink family {name!r}: {error}")


async def resolve_family(name: str) -> Family:
    """The family called `name`; FileNotFoundError if the kernel has none."""
    try:
        async with _Socket() as socket:
            await socket.bind(name, genlmsg)
            return Family(socket.prid, dict(socket.mcast_groups))
    except (NetlinkError, OSError) as error:
        raise _os_error(name, error) from error


async def dump_policy(name: str) -> Policy:
    """What CTRL_CMD_GETPOLICY tells of `name`; an OSError where the kernel is too old to tell (before 5.10)."""
    try:
        async with _Socket() as socket:
            await socket.bind("nlctrl", genlmsg)
            return _read_policy(await socket.policy(name))
    except (NetlinkError, OSError) as error:
        raise _os_error(name, error) from error


def _read_policy(messages: tuple[Any, ...]) -> Policy:
    """Join the dump's two kinds of message: command → index of its policy, and (index, attribute) → type."""
    indexes: dict[int, int] = {}
    types: dict[int, dict[int, int]] = {}
    for message in messages:
        for command, operation in _nest(message.get_attr("CTRL_ATTR_OP_POLICY")):
            index = operation.get_attr("CTRL_ATTR_POLICY_DO")
            if index is not None:
                indexes[command] = index
        for index, attributes in _nest(message.get_attr("CTRL_ATTR_POLICY")):
            for number, attribute in _nest(attributes):
                types.setdefault(index, {})[number] = attribute.get_attr("NL_POLICY_TYPE_ATTR_TYPE")
    return {command: types.get(index, {}) for command, index in indexes.items()}


def _nest(nest: Any) -> list[tuple[int, Any]]:
    """A nest whose attribute types are numbers: pyroute2 names them "OP(3)", "POLICY(0)", "ATTR(1)"."""
    return [(int(re.sub(r"\D", "", each[0])), each[1]) for each in nest["attrs"]] if nest is not None else []
