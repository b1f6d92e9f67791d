"""The registered model's MLflow face: a bundle read from the version's artifacts.

MLflow copies this file into the model version and runs it on load (models from code), so nothing is
pickled. Inputs are taken by name; the answer is one probability per row.
"""

from __future__ import annotations

from typing import Any


def declare() -> None:
    """Tell MLflow which object in this file is the model."""
    import mlflow.models
    import mlflow.pyfunc

    class BundleModel(mlflow.pyfunc.PythonModel):
        """Predicts with the bundle among the version's artifacts."""

        # MLflow derives a schema from type hints, and asks for them; the version's signature is the schema.
        _skip_type_hint_validation = True

        def load_context(self, context: Any) -> None:
            """Read and verify the bundle."""
            from trialops.models.bundle import Bundle

            self.bundle = Bundle.load(context.artifacts["bundle"])

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """Probabilities, one per row of a pandas frame that has the model's features as columns."""
            return self.bundle.predict(model_input[list(self.bundle.features)].to_numpy(dtype="float64"))

    mlflow.models.set_model(BundleModel())


declare()
