"""From the words of a command to a checked config. Order: defaults < preset < command line."""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from vlx.config.base import Config, check_known, describe, keys_of, one_line, read_value
from vlx.errors import ConfigError, UserError, did_you_mean

PRESETS = Path(__file__).parents[1] / "presets"
NOISY = ("mlflow", "alembic", "httpx", "accelerate", "datasets", "transformers")
Specs = Mapping[str, dataclasses.Field[Any]]
C = TypeVar("C", bound=Config)
log = logging.getLogger("vlx")


def parse(schema: type[C], argv: Sequence[str] | None = None) -> C:
    """Build a config from `--key=value` and `--key value` arguments, before any data is read. Raises ConfigError."""
    arguments = schema.arrange(list(sys.argv[1:] if argv is None else argv))
    specs = {spec.name: spec for spec in dataclasses.fields(schema)}
    check_known([key for key in keys_of(arguments) if key != "help"], list(specs), "option")
    try:
        texts = vars(parser_of(schema).parse_args(arguments, defaults=False))
    except jsonargparse.ArgumentError as error:
        raise ConfigError(one_line(str(error))) from error
    options = {name: read_value(specs[name], text) for name, text in texts.items()}
    if options.get("preset"):
        task = options.get("task", specs["task"].default)
        options = read_preset(options["preset"], specs, task=task) | options
    return schema(**options)


def parser_of(schema: type[Config]) -> jsonargparse.ArgumentParser:
    """Return a parser that leaves every value as the text it is given as."""
    parser = jsonargparse.ArgumentParser(
        exit_on_error=False,
        description=schema.__doc__,
        usage="%(prog)s [--option=value ...]",
        formatter_class=argparse.HelpFormatter,
    )
    groups: dict[str, Any] = {}
    for spec in dataclasses.fields(schema):
        title = schema.section_of(spec.name)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        type_name = getattr(spec.type, "__name__", "")
        groups[title].add_argument(f"--{spec.name}", type=str, metavar=type_name, help=describe(spec))
    return parser


def read_preset(name: str, specs: Specs, *, task: str) -> dict[str, Any]:
    """Return the options of a preset file without its `task`, which says what the preset is for. Raises ConfigError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in PRESETS.glob("*.yaml"))
        close = did_you_mean(name, names) or f" Expected one of {', '.join(names)}."
        raise ConfigError(f"preset={name}: no such preset.{close}")
    try:
        texts = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # every value stays a text
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file of options ({one_line(str(error))}).") from error
    if not isinstance(texts, dict):
        raise ConfigError(f"{path}: expected `key: value` lines.")
    if texts.pop("task", task) != task:
        raise ConfigError(f"preset={name}: made for another task than task={task}; choose a preset of this task.")
    check_known([str(key) for key in texts], list(specs), f"option in {path.name}")
    return {key: read_preset_value(path, specs[key], text) for key, text in texts.items()}


def read_preset_value(path: Path, spec: dataclasses.Field[Any], text: Any) -> Any:
    if not isinstance(text, str):
        raise ConfigError(f"{path.name}: {spec.name}: expected one value, found a list or a mapping.")
    try:
        return read_value(spec, text)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def launch(main: Callable[[C], Any], schema: type[C]) -> None:
    """Run an entry point: a user's mistake is one line on stderr and exit code 2; anything else keeps its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        config = parse(schema)
        log.info("%s %s", schema.__name__, json.dumps(config.as_dict()))
        main(config)
    except UserError as error:
        sys.stderr.write(f"vlx: {one_line(str(error))}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:  # the run has logged that it was stopped
        raise SystemExit(130) from None
