"""Registered models: resolve, download, promote through a gate, roll back."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from vlx.errors import RegistryError
from vlx.tracking import store

CHAMPION = "champion"
NAMED_VERSIONS = 20  # in an error
SAME_DATA = ("task", "split", "data_fingerprint")  # tags that must be equal for two versions to be compared
REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Promotion:
    """The outcome of promote or rollback and its reason."""

    moved: bool
    reason: str


def check_name(name: str) -> None:
    """Raise RegistryError unless the registry can hold a model of this name."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise RegistryError(f"registered name {name!r}: expected letters, digits, - _ . and nothing else.")


def open_registry() -> MlflowClient:
    """Return a client of the registry. Raises RegistryError if the server does not answer."""
    try:
        return store.connect(store.tracking_uri())
    except MlflowException as error:
        raise RegistryError(f"no answer ({str(error)[:150]}); start the server or set MLFLOW_TRACKING_URI.") from error


def find_version(client: MlflowClient, name: str, *, alias: str = "", version: str = "") -> ModelVersion:
    """Return a version by its alias or number, else the newest. Raises RegistryError that lists what exists."""
    check_name(name)
    versions = {str(each.version): each for each in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        raise RegistryError(
            f"{name}: no such registered model, or it has no version; register one with finetune or distill."
        )
    aliases = client.get_registered_model(name).aliases
    number = str(aliases.get(alias)) if alias else version or max(versions, key=int)
    if number not in versions:
        missing = f"alias {alias}" if alias else f"version {version}"
        existing = ", ".join([*(f"@{each}" for each in aliases), *list(versions)[:NAMED_VERSIONS]])
        hint = f" Give it with: mlflow run . -e promote -P name={name}" if alias == CHAMPION else ""
        raise RegistryError(f"{name}: no {missing}; it has {existing}.{hint}")
    return versions[number]


def resolve(uri: str) -> str:
    """Replace an alias by its version, as models:/name@alias by models:/name/3, for lineage; keep any other URI."""
    match = REGISTERED.fullmatch(uri)
    if not match:
        return uri
    alias = match["alias"] or ""
    version = find_version(open_registry(), match["name"], alias=alias, version=match["version"] or "")
    return f"models:/{match['name']}/{version.version}"


def download(uri: str) -> Path:
    """Return the vlx model folder of models:/name@alias, models:/name/3, models:/m-..., or runs:/run/path.

    Raises RegistryError.
    """
    if not uri.startswith(("models:/", "runs:/")):
        raise RegistryError(f"{uri}: expected models:/name@alias, models:/name/version or runs:/run/path.")
    server = open_registry().tracking_uri
    exact = resolve(uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(exact, tracking_uri=server, registry_uri=server))
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{uri}: its files are not there ({str(error)[:200]}).") from error
    for file in (*folder.glob("data/*/vlx.json"), *folder.glob("vlx.json")):
        return file.parent
    raise RegistryError(f"{uri}: not a model that vlx logged (no vlx.json in it).")


def promote(name: str, version: str | None = None, *, metric: str = "val/accuracy", margin: float = 0.0) -> Promotion:
    """Move the alias champion to `version` (default: the newest) if better by more than `margin` on the same data.

    Better: its tag `metric` is higher. The reason is written to the versions' tags. Raises RegistryError.
    """
    client = open_registry()
    challenger = find_version(client, name, version=version or "")
    has_champion = CHAMPION in client.get_registered_model(name).aliases
    champion = find_version(client, name, alias=CHAMPION) if has_champion else None
    verdict = compare_versions(challenger, champion, metric=metric, margin=margin)
    if verdict.moved:
        before = str(champion.version) if champion else ""
        client.set_model_version_tag(name, str(challenger.version), "vlx.champion_before", before)
        move_champion(client, champion, challenger, reason=verdict.reason)
    else:
        client.set_model_version_tag(name, str(challenger.version), "vlx.not_promoted", verdict.reason)
    return verdict


def rollback(name: str) -> Promotion:
    """Move the alias champion back to the version that had it before. Raises RegistryError if there is none."""
    client = open_registry()
    champion = find_version(client, name, alias=CHAMPION)
    before = champion.tags.get("vlx.champion_before", "")
    if not before:
        raise RegistryError(f"{name}: no champion before version {champion.version}; nothing to roll back to.")
    reason = f"rolled back from version {champion.version}"
    move_champion(client, champion, find_version(client, name, version=before), reason=reason)
    return Promotion(True, reason)


def compare_versions(
    challenger: ModelVersion, champion: ModelVersion | None, *, metric: str, margin: float
) -> Promotion:
    """Return whether the challenger becomes champion, and why."""
    score = score_of(challenger, metric)
    new = challenger.version
    if champion is None:
        return Promotion(True, f"version {new} is the first champion, {metric} {score:.4f}")
    old = champion.version
    if str(old) == str(new):  # some stores give a number, some a string
        return Promotion(False, f"version {new} is the champion already")
    for tag in SAME_DATA:
        new_value = challenger.tags.get(tag, "unknown")
        old_value = champion.tags.get(tag, "unknown")
        if new_value != old_value or new_value == "unknown":
            return Promotion(False, f"versions {new} and {old} are not comparable: {tag} {new_value} and {old_value}")
    champion_score = score_of(champion, metric)
    numbers = f"{metric} {score:.4f} of version {new}, {champion_score:.4f} of champion {old}"
    return Promotion(score > champion_score + margin, f"{numbers}, margin {margin:g}")


def score_of(version: ModelVersion, metric: str) -> float:
    """Return the version's tag `metric` as a finite number. Raises RegistryError."""
    try:
        score = float(version.tags[metric])
    except (KeyError, ValueError):
        metrics = ", ".join(sorted(key for key in version.tags if "/" in key)) or "none"
        raise RegistryError(
            f"{version.name} version {version.version}: no metric {metric}; it has {metrics}."
        ) from None
    if not math.isfinite(score):
        raise RegistryError(f"{version.name} version {version.version}: {metric} is {score}; it cannot be compared.")
    return score


def move_champion(client: MlflowClient, old: ModelVersion | None, new: ModelVersion, *, reason: str) -> None:
    """Move the alias from the old version to the new, and tag both with the time and the reason."""
    client.set_registered_model_alias(new.name, CHAMPION, str(new.version))
    dated = f"{datetime.now(UTC).isoformat(timespec='seconds')}: {reason}"
    client.set_model_version_tag(new.name, str(new.version), "vlx.promoted", dated)
    if old:
        client.set_model_version_tag(new.name, str(old.version), "vlx.demoted", dated)
