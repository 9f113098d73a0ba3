"""One option: its default, its help, its legal values, and what is said of a wrong one."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vlx.errors import ConfigError, did_you_mean

TINY = 1e-12  # the lower limit of what must be positive


def option(
    default: Any, help: str, *, choices: Sequence[str] = (), low: float = -math.inf, high: float = math.inf
) -> Any:
    """A dataclass field with its one-line help and its legal values (`low` and `high` are included)."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices), "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shared behaviour: every field is checked against its own limits when the object is made."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_value(spec, getattr(self, spec.name))

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def keys_of(words: Sequence[str]) -> list[str]:
    """The options that `--key=value` and `--key value` words name."""
    return [word[2:].split("=")[0] for word in words if word.startswith("--")]


def check_known(given: Sequence[str], names: Sequence[str], what: str) -> None:
    for key in given:
        if key not in names:
            raise ConfigError(f"unknown {what}: {key}.{did_you_mean(key, names) or ' See --help.'}")


def check_value(spec: dataclasses.Field[Any], value: Any) -> None:
    """Raises ConfigError unless the value is one of the option's legal ones."""
    meta = spec.metadata
    if meta["choices"] and value not in meta["choices"]:
        close = did_you_mean(str(value), meta["choices"])
        raise ConfigError(f"{spec.name}={value}: expected one of {', '.join(meta['choices'])}.{close}")
    if isinstance(value, (int, float)) and not meta["low"] <= value <= meta["high"]:
        raise ConfigError(f"{spec.name}={value}: expected a value {describe_range(meta['low'], meta['high'])}.")


def describe_range(low: float, high: float) -> str:
    if math.isfinite(high):
        return f"from {low:g} to {high:g}"
    return "above 0" if low == TINY else f"of at least {low:g}"


def describe(spec: dataclasses.Field[Any]) -> str:
    choices = spec.metadata["choices"]
    text = spec.metadata["help"] + (f" ({' | '.join(choices)})" if choices else "")
    return text.replace("%", "%%")


def one_line(text: str) -> str:
    return " ".join(text.split())
