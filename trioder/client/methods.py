"""Makes methods of a client from functions that return requests."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def as_method(method: F, build: Callable[..., Any]) -> F:
    """Give a method the name, the documentation and the parameters of the function that it calls."""
    signature = inspect.signature(build)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]  # inspect reads it
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method
