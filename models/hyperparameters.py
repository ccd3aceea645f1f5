"""Are hyperparameters what their annotations say? Checked once for all families, before any of them is built."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints


def check(constructor: Callable, hyperparameters: Mapping[str, object]) -> None:
    """ValueError, in one line, for the first value of another type, for a number that is not finite, and for a count
    below one.

    Every whole number of a constructor is a count, of layers, units or steps: at least one, or none where none is the
    default. What else a value must be, such as one of several names, the constructors themselves say.
    """
    hints, parameters = get_type_hints(constructor), inspect.signature(constructor).parameters
    for name, value in hyperparameters.items():
        least = 0 if parameters[name].default == 0 else 1
        wanted = _expected(hints[name], value, least)
        if wanted:
            raise ValueError(f"{name} is {value!r}; it takes {wanted}")


def _expected(hint: object, value: object, least: int) -> str | None:
    """What a value should have been; None if it is that, or if the annotation is not one that recipes can break."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        wanted = [_expected(option, value, least) for option in options]
        return None if None in wanted else " or ".join(wanted)
    if origin is Sequence:
        return _expected_of_all(options[0], value, least)
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        bool: ("true or false", isinstance(value, bool)),
        int: (f"a whole number, at least {least}", whole and value >= least),
        float: ("a finite number", whole or (isinstance(value, float) and math.isfinite(value))),
        str: ("a name", isinstance(value, str)),
        NoneType: ("null", value is None),
    }
    wanted, met = fits.get(hint, ("", True))
    return None if met else wanted


def _expected_of_all(hint: object, values: object, least: int) -> str | None:
    if isinstance(values, list | tuple):
        wanted = next(filter(None, (_expected(hint, value, least) for value in values)), None)
        return wanted and f"a list, each of them {wanted}"
    return "a list"
