"""The files of a model version: bundle, the MLflow face that reads it, signature, example, requirements."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trialops.models.bundle import Bundle

BUNDLE = "bundle"


def save_version_files(
    bundle: Bundle,
    scratch: Path,
    input_example: Mapping[str, float] | None,
    requirements: Sequence[str],
    *,
    run_id: str,
    model_id: str,
    at: str,
) -> None:
    """Write a version's files to `scratch/model`.

    Args:
        bundle: The model.
        scratch: An empty folder.
        input_example: One synthetic row by feature; None for the bundle's fill values.
        requirements: pip requirements to predict with it.
        run_id: MLflow run.
        model_id: MLflow logged model.
        at: Where the files will be kept.
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    from trialops.serving.service_file import write_service

    source, target = bundle.save(scratch / BUNDLE), scratch / "model"
    write_service(source, bundle)  # the features it takes online, as they are defined when it is registered
    row = input_example or {name: bundle.fill.get(name, 0.0) for name in bundle.features}
    example = pd.DataFrame({name: [float(row[name])] for name in bundle.features})
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={BUNDLE: str(source)},
        pip_requirements=list(requirements),
        signature=ModelSignature(
            inputs=Schema([ColSpec("double", name) for name in bundle.features]),
            outputs=Schema([ColSpec("double")]),
        ),
        input_example=example,
        mlflow_model=Model(artifact_path=at, run_id=run_id, model_id=model_id, model_uuid=model_id),
    )
    # MLflow notes where it found the files on disk; only their place in the model is anybody's business.
    model = Model.load(str(target))
    flavour = model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    flavour["model_code_path"] = Path(flavour["model_code_path"]).name
    flavour["artifacts"][BUNDLE]["uri"] = BUNDLE
    model.save(str(target / "MLmodel"))
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)
