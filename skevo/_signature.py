"""Parameters that an estimator has beside those that both have in common."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, cast

__all__ = ["adds_to"]

_F = TypeVar("_F", bound=Callable[..., None])


def adds_to(base: type) -> Callable[[_F], _F]:
    """Give a constructor that passes ``**common`` on to a base the signature of both.

    scikit-learn reads the names of parameters there. One that neither has is refused here, where
    it is known which class was called.
    """

    def decorate(init: _F) -> _F:
        own = [p for p in signature(init).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        common = signature(base).parameters.values()
        # Without self.
        known = [p.name for p in [*own, *common]][1:]

        @wraps(init)
        def of_both(self: Any, **parameters: Any) -> None:
            for name in parameters:
                if name not in known:
                    close = get_close_matches(name, known, 1)
                    hint = (
                        f"did you mean {close[0]!r}?"
                        if close
                        else f"there are {', '.join(sorted(known))}."
                    )
                    owner = init.__qualname__.partition(".")[0]
                    raise TypeError(f"{owner} has no parameter {name!r}; {hint}")
            init(self, **parameters)

        of_both.__signature__ = signature(init).replace(  # type: ignore[attr-defined]
            parameters=[*own, *common]
        )
        return cast("_F", of_both)

    return decorate
