"""The experiment of a bare `mlflow run .`: a plugin of MLflow, named in pyproject.toml."""

from vlx.tracking.project import project_folder


class VlxExperimentProvider:
    """MLflow's plugin interface: the experiment vlx, in a project of vlx."""

    def in_context(self) -> bool:
        return project_folder() is not None

    def get_experiment_id(self) -> str:
        import mlflow  # MLflow loads this module while it is itself half imported

        from vlx.tracking import store

        return store.experiment_id(store.connect(mlflow.get_tracking_uri()))
