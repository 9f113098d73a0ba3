"""Registered models: found, fetched, promoted through a gate, rolled back."""

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
SAME_DATA = ("task", "split", "data_fingerprint")  # tags that must be equal for two versions to be compared
REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Promotion:
    """What promote or rollback did, and why."""

    moved: bool
    reason: str


def check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+", name):
        raise RegistryError(f"registered name {name!r}: expected letters, digits, - _ . and nothing else.")


def open_registry() -> MlflowClient:
    try:
        return store.connect(store.tracking_uri())
    except MlflowException as error:
        raise RegistryError(f"no answer ({str(error)[:150]}); start the server or set MLFLOW_TRACKING_URI.") from error


def find(client: MlflowClient, name: str, *, alias: str = "", version: str = "") -> ModelVersion:
    """A version by its alias or number, else the newest. Raises RegistryError that says what there is."""
    check_name(name)
    known = {str(each.version): each for each in client.search_model_versions(f"name = '{name}'")}
    if not known:
        raise RegistryError(
            f"{name}: no such registered model, or it has no version; register one with finetune or distill."
        )
    aliases = client.get_registered_model(name).aliases
    newest = max(known, key=int)
    wanted = str(aliases.get(alias)) if alias else version or newest
    if wanted not in known:
        asked = f"alias {alias}" if alias else f"version {version}"
        there = ", ".join([*(f"@{each}" for each in aliases), *list(known)[:20]])
        hint = f" Give it with: mlflow run . -e promote -P name={name}" if alias == CHAMPION else ""
        raise RegistryError(f"{name}: no {asked}; it has {there}.{hint}")
    return known[wanted]


def resolve(uri: str) -> str:
    """models:/name@alias -> models:/name/3, so that lineage names what was used; other URIs as they are."""
    match = REGISTERED.fullmatch(uri)
    if not match:
        return uri
    found = find(open_registry(), match["name"], alias=match["alias"] or "", version=match["version"] or "")
    return f"models:/{match['name']}/{found.version}"


def download(uri: str) -> Path:
    """The vlx model folder of models:/name@alias, models:/name/3, models:/m-..., or runs:/... Raises RegistryError."""
    if not uri.startswith(("models:/", "runs:/")):
        raise RegistryError(f"{uri}: expected models:/name@alias, models:/name/version or runs:/run/path.")
    tracking, exact = open_registry().tracking_uri, resolve(uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(exact, tracking_uri=tracking, registry_uri=tracking))
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{uri}: its files are not there ({str(error)[:200]}).") from error
    for found in (*folder.glob("data/*/vlx.json"), *folder.glob("vlx.json")):
        return found.parent
    raise RegistryError(f"{uri}: not a model that vlx logged (no vlx.json in it).")


def promote(name: str, version: str | None = None, *, metric: str = "val/accuracy", margin: float = 0.0) -> Promotion:
    """Move the alias champion to `version` (default: the newest) if better by more than `margin` on the same data.

    Better: its tag `metric` is higher. The versions' tags say what happened. Raises RegistryError.
    """
    client = open_registry()
    challenger = find(client, name, version=version or "")
    taken = CHAMPION in client.get_registered_model(name).aliases
    champion = find(client, name, alias=CHAMPION) if taken else None
    verdict = judge(challenger, champion, metric, margin)
    if verdict.moved:
        before = str(champion.version) if champion else ""
        client.set_model_version_tag(name, str(challenger.version), "vlx.champion_before", before)
        hand_over(client, champion, challenger, verdict.reason)
    else:
        client.set_model_version_tag(name, str(challenger.version), "vlx.not_promoted", verdict.reason)
    return verdict


def rollback(name: str) -> Promotion:
    """Give the alias back to the champion before this one. Raises RegistryError if there was none."""
    client = open_registry()
    champion = find(client, name, alias=CHAMPION)
    before = champion.tags.get("vlx.champion_before", "")
    if not before:
        raise RegistryError(f"{name}: no champion before version {champion.version}; nothing to roll back to.")
    reason = f"rolled back from version {champion.version}"
    hand_over(client, champion, find(client, name, version=before), reason)
    return Promotion(True, reason)


def judge(challenger: ModelVersion, champion: ModelVersion | None, metric: str, margin: float) -> Promotion:
    score, new = score_of(challenger, metric), challenger.version
    if champion is None:
        return Promotion(True, f"version {new} is the first champion, {metric} {score:.4f}")
    old = champion.version
    if str(old) == str(new):  # some stores give a number, some a string
        return Promotion(False, f"version {new} is the champion already")
    for tag in SAME_DATA:
        ours, theirs = challenger.tags.get(tag, "unknown"), champion.tags.get(tag, "unknown")
        if ours != theirs or ours == "unknown":
            return Promotion(False, f"versions {new} and {old} are not comparable: {tag} {ours} and {theirs}")
    to_beat = score_of(champion, metric)
    numbers = f"{metric} {score:.4f} of version {new}, {to_beat:.4f} of champion {old}"
    return Promotion(score > to_beat + margin, f"{numbers}, margin {margin:g}")


def score_of(version: ModelVersion, metric: str) -> float:
    try:
        score = float(version.tags[metric])
    except (KeyError, ValueError):
        known = ", ".join(sorted(key for key in version.tags if "/" in key)) or "none"
        raise RegistryError(f"{version.name} version {version.version}: no metric {metric}; it has {known}.") from None
    if not math.isfinite(score):
        raise RegistryError(f"{version.name} version {version.version}: {metric} is {score}; it cannot be compared.")
    return score


def hand_over(client: MlflowClient, old: ModelVersion | None, new: ModelVersion, reason: str) -> None:
    """Move the alias and write down why."""
    client.set_registered_model_alias(new.name, CHAMPION, str(new.version))
    said = f"{datetime.now(UTC).isoformat(timespec='seconds')}: {reason}"
    client.set_model_version_tag(new.name, str(new.version), "vlx.promoted", said)
    if old:
        client.set_model_version_tag(new.name, str(old.version), "vlx.demoted", said)
