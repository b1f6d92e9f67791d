"""Where a step's search runs: here, on a Ray that is there, or as a RayJob on a cluster of its own.

For a RayJob the step puts a request into the object store, creates the job and waits. The job's head node reads the
training set from the lake, searches with the same code, and puts the bundles into the object store; finished trials
are kept there too. A step that is tried again finds the job, or its result, by the request's digest.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.ray_job import GROUP, PLURAL, SCHEME, VERSION, Target, lint, parse_target, ray_job
from trialops.models.record import restore
from trialops.models.search import SearchResult, search
from trialops.models.search_course import Outcome
from trialops.models.split import TRAIN
from trialops.models.task import load_task
from trialops.stores.refs import Snapshot

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

ENDED, FAILED = "Complete", "Failed"
POLL_SECONDS = 10.0


class ObjectLedger:
    """Finished trials in the object store, for a search whose node may be lost."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self._objects, self._prefix = objects, prefix

    def read(self) -> dict[int, Outcome]:
        """Every finished trial by number."""
        found = (Outcome.loads(self._objects.get(key).decode()) for key in self._objects.list(self._prefix))
        return {outcome.number: outcome for outcome in found}

    def write(self, outcome: Outcome) -> None:
        """Keep a finished trial."""
        self._objects.put(f"{self._prefix}/{outcome.number:06d}.json", outcome.dumps().encode())


def search_for_step(
    run: Step, rows: pl.DataFrame, training: Snapshot, *, task: str, trials: int, seed: int
) -> SearchResult:
    """Search on the training sites, wherever the settings say.

    Args:
        run: The step.
        rows: Training set with its split.
        training: Its table version.
        task: Prediction task.
        trials: Number of configurations.
        seed: Seed of configurations, folds and fits.

    Raises:
        TrialOpsError: The search fails, or its job does.
    """
    import polars as pl

    address = run.settings.ray_address
    if address.startswith(f"{SCHEME}://"):
        return on_cluster(run, parse_target(address), training, task=task, trials=trials, seed=seed)
    return search(
        rows.filter(pl.col("split") == TRAIN),
        load_task(task),
        trials=trials,
        seed=seed,
        backend=run.settings.search_backend,
        storage=run.workdir,
        progress=run.progress,
        training={"digest": training.digest},
        ray_address=address or None,
    )


def on_cluster(
    run: Step,
    target: Target,
    training: Snapshot,
    *,
    task: str,
    trials: int,
    seed: int,
    api: Any = None,
    poll_seconds: float = POLL_SECONDS,
) -> SearchResult:
    """Search in a RayJob and wait for it.

    Args:
        run: The step.
        target: Where, and how large.
        training: Training set with its split.
        task: Prediction task.
        trials: Number of configurations.
        seed: Seed.
        api: Kubernetes `CustomObjectsApi`; None makes one from the pod's service account.
        poll_seconds: Between two looks at the job.

    Raises:
        TrialOpsError: The job fails, or cannot be created.
    """
    request = {"task": task, "training": training.as_dict(), "trials": trials, "seed": seed}
    data = json.dumps(request, sort_keys=True).encode()
    prefix = f"searches/{hashlib.sha256(data).hexdigest()[:24]}"
    if not run.objects.exists(f"{prefix}/result.json"):
        import ray

        run.objects.put(f"{prefix}/request.json", data)
        command = [*("python", "-m", "trialops.models.search_job"), prefix]
        name = f"search-{prefix.rpartition('/')[2]}"
        manifest = ray_job(name, target, command, run_id=run.run_id, ray_version=ray.__version__)
        faults = lint(manifest)
        if faults:
            raise TrialOpsError(f"The job would be refused: {faults[0]}", where="TRIALOPS_RAY_ADDRESS")
        _wait(run, api or _api(), manifest, prefix, trials, poll_seconds)
    return _fetched(run.objects, prefix, run.workdir / "search")


def _api() -> Any:
    from kubernetes import client, config

    config.load_incluster_config()
    return client.CustomObjectsApi()


def _wait(run: Step, api: Any, manifest: Mapping[str, Any], prefix: str, trials: int, poll_seconds: float) -> None:
    from kubernetes.client.exceptions import ApiException

    name, space = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    place = (GROUP, VERSION, space, PLURAL)
    started = False
    while True:
        try:
            job = api.get_namespaced_custom_object(*place, name)
        except ApiException as error:
            if error.status != 404:
                raise _refused(name, error) from None
            job = None
        state = ((job or {}).get("status") or {}).get("jobDeploymentStatus", "")
        if state == ENDED and run.objects.exists(f"{prefix}/result.json"):
            return
        if job is not None and state in (ENDED, FAILED):
            if started:
                raise TrialOpsError(
                    f"The search's job ended without a result: {state}",
                    where=f"RayJob {space}/{name}",
                    fix="Look at its log, then run again: finished trials are kept.",
                )
            api.delete_namespaced_custom_object(*place, name)  # of an earlier attempt
        elif job is None:
            try:
                api.create_namespaced_custom_object(*place, dict(manifest))
            except ApiException as error:
                if error.status != 409:  # somebody was quicker, or the old one is still going
                    raise _refused(name, error) from None
            else:
                started = True
        else:
            started = True
            done = sum(1 for _ in run.objects.list(f"{prefix}/trials"))
            run.progress(f"job {state or 'waits'}, trial {done} of {trials}", done / trials)
        time.sleep(poll_seconds)


def _refused(name: str, error: Any) -> TrialOpsError:
    return TrialOpsError(
        f"Kubernetes refused the search's job: HTTP {error.status}",
        where=f"RayJob {name}",
        fix="Check that KubeRay is installed and that the service account may create rayjobs.ray.io.",
    )


def _fetched(objects: ObjectStore, prefix: str, into: Path) -> SearchResult:
    import polars as pl

    content = json.loads(objects.get(f"{prefix}/result.json"))
    for part in ("model", "baseline"):
        (into / part).mkdir(parents=True, exist_ok=True)
        for key in objects.list(f"{prefix}/{part}"):
            (into / part / key.rpartition("/")[2]).write_bytes(objects.get(key))
    trials = pl.DataFrame(content.pop("trials"), schema=dict(_schema(content.pop("columns"))))
    curves = tuple(content.pop("curves"))
    fields = {**content, "trials": None, "curves": (), "bundle": None, "baseline": None}
    made = {name: restored for name, restored in _typed(fields).items()}
    return SearchResult(
        **{**made, "trials": trials, "curves": curves, "bundle": into / "model", "baseline": into / "baseline"}
    )


def _schema(columns: Mapping[str, str]) -> list[tuple[str, Any]]:
    import polars as pl

    return [(name, getattr(pl, kind)) for name, kind in columns.items()]


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that are objects, rebuilt from JSON values."""
    from trialops.models.discrimination import Estimate
    from trialops.models.internal_external import InternalExternal
    from trialops.models.search import FoldScore
    from trialops.models.temporal import TemporalScore

    return {
        **fields,
        "gain": restore(Estimate, fields["gain"]),
        "sites": restore(InternalExternal, fields["sites"]),
        "temporal": restore(TemporalScore, fields["temporal"]) if fields["temporal"] else None,
        "folds": tuple(restore(FoldScore, fold) for fold in fields["folds"]),
        "notes": tuple(fields["notes"]),
    }


def main(prefix: str) -> None:
    """What the job's head node runs: search as requested, and put the result into the object store.

    Args:
        prefix: Where the request is.
    """
    import polars as pl

    from trialops.stores import step

    with step("search-job", request=prefix) as run:
        request = json.loads(run.objects.get(f"{prefix}/request.json"))
        training = Snapshot.from_dict(request["training"])
        rows = run.read_snapshot("training", training)["rows"]
        inprocess = run.settings.search_backend == "inprocess"
        found = search(
            rows.filter(pl.col("split") == TRAIN),
            load_task(request["task"]),
            trials=request["trials"],
            seed=request["seed"],
            backend="inprocess" if inprocess else "ray",
            ray_address=None if inprocess else "auto",
            storage=run.workdir,
            progress=run.progress,
            training={"digest": training.digest},
            ledger=ObjectLedger(run.objects, f"{prefix}/trials"),
        )
        for part, folder in (("model", found.bundle), ("baseline", found.baseline)):
            for path in sorted(folder.iterdir()):
                run.objects.put(f"{prefix}/{part}/{path.name}", path.read_bytes())
        columns = {name: str(kind) for name, kind in found.trials.schema.items()}
        content = {**found.as_dict(), "columns": columns, "backend": found.backend, "seconds": found.seconds}
        # last: a result that is there is whole
        run.objects.put(f"{prefix}/result.json", json.dumps(content, indent=1, sort_keys=True).encode())


if __name__ == "__main__":
    main(sys.argv[1])
