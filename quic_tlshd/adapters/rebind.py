"""Lets a function of somebody else's module see other things under some of its module-level names.

aioquic names the classes that it makes (its TLS context, its connection) in the middle of long functions and offers no
hook for them. Copying those functions would freeze a version of them here, and changing the module would change it for
everybody in the process; a function object with the same code and other globals does neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def rebind(function: Function, **names: Any) -> Function:
    """`function`, for which `names` mean something else; the original and its module stay as they are.

    ImportError if the function does not use one of the names: then it is not the function that this was written for.
    """
    assert isinstance(function, FunctionType)
    strange = names.keys() - set(_names(function.__code__))
    if strange:
        raise ImportError(f"{function.__module__}.{function.__qualname__} does not use {', '.join(sorted(strange))}")
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__doc__ = function.__doc__
    return copy  # type: ignore[return-value]  # the same signature


def _names(code: CodeType) -> Iterator[str]:
    """The names that the code and the functions and lambdas inside it use; those share its globals."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
