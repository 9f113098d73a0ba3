"""One option: its default, its help, its legal values, and the error about an illegal one."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vlx.errors import ConfigError, did_you_mean

TINY = 1e-12  # the lower limit of what must be positive
TRUE = ("true", "yes", "on")
FALSE = ("false", "no", "off")


def option(
    default: Any, help: str, *, choices: Sequence[str] = (), low: float = -math.inf, high: float = math.inf
) -> Any:
    """Return a dataclass field with its one-line help and its legal values (`low` and `high` are included)."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices), "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Config:
    """A group of options. Every value is checked against its option's limits when the object is made."""

    SECTION: ClassVar[str] = "options"  # the title of the group in --help

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_value(spec, getattr(self, spec.name))

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def section_of(cls, name: str) -> str:
        """Return the title of the group that introduces an option; a subclass may change its default."""
        groups = [group for group in cls.__mro__ if issubclass(group, Config) and name in vars(group)]
        return groups[-1].SECTION

    @classmethod
    def arrange(cls, arguments: list[str]) -> list[str]:
        """Return the command-line arguments as the parser reads them."""
        return arguments


def keys_of(arguments: Sequence[str]) -> list[str]:
    """Return the option names of `--key=value` and `--key value` arguments."""
    return [argument[2:].split("=")[0] for argument in arguments if argument.startswith("--")]


def check_known(keys: Sequence[str], names: Sequence[str], what: str) -> None:
    for key in keys:
        if key not in names:
            raise ConfigError(f"unknown {what}: {key}.{did_you_mean(key, names) or ' See --help.'}")


def read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def read_bool(text: str) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError(text)
    return text.lower() in TRUE


READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "a str"),
    int: (int, "an int"),
    float: (read_float, "a float"),
    bool: (read_bool, "a bool"),
}


def read_value(spec: dataclasses.Field[Any], text: str) -> Any:
    """Return the value that `text` spells, of the option's type and within its limits. Raises ConfigError."""
    read, type_name = READERS[spec.type]
    try:
        value = read(text)
    except ValueError:
        raise ConfigError(f"{spec.name}={one_line(text)}: expected {type_name}.") from None
    check_value(spec, value)
    return value


def check_value(spec: dataclasses.Field[Any], value: Any) -> None:
    """Raise ConfigError unless the value is one of the option's choices and within its limits."""
    meta = spec.metadata
    if meta["choices"] and value not in meta["choices"]:
        close = did_you_mean(str(value), meta["choices"])
        raise ConfigError(f"{spec.name}={value}: expected one of {', '.join(meta['choices'])}.{close}")
    if isinstance(value, (int, float)) and not meta["low"] <= value <= meta["high"]:
        raise ConfigError(f"{spec.name}={value}: expected a value {describe_range(meta['low'], meta['high'])}.")


def check_exclusive(config: Config, first: str, second: str) -> None:
    """Raise ConfigError if both options are given."""
    values = getattr(config, first), getattr(config, second)
    if all(values):
        raise ConfigError(f"{first}={values[0]}, {second}={values[1]}: expected one of them.")


def describe_range(low: float, high: float) -> str:
    if math.isfinite(high):
        return f"from {low:g} to {high:g}"
    return "above 0" if low == TINY else f"of at least {low:g}"


def describe(spec: dataclasses.Field[Any]) -> str:
    """Return the option's line of --help: what it means, its choices and its default."""
    choices = " | ".join(choice for choice in spec.metadata["choices"] if choice)
    default = "" if spec.default == "" else f"default: {spec.default}"
    notes = "; ".join(note for note in (choices, default) if note)
    text = spec.metadata["help"] + (f" ({notes})" if notes else "")
    return text.replace("%", "%%")


def one_line(text: str) -> str:
    return " ".join(text.split())
