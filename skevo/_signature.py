"""Parameters that an estimator has beside those that both have in common."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import TypeVar

__all__ = ["adds_to"]

_F = TypeVar("_F", bound=Callable[..., None])


def adds_to(base: type) -> Callable[[_F], _F]:
    """Give a constructor that passes ``**common`` on to a base the signature of both.

    scikit-learn reads the names of parameters there.
    """

    def decorate(init: _F) -> _F:
        own = [p for p in signature(init).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        common = signature(base).parameters.values()
        init.__signature__ = signature(init).replace(parameters=[*own, *common])  # type: ignore[attr-defined]
        return init

    return decorate
