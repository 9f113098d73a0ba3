"""What a search varies: a YAML file of a verb's options, checked against the verb's config."""

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

SPACES = Path(__file__).parent
NOT_SEARCHED = workspace.NOT_IDENTITY | {"task", "seed"}
WORDS = ("low", "high", "log", "choices", "when")  # of an entry
GRID = 5  # values of a range that sampler=grid tries
Value = bool | int | float | str
Settings = dict[str, Value]
Spec = dataclasses.Field[Any]


@dataclass(frozen=True)
class Dimension:
    """One of `choices`, or a number from `low` to `high`; only while each option of `when` has one of its values."""

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: Mapping[str, list[Value]] = field(default_factory=dict)

    def around(self, name: str, value: Value) -> "Dimension":
        """Wide enough for `value`, from which the search starts."""
        if self.choices:
            return dataclasses.replace(self, choices=tuple(dict.fromkeys((*self.choices, value))))
        if isinstance(value, str) or (self.log and value <= 0):
            raise ConfigError(f"{name}={value}: its range is logarithmic; give a preset in which it is above 0.")
        return dataclasses.replace(self, low=min(self.low, value), high=max(self.high, value))

    def grid(self) -> list[Value]:
        """All choices, or GRID values evenly from low to high."""
        ends = [math.log(end) if self.log else end for end in (self.low, self.high)]
        places = [ends[0] + (ends[1] - ends[0]) * step / (GRID - 1) for step in range(GRID)]
        values = [min(max(math.exp(place) if self.log else place, self.low), self.high) for place in places]
        whole = isinstance(self.low, int)
        return list(self.choices) or list(dict.fromkeys(round(value) if whole else value for value in values))


@dataclass(frozen=True)
class Space:
    """`dimensions` are varied, `fixed` is the same in all trials; `text`: of the file, without what is held."""

    dimensions: dict[str, Dimension]
    fixed: dict[str, Value]
    text: str

    def settings(self, options: Mapping[str, Any], choose: Callable[[str, Dimension], Any]) -> Settings:
        """What `choose` says of every option that is active, in the order of the file."""
        chosen: Settings = {}
        for name, values in self.dimensions.items():
            known = {**options, **self.fixed, **chosen}
            if all(known[other] in legal for other, legal in values.when.items()):
                chosen[name] = choose(name, values)
        return chosen

    def grid(self, options: Mapping[str, Any]) -> list[Settings]:
        """Every combination once."""
        cells: list[Settings] = [{}]
        for name, values in self.dimensions.items():
            cells = [cell | {name: value} for cell in cells for value in values.grid()]
        active = [self.settings(options, lambda name, _, cell=cell: cell[name]) for cell in cells]  # type: ignore[misc]
        return list({tuple(cell.items()): cell for cell in active}.values())


def read_space(name: str, base: Config, held: Collection[str]) -> Space:
    """The space of a file without the options `held`, its ranges widened to hold `base`. Raises ConfigError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    specs, options = {spec.name: spec for spec in dataclasses.fields(base)}, base.as_dict()
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in SPACES.glob("*.yaml")))
        raise ConfigError(f"space={name}: {one_line(str(error))}; expected one of {known}, or a .yaml file.") from error
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: expected lines as `alpha: {{low: 0.0, high: 1.0}}`.")
    check_known([str(key) for key in entries], list(specs), f"option in {path.name}")
    if never := NOT_SEARCHED & entries.keys():
        raise ConfigError(f"{path.name}: {min(never)} is not searched; give it on the command line.")
    free = {key: entry for key, entry in entries.items() if key not in held}
    varied = {key: dimension(path.name, specs, key, entry) for key, entry in free.items() if isinstance(entry, dict)}
    fixed = {key: typed(path.name, specs[key], entry) for key, entry in free.items() if key not in varied}
    varied = dict(sorted(varied.items(), key=lambda item: bool(item[1].when)))  # what others depend on comes first
    if not varied:
        raise ConfigError(f"{path.name}: nothing is left to vary; give fewer options.")
    start = Space(varied, fixed, "").settings(options, lambda key, _: options[key])
    varied |= {key: varied[key].around(key, value) for key, value in start.items()}
    return Space(varied, fixed, yaml.safe_dump(free, sort_keys=False))


def dimension(file: str, specs: Mapping[str, Spec], key: str, entry: dict[str, Any]) -> Dimension:
    """One entry of a file. Raises ConfigError."""
    check_known([str(word) for word in entry], WORDS, f"word of {key} in {file}")
    when, choices, log = entry.get("when", {}), entry.get("choices", []), entry.get("log", False)
    check_known(list(when), list(specs), f"option in when of {key} in {file}")
    when = {other: [typed(file, specs[other], value) for value in values] for other, values in when.items()}
    if isinstance(choices, list) and choices and entry.keys() <= {"choices", "when"}:
        return Dimension(choices=tuple(typed(file, specs[key], value) for value in choices), when=when)
    if specs[key].type not in (int, float) or not {"low", "high"} <= entry.keys() or choices:
        raise ConfigError(f"{file}: {key}: expected low and high of a number, or choices: [value, ...]; found {entry}.")
    low, high = (typed(file, specs[key], entry[end]) for end in ("low", "high"))
    if isinstance(low, str) or isinstance(high, str) or not low < high or (log and low <= 0):
        raise ConfigError(f"{file}: {key}: expected low < high, and low > 0 with log; found {entry}.")
    return Dimension(low, high, bool(log), when=when)


def typed(file: str, spec: Spec, value: Any) -> Value:
    """A legal value of an option, as its type. Raises ConfigError."""
    if spec.type is float and not isinstance(value, bool):
        with suppress(ValueError, TypeError):
            value = float(value)  # YAML reads 1 as an int, and 1e-4 as a text
    if type(value) is not spec.type:
        raise ConfigError(f"{file}: {spec.name}: {value!r} is no {getattr(spec.type, '__name__', '')}.")
    check_value(spec, value)
    return value
