"""Copied into every logged model: how MLflow loads it."""

from mlflow.models import set_model

from vlx.tracking.serving import StatementModel

set_model(StatementModel())
