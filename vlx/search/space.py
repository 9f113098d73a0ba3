"""The search space: a YAML file of a verb's options, checked against the verb's config."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vlx import workspace
from vlx.config.base import Config, check_known, check_value, one_line
from vlx.errors import ConfigError

SPACES = Path(__file__).parent / "spaces"
NOT_SEARCHED = workspace.UNHASHED_OPTIONS | {"task", "seed"}
ENTRY_KEYS = ("low", "high", "log", "choices", "when")
GRID_VALUES = 5  # values of a range that sampler=grid tries
Value = bool | int | float | str
Settings = dict[str, Value]
Field = dataclasses.Field[Any]


@dataclass(frozen=True)
class Dimension:
    """The values of one option: `choices`, or the numbers from `low` to `high`.

    log: uniform in the logarithm. when: option -> the values with which this dimension is active.
    """

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: Mapping[str, list[Value]] = field(default_factory=dict)

    def is_active(self, options: Mapping[str, Any]) -> bool:
        return all(options[name] in values for name, values in self.when.items())

    def including(self, name: str, value: Value) -> "Dimension":
        """The dimension, extended to include the value from which the search starts. Raises ConfigError."""
        if self.choices:
            return dataclasses.replace(self, choices=tuple(dict.fromkeys((*self.choices, value))))
        if isinstance(value, str) or (self.log and value <= 0):
            raise ConfigError(f"{name}={value}: its range is logarithmic; give a preset in which it is above 0.")
        return dataclasses.replace(self, low=min(self.low, value), high=max(self.high, value))

    def grid(self) -> list[Value]:
        """All choices, or GRID_VALUES numbers evenly from low to high."""
        if self.choices:
            return list(self.choices)
        low = math.log(self.low) if self.log else self.low
        high = math.log(self.high) if self.log else self.high
        points = [low + (high - low) * step / (GRID_VALUES - 1) for step in range(GRID_VALUES)]
        values = [min(max(math.exp(point) if self.log else point, self.low), self.high) for point in points]
        if isinstance(self.low, int):
            values = [round(value) for value in values]
        return list(dict.fromkeys(values))


@dataclass(frozen=True)
class Space:
    """What varies between trials (`dimensions`) and what all trials share (`fixed`).

    text: the YAML of both, without the options that the command line gives.
    """

    dimensions: dict[str, Dimension]
    fixed: dict[str, Value]
    text: str

    def settings(self, options: Mapping[str, Any], choose: Callable[[str, Dimension], Any]) -> Settings:
        """Choose a value for each active dimension, in the order of the file; `options` are those of the verb."""
        chosen: Settings = {}
        for name, dimension in self.dimensions.items():
            if dimension.is_active({**options, **self.fixed, **chosen}):
                chosen[name] = choose(name, dimension)
        return chosen

    def grid(self, options: Mapping[str, Any]) -> list[Settings]:
        """All combinations of the grid values, each once; an inactive dimension multiplies nothing."""
        cells: list[Settings] = [{}]
        for name, dimension in self.dimensions.items():
            cells = [cell | {name: value} for cell in cells for value in dimension.grid()]
        active = [self.settings(options, lambda name, _, cell=cell: cell[name]) for cell in cells]  # type: ignore[misc]
        return list({tuple(settings.items()): settings for settings in active}.values())


def read_space(name: str, base: Config, *, excluded: Collection[str]) -> Space:
    """Read the space of a file.

    name: a file of vlx/search/spaces without .yaml, or a path. base: the options from which the search starts; ranges
    are extended to include them. excluded: options that do not vary, as the command line gives them.
    Raises ConfigError.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    fields = {spec.name: spec for spec in dataclasses.fields(base)}
    entries = read_entries(path, fields, name=name)
    entries = {key: entry for key, entry in entries.items() if key not in excluded}
    dimensions = {
        key: read_dimension(key, entry, fields=fields, file=path.name)
        for key, entry in entries.items()
        if isinstance(entry, dict)
    }
    fixed = {key: typed(fields[key], entry, file=path.name) for key, entry in entries.items() if key not in dimensions}
    if not dimensions:
        raise ConfigError(f"{path.name}: nothing is left to vary; give fewer options.")
    dimensions = dict(sorted(dimensions.items(), key=lambda item: bool(item[1].when)))  # conditions name earlier ones
    options = base.as_dict()
    start = Space(dimensions, fixed, "").settings(options, lambda key, _: options[key])
    dimensions |= {key: dimensions[key].including(key, value) for key, value in start.items()}
    return Space(dimensions, fixed, yaml.safe_dump(entries, sort_keys=False))


def read_entries(path: Path, fields: Mapping[str, Field], *, name: str) -> dict[str, Any]:
    """Option -> entry of a space's file. Raises ConfigError."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(file.stem for file in SPACES.glob("*.yaml")))
        raise ConfigError(f"space={name}: {one_line(str(error))}; expected one of {names}, or a .yaml file.") from error
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: expected lines as `alpha: {{low: 0.0, high: 1.0}}`.")
    check_known([str(key) for key in entries], list(fields), f"option in {path.name}")
    if never := NOT_SEARCHED & entries.keys():
        raise ConfigError(f"{path.name}: {min(never)} is not searched; give it on the command line.")
    return entries


def read_dimension(key: str, entry: dict[str, Any], *, fields: Mapping[str, Field], file: str) -> Dimension:
    """The dimension of one entry. Raises ConfigError."""
    check_known([str(word) for word in entry], ENTRY_KEYS, f"key of {key} in {file}")
    conditions = entry.get("when", {})
    check_known(list(conditions), list(fields), f"option in when of {key} in {file}")
    when = {name: [typed(fields[name], value, file=file) for value in values] for name, values in conditions.items()}
    choices = entry.get("choices", [])
    if isinstance(choices, list) and choices and entry.keys() <= {"choices", "when"}:
        return Dimension(choices=tuple(typed(fields[key], value, file=file) for value in choices), when=when)
    if fields[key].type not in (int, float) or not {"low", "high"} <= entry.keys() or choices:
        raise ConfigError(f"{file}: {key}: expected low and high of a number, or choices: [value, ...]; found {entry}.")
    low = typed(fields[key], entry["low"], file=file)
    high = typed(fields[key], entry["high"], file=file)
    log = bool(entry.get("log", False))
    if isinstance(low, str) or isinstance(high, str) or not low < high or (log and low <= 0):
        raise ConfigError(f"{file}: {key}: expected low < high, and low > 0 with log; found {entry}.")
    return Dimension(low, high, log, when=when)


def typed(spec: Field, value: Any, *, file: str) -> Value:
    """The value in the option's type. Raises ConfigError if it is no legal value."""
    if spec.type is float and not isinstance(value, bool):
        with suppress(ValueError, TypeError):
            value = float(value)  # YAML reads 1 as an int, and 1e-4 as a text
    if type(value) is not spec.type:
        raise ConfigError(f"{file}: {spec.name}={value!r}: expected type {getattr(spec.type, '__name__', '')}.")
    check_value(spec, value)
    return value
