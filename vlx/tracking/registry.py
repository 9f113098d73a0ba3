"""Models: logged without pickle, registered, fetched, promoted through a gate, rolled back."""

import hashlib
import json
import math
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from vlx import __version__
from vlx.errors import RegistryError
from vlx.tracking import store
from vlx.tracking.journal import Op

CHAMPION = "champion"
UUID = "vlx.uuid"
NEEDS = ("mlflow", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "Pillow")
SAME_DATA = ("task", "split", "data_fingerprint")  # tags that must be equal for two versions to be compared
REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Promotion:
    """What promote or rollback did, and why."""

    moved: bool
    reason: str


def digest(folder: Path) -> str:
    """Hash of the names and bytes of a folder's files."""
    sha = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        sha.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def save_pyfunc(folder: Path, out: Path, model: Model) -> None:
    """Wrap a vlx model folder as an MLflow model that is loaded by vlx itself (which must be installed there)."""
    images = json.loads((folder / "vlx.json").read_text(encoding="utf-8"))["num_images"]
    example = {"statement": "There are two red circles."} | {f"image_{n}": f"picture_{n}.png" for n in range(images)}
    outputs = Schema([ColSpec("string", "label"), ColSpec("double", "score")])
    mlflow.pyfunc.save_model(
        path=out,
        loader_module="vlx.tracking.serving",
        data_path=str(folder),
        signature=ModelSignature(Schema([ColSpec("string", name) for name in example]), outputs),
        input_example=[example],
        pip_requirements=[f"vlx=={__version__}", *(f"{name}=={installed(name).partition('+')[0]}" for name in NEEDS)],
        mlflow_model=model,
    )


def send_model(client: MlflowClient, folder: Path, op: Op, state: dict[str, Any]) -> str:
    """Make the LoggedModel of a journal's operation, or finish the one of an earlier try; returns its id."""
    run_id, where, step = state["run_id"], state["experiment_id"], op["step"]
    run = client.get_run(run_id)
    found = client.search_logged_models([where], f"tags.`{UUID}` = '{op['uuid']}'", max_results=1)
    if found:
        logged = found[0]
    else:
        params = {key: value for key, value in run.data.params.items() if key.startswith("config/")}
        tags = {UUID: op["uuid"], "task": op["task"]}
        logged = client.create_logged_model(where, op["name"], run_id, tags, params, model_type=op["task"])
    name = logged.model_id
    if logged.status == LoggedModelStatus.READY:
        return name
    if name not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(name, step=step)])
    with tempfile.TemporaryDirectory() as temporary:
        description = Model(op["name"], model_uuid=name, run_id=run_id, model_id=name)
        save_pyfunc(folder / op["path"], Path(temporary) / "model", description)
        client.log_model_artifacts(name, f"{temporary}/model")
    points = [Metric(key, value, t, step, model_id=name, run_id=run_id) for key, (value, t) in op["points"].items()]
    client.log_batch(run_id, metrics=points)
    client.finalize_logged_model(name, LoggedModelStatus.READY)
    return name


def send_version(client: MlflowClient, op: Op, *, model_id: str, run_id: str) -> str:
    """Register a logged model unless an earlier try did; returns the version."""
    name = op["name"]
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = next((each for each in versions(client, name) if each.tags.get(UUID) == op["uuid"]), None)
    if found is None:
        tags = op["tags"] | {UUID: op["uuid"]}
        found = client.create_model_version(name, f"models:/{model_id}", run_id, tags, model_id=model_id)
    link = json.dumps([{"name": name, "version": str(found.version)}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
    return str(found.version)


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions, the newest first."""
    found: list[ModelVersion] = []
    token = None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", max_results=1_000, page_token=token)
        found, token = [*found, *page], page.token or ""
    return sorted(found, key=lambda each: -int(each.version))


def check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+", name):
        raise RegistryError(f"registered name {name!r}: expected letters, digits, - _ . and nothing else.")


def open_registry() -> MlflowClient:
    uri = store.tracking_uri()
    try:
        return store.connect(uri)
    except MlflowException as error:
        shown = store.without_password(uri)
        raise RegistryError(
            f"{shown}: no answer ({str(error)[:150]}); start the server or set MLFLOW_TRACKING_URI."
        ) from error


def find(client: MlflowClient, name: str, *, alias: str = "", version: str = "") -> ModelVersion:
    """A version by its number or alias. Raises RegistryError that says what there is."""
    check_name(name)
    known = versions(client, name)
    if not known:
        raise RegistryError(
            f"{name}: no such registered model, or it has no version; register one with finetune or distill."
        )
    aliases = client.get_registered_model(name).aliases
    wanted = aliases.get(alias) if alias else version
    found = next((each for each in known if str(each.version) == str(wanted)), None)
    if found is None:
        asked = f"alias {alias}" if alias else f"version {version}"
        there = ", ".join([*(f"@{each}" for each in aliases), *(str(each.version) for each in known[:20])])
        hint = f" Give it with: mlflow run . -e promote -P name={name}" if alias == CHAMPION else ""
        raise RegistryError(f"{name}: no {asked}; it has {there}.{hint}")
    return client.get_model_version(name, str(found.version))


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
    tracking, exact = store.tracking_uri(), resolve(uri)
    store.connect(tracking)
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
    check_name(name)
    newest = next(iter(versions(client, name)), None)
    challenger = find(client, name, version=version or (str(newest.version) if newest else "1"))
    champion = champion_of(client, name)
    verdict = judge(challenger, champion, metric, margin)
    if not verdict.moved:
        client.set_model_version_tag(name, challenger.version, "vlx.not_promoted", verdict.reason)
        return verdict
    return hand_over(client, name, old=champion, new=challenger, reason=verdict.reason)


def rollback(name: str) -> Promotion:
    """Give the alias back to the champion before this one. Raises RegistryError if there was none."""
    client = open_registry()
    champion = find(client, name, alias=CHAMPION)
    before = champion.tags.get("vlx.champion_before", "")
    if not before:
        raise RegistryError(f"{name}: no champion before version {champion.version}; nothing to roll back to.")
    previous = find(client, name, version=before)
    return hand_over(
        client, name, old=champion, new=previous, reason=f"rolled back from version {champion.version}", back=True
    )


def champion_of(client: MlflowClient, name: str) -> ModelVersion | None:
    version = client.get_registered_model(name).aliases.get(CHAMPION)
    return client.get_model_version(name, str(version)) if version else None


def number_of(version: ModelVersion | None) -> str:
    """As text: some stores give a number, some a string."""
    return str(version.version) if version else ""


def judge(challenger: ModelVersion, champion: ModelVersion | None, metric: str, margin: float) -> Promotion:
    score = score_of(challenger, metric)
    if champion is None:
        return Promotion(True, f"version {challenger.version} is the first champion, {metric} {score:.4f}")
    if number_of(champion) == number_of(challenger):
        return Promotion(False, f"version {challenger.version} is the champion already")
    for tag in SAME_DATA:
        new, old = challenger.tags.get(tag, "unknown"), champion.tags.get(tag, "unknown")
        if new != old or new == "unknown":
            return Promotion(
                False, f"versions {challenger.version} and {champion.version} are not comparable: {tag} {new} and {old}"
            )
    to_beat = score_of(champion, metric)
    numbers = f"{metric} {score:.4f} of version {challenger.version}, {to_beat:.4f} of champion {champion.version}"
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


def hand_over(
    client: MlflowClient, name: str, *, old: ModelVersion | None, new: ModelVersion, reason: str, back: bool = False
) -> Promotion:
    """Move the alias unless another process just did, and write down why."""
    current = champion_of(client, name)
    if number_of(current) != number_of(old):
        return Promotion(False, f"the champion of {name} changed meanwhile; look, and try again")
    client.set_registered_model_alias(name, CHAMPION, str(new.version))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = {"vlx.promoted": f"{now}: {reason}"}
    if not back:
        said["vlx.champion_before"] = number_of(old)
    for tag, value in said.items():
        client.set_model_version_tag(name, str(new.version), tag, value)
    if old:
        client.set_model_version_tag(name, str(old.version), "vlx.demoted", f"{now}: {reason}")
    return Promotion(True, reason)
