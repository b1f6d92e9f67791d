"""The model registry: versions and aliases in MLflow, promotions in the append-only log of the database.

A version is a bundle. It is registered once for a bundle digest, however often a step or a run is repeated,
and it is never handed out unless its files still have the registered digest. Aliases, not stages:
"champion" is in service, "challenger" has passed its evaluation, "candidate" was trained last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.stores.folders import replace_folder
from trialops.stores.mlflow_session import open_client, session
from trialops.stores.version_files import BUNDLE, save_version_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy import Engine

    from trialops.stores.promotion import Kept, Transition

CHAMPION, CHALLENGER, CANDIDATE = "champion", "challenger", "candidate"
RUN_TAG, DIGEST_TAG, MODEL_TAG = "trialops.run_id", "trialops.bundle_digest", "trialops.model"
_PARAMS_PER_CALL, _METRICS_PER_CALL = 100, 1000


@dataclass(frozen=True)
class DataUsed:
    """A table version a model was made from.

    Attributes:
        table: ``zone/name``.
        version: Version in the lake.
        digest: SHA-256 of its content.
        role: What it was to the model: "training", "validated", "features".
    """

    table: str
    version: int
    digest: str
    role: str


@dataclass(frozen=True)
class Registered:
    """A registered model version.

    Args:
        name: Registered model.
        version: Version number as text.
        run_id: The TrialOps run that made it.
        mlflow_run_id: The MLflow run that holds its parameters, metrics and files.
        uri: `models:/name/version`.
        digest: Bundle digest.
    """

    name: str
    version: str
    run_id: str
    mlflow_run_id: str
    uri: str
    digest: str


class Decided(TypedDict):
    """What every decision about a champion is recorded with.

    Args:
        reason: In words.
        decision: The gate's numbers and the policy, JSON values.
        actor: Who, or which service.
        run_id: The run that decided.
        engine: The database of the promotion log.
    """

    reason: str
    decision: Mapping[str, Any]
    actor: str
    run_id: str
    engine: Engine


class ModelRegistry:
    """Model versions and aliases.

    Args:
        tracking_uri: MLflow tracking URI: a SQLite file, a database, or a server.
        artifact_root: Folder or object-store prefix for model files. A server (http) keeps files where it is
            configured to, and this is not used.
    """

    def __init__(self, tracking_uri: str, artifact_root: str) -> None:
        self._uri, self._root = tracking_uri, artifact_root.rstrip("/")

    # -- versions ----------------------------------------------------------------------

    def log(
        self,
        folder: Path,
        *,
        name: str,
        run_id: str,
        requirements: Sequence[str],
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        input_example: Mapping[str, float] | None = None,
        files: Sequence[Path] = (),
        curves: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        data: Sequence[DataUsed] = (),
    ) -> Registered:
        """Register a bundle as the next version of a model; once for a bundle and run.

        Args:
            folder: Bundle folder.
            name: Registered model.
            run_id: The TrialOps run.
            requirements: pip requirements to predict with it; never inferred (slow, and a guess).
            params: Hyperparameters and settings.
            metrics: Finite numbers by name, logged in one call.
            tags: Data versions, digests, code version.
            input_example: One synthetic row by feature, no nulls; by default the bundle's fill values.
                Never a subject's row.
            files: Plots, model card, evaluation: kept with the run under `files/`.
            curves: Metric to its (step, value) points, such as learning curves; logged with the metrics.
            data: Table versions the model was made from, logged as the run's data sets.

        Returns:
            The version, new or as it was registered before.

        Raises:
            TrialOpsError: The bundle does not verify, or MLflow refuses.
        """
        bundle = Bundle.load(folder)
        with session(self._uri):
            found = self._find(name, bundle.digest)
            if found is not None:
                return found
            client = self._client
            identity = {RUN_TAG: run_id, DIGEST_TAG: bundle.digest, MODEL_TAG: name}
            labels = {**{key: str(value) for key, value in (tags or {}).items()}, **identity}
            experiment = self._experiment(name)
            mlflow_run = self._run(experiment, name, identity)
            self._log_facts(mlflow_run, params or {}, metrics or {}, labels, files, curves or {})
            self._log_data(mlflow_run, data)
            model_id, location = self._logged_model(experiment, mlflow_run, name, identity)
            with tempfile.TemporaryDirectory() as scratch:
                # Written again on a retry: files of a call that died half-way are replaced, not trusted.
                save_version_files(
                    bundle,
                    Path(scratch),
                    input_example,
                    requirements,
                    run_id=mlflow_run,
                    model_id=model_id,
                    at=location,
                )
                client.log_model_artifacts(model_id, str(Path(scratch) / "model"))
            client.finalize_logged_model(model_id, "READY")
            self._ensure_registered_model(name)
            # A server resolves models:/ itself; the SQLite store would ask MLflow's global URI, not ours.
            source = f"models:/{model_id}" if self._uri.startswith("http") else location
            client.create_model_version(
                name, source, run_id=mlflow_run, tags=labels, model_id=model_id, await_creation_for=0
            )
            client.set_terminated(mlflow_run)
            registered = self._find(name, bundle.digest)
        if registered is None:
            raise TrialOpsError(
                "the version just registered cannot be found",
                where=f"model {name}",
                fix="look at the MLflow server's log",
            )
        return registered

    def annotate(
        self,
        name: str,
        version: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Sequence[Path] = (),
    ) -> None:
        """Add what was found about a version after it was registered: metrics, tags, files.

        Args:
            name: Registered model.
            version: Its version.
            metrics: Finite numbers by name; one logged again is a second point of the same metric.
            tags: Set on the version and on its run; the newest value stands.
            files: Kept with the run under `files/`.

        Raises:
            TrialOpsError: There is no such version.
        """
        registered = self.version(name, version)
        with session(self._uri):
            self._log_facts(registered.mlflow_run_id, {}, metrics, tags, files, {})
            for key, value in tags.items():
                self._client.set_model_version_tag(name, str(version), key, str(value))

    def names(self) -> list[str]:
        """Every registered model, in order."""
        with session(self._uri):
            found: list[str] = []
            token: str | None = None
            while token is None or token:
                page = self._client.search_registered_models(page_token=token)
                found += [str(model.name) for model in page]
                token = page.token or ""
            return sorted(found)

    def data_of(self, registered: Registered) -> tuple[tuple[str, int, str], ...]:
        """Table, version and digest of what a version was made from, as they were logged with it."""
        import json

        with session(self._uri):
            inputs = self._client.get_run(registered.mlflow_run_id).inputs
        sources = [json.loads(used.dataset.source) for used in inputs.dataset_inputs]
        return tuple(sorted((str(s["table"]), int(s["version"]), str(s["sha256"])) for s in sources if "table" in s))

    def versions(self, name: str) -> list[Registered]:
        """Every version of a model that was registered here, oldest first."""
        with session(self._uri):
            found = self._client.search_model_versions(f"name = '{_quoted(name)}'")
            return [_registered(v) for v in sorted(found, key=lambda v: int(v.version)) if v.tags.get(DIGEST_TAG)]

    def version(self, name: str, version: str) -> Registered:
        """One version.

        Raises:
            TrialOpsError: There is no such version, or it was not registered here.
        """
        with session(self._uri):
            return _registered(self._client.get_model_version(name, str(version)))

    def fetch(self, name: str, version: str, into: Path) -> Path:
        """Copy a version's bundle and verify it.

        Args:
            name: Registered model.
            version: Its version.
            into: Folder that receives the bundle folder.

        Returns:
            The bundle folder, `into/<name>-<version>`.

        Raises:
            TrialOpsError: There is no such version, or its files are not the ones registered.
        """
        registered = self.version(name, version)
        target = into / f"{name}-{version}"
        with tempfile.TemporaryDirectory() as scratch:
            with session(self._uri):
                import mlflow.artifacts

                location = self._client.get_model_version_download_uri(name, str(version))
                downloaded = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{location}/artifacts/{BUNDLE}", dst_path=scratch, tracking_uri=self._uri
                )
            Bundle.load(downloaded, digest=registered.digest)
            replace_folder(Path(downloaded), target)
        return target

    # -- aliases ----------------------------------------------------------------------

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version.

        Raises:
            TrialOpsError: There is no such version.
        """
        with session(self._uri):
            self._client.set_registered_model_alias(name, alias, str(version))

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; nothing happens where there is none."""
        with session(self._uri):
            if alias in self._aliases(name):
                self._client.delete_registered_model_alias(name, alias)

    def by_alias(self, name: str, alias: str) -> Registered | None:
        """The version an alias points at; None where there is no model or no such alias."""
        with session(self._uri):
            version = self._aliases(name).get(alias)
            return None if version is None else _registered(self._client.get_model_version(name, version))

    # -- promotion ----------------------------------------------------------------------

    def promote(self, name: str, version: str, *, expected_from: str | None, **decided: Unpack[Decided]) -> Transition:
        """Make a version the champion, and record it; see `trialops.stores.promotion`.

        Args:
            name: Registered model.
            version: The version to put into service.
            expected_from: The champion it was compared with; None where there was none.
            **decided: Why, on what, who and in which run; a second call with the run changes nothing.

        Raises:
            TrialOpsError: There is no such version, another version than the expected one is the champion, or
                the run has already decided something else.
        """
        from trialops.stores.promotion import transition

        return transition(self, "promote", name, str(version), expected_from=expected_from, **decided)

    def rollback(
        self, name: str, version: str, *, to_version: str | None = None, **decided: Unpack[Decided]
    ) -> Transition:
        """Take a version out, and record it.

        The champion gives way to the version it replaced, or to `to_version`. A version that is not the
        champion, such as the candidate of a failed canary, stops being the challenger and the champion stays.

        Args:
            name: Registered model.
            version: The version to take out.
            to_version: The version to return to; None for the one the champion replaced.
            **decided: As for `promote`.

        Raises:
            TrialOpsError: There is no earlier version, or the run has already decided something else.
        """
        from trialops.stores.promotion import transition

        return transition(self, "rollback", name, str(version), to_version=to_version, **decided)

    def keep(self, name: str, version: str, outcome: Kept, **decided: Unpack[Decided]) -> Transition:
        """Record that a version was not promoted, and why; it stops being the challenger and the champion stays.

        Args:
            name: Registered model.
            version: The version not put into service.
            outcome: What was decided instead.
            **decided: As for `promote`.

        Raises:
            TrialOpsError: There is no such version, or the run has already decided something else.
        """
        from trialops.stores.promotion import transition

        return transition(self, outcome, name, str(version), **decided)

    def history(self, name: str, engine: Engine) -> list[Transition]:
        """The decisions about a model, oldest first."""
        from trialops.stores.promotion import history

        return history(engine, name)

    # -- MLflow ----------------------------------------------------------------------

    @cached_property
    def _client(self) -> MlflowClient:
        return open_client(self._uri)

    def _find(self, name: str, digest: str) -> Registered | None:
        where = f"name = '{_quoted(name)}' and tags.`{DIGEST_TAG}` = '{digest}'"
        versions = self._client.search_model_versions(where)
        # Two processes may have registered it at the same moment; both then hand out the lower number.
        return _registered(min(versions, key=lambda found: int(found.version))) if versions else None

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None if self._uri.startswith("http") else f"{self._root}/{name}"
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _run(self, experiment: str, name: str, identity: Mapping[str, str]) -> str:
        filters = " and ".join(f"tags.`{key}` = '{_quoted(value)}'" for key, value in identity.items())
        runs = self._client.search_runs([experiment], filters, max_results=1, order_by=["attributes.start_time ASC"])
        if runs:
            return str(runs[0].info.run_id)
        # Unlike mlflow.start_run, the client adds no tags of its own: no user, path or command line.
        run = self._client.create_run(experiment, run_name=f"{name} {identity[RUN_TAG]}", tags=dict(identity))
        return str(run.info.run_id)

    def _log_facts(
        self,
        mlflow_run: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Sequence[Path],
        curves: Mapping[str, Sequence[tuple[int, float]]],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        at = self._client.get_run(mlflow_run).info.start_time  # fixed, so that logging again repeats the same rows
        values = [Param(key, str(value)) for key, value in params.items()]
        points = [Metric(key, float(value), at, 0) for key, value in metrics.items()]
        points += [Metric(key, float(value), at, int(step)) for key, curve in curves.items() for step, value in curve]
        # One call for what MLflow takes in one: a call for each trial and round costs more than fitting it.
        self._client.log_batch(
            mlflow_run,
            metrics=points[:_METRICS_PER_CALL],
            params=values[:_PARAMS_PER_CALL],
            tags=[RunTag(key, str(value)) for key, value in tags.items()],
        )
        for start in range(_PARAMS_PER_CALL, len(values), _PARAMS_PER_CALL):
            self._client.log_batch(mlflow_run, params=values[start : start + _PARAMS_PER_CALL])
        for start in range(_METRICS_PER_CALL, len(points), _METRICS_PER_CALL):
            self._client.log_batch(mlflow_run, metrics=points[start : start + _METRICS_PER_CALL])
        for path in files:
            self._client.log_artifact(mlflow_run, str(path), "files")

    def _log_data(self, mlflow_run: str, data: Sequence[DataUsed]) -> None:
        """Name the table versions a model was made from as the run's data sets."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        if not data:
            return
        used = [
            # MLflow keeps at most 36 characters of a digest; the whole one is part of the source.
            DatasetInput(
                Dataset(
                    name=f"{item.table}@{item.version}",
                    digest=item.digest[:36],
                    source_type="delta",
                    source=json.dumps({"table": item.table, "version": item.version, "sha256": item.digest}),
                ),
                [InputTag("mlflow.data.context", item.role)],
            )
            for item in data
        ]
        self._client.log_inputs(mlflow_run, used)

    def _logged_model(
        self, experiment: str, mlflow_run: str, name: str, identity: Mapping[str, str]
    ) -> tuple[str, str]:
        models = self._client.search_logged_models([experiment], f"source_run_id = '{mlflow_run}'", max_results=1)
        model = (
            models[0]
            if models
            else self._client.create_logged_model(experiment, name, source_run_id=mlflow_run, tags=dict(identity))
        )
        return str(model.model_id), str(model.artifact_location)

    def _ensure_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _aliases(self, name: str) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            aliases = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {alias: str(version) for alias, version in aliases.items()}


def _quoted(value: str) -> str:
    """A value inside single quotes of a search filter, which has no escape for them."""
    if "'" in value:
        raise TrialOpsError("names and run ids may not hold a quote", where="model registry", fix="choose another")
    return value


def _registered(version: Any) -> Registered:
    digest = version.tags.get(DIGEST_TAG)
    if not digest:
        raise TrialOpsError(
            "the version carries no bundle digest",
            where=f"model {version.name} version {version.version}",
            fix="register models with ModelRegistry.log",
        )
    return Registered(
        name=version.name,
        version=str(version.version),
        run_id=version.tags.get(RUN_TAG, ""),
        mlflow_run_id=version.run_id or "",
        uri=f"models:/{version.name}/{version.version}",
        digest=digest,
    )
