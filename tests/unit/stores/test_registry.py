"""Model versions, aliases and promotions on a real MLflow store and a real database."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.stores import promotion
from trialops.stores.database import connect, migrate, promotions
from trialops.stores.registry import CHALLENGER, CHAMPION, ModelRegistry, Registered

REQUIREMENTS = ("numpy==2.4.6", "lightgbm==4.7.0")
MODEL = "withdrawal"


def bundle(intercept: float = -0.4) -> Bundle:
    return Bundle(
        name=MODEL,
        kind="logistic",
        features=("weight_slope", "age"),
        threshold=0.4,
        task={"name": MODEL},
        training={"table": "training_set", "version": 1, "digest": "0" * 64, "rows": 200},
        created_by="run-1",
        params={"C": 1.0},
        fill={"weight_slope": 0.0, "age": 70.0},
        centre=(0.0, 70.0),
        scale=(1.0, 8.0),
        coefficients=(-0.5, 0.25),
        intercept=intercept,
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: that takes over a second, copying it nothing."""
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    assert ModelRegistry(f"sqlite:///{path}", "unused").by_alias(MODEL, CHAMPION) is None
    return path


@pytest.fixture
def registry(template: Path, tmp_path: Path) -> ModelRegistry:
    shutil.copy(template, tmp_path / "mlflow.db")
    return ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "models"))


@pytest.fixture
def log(registry: ModelRegistry, tmp_path: Path) -> Callable[..., Registered]:
    """Registers a bundle of a run; another run's bundle is another model unless its intercept is given."""

    def call(run_id: str = "run-1", intercept: float | None = None, **facts: Any) -> Registered:
        if intercept is None:
            intercept = -0.4 + 0.01 * (int(run_id.rpartition("-")[2]) - 1)
        folder = bundle(intercept).save(tmp_path / "bundles" / f"{run_id}{intercept}")
        return registry.log(folder, name=MODEL, run_id=run_id, requirements=REQUIREMENTS, **facts)

    return call


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    database = connect(f"sqlite:///{tmp_path / 'trialops.db'}")
    migrate(database)
    return database


@pytest.fixture
def postgres_engine(postgres_database: str) -> Iterator[Any]:
    database = connect(postgres_database)
    migrate(database)
    yield database
    database.dispose()


def decided(engine: Any, run_id: str, **more: Any) -> dict[str, Any]:
    return {
        "reason": "non-inferior", "decision": {"auroc": 0.81}, "actor": "reviewer", "run_id": run_id,
        "engine": engine,
    } | more  # fmt: skip


def promote(registry: ModelRegistry, version: str, engine: Any, run_id: str, **more: Any) -> Any:
    """Promote over whatever is the champion, as a run does that compared with it."""
    present = registry.by_alias(MODEL, CHAMPION)
    expected = more.pop("expected_from", present.version if present else None)
    return registry.promote(MODEL, version, expected_from=expected, **decided(engine, run_id, **more))


def test_a_version_carries_what_was_logged(
    registry: ModelRegistry, log: Callable[..., Registered], tmp_path: Path
) -> None:
    plot = tmp_path / "calibration.svg"
    plot.write_text("<svg/>")
    made = log(params={"C": 1.0}, metrics={"auroc": 0.81, "brier": 0.14}, tags={"lake.version": "7"}, files=[plot])
    assert made == Registered(MODEL, "1", "run-1", made.mlflow_run_id, "models:/withdrawal/1", bundle().digest)
    client = registry._client
    run = client.get_run(made.mlflow_run_id)
    assert run.data.metrics == {"auroc": 0.81, "brier": 0.14}
    assert run.data.params == {"C": "1.0"}
    assert (run.data.tags["lake.version"], run.data.tags["trialops.run_id"]) == ("7", "run-1")
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(made.mlflow_run_id, "files")] == ["files/calibration.svg"]
    assert client.get_model_version(MODEL, "1").tags["lake.version"] == "7"


def test_the_same_bundle_registers_once_whichever_run_brings_it(
    registry: ModelRegistry, log: Callable[..., Registered]
) -> None:
    first = log()
    assert [log(), log("run-2", intercept=-0.4)] == [first, first]
    assert log("run-2").version == "2"
    assert len(registry._client.search_model_versions(f"name='{MODEL}'")) == 2
    assert len(registry._client.search_runs([registry._experiment(MODEL)])) == 2


@pytest.mark.parametrize("step", ["log_model_artifacts", "create_model_version", "set_terminated"])
def test_a_registration_that_died_half_way_is_completed_by_the_next_call(
    registry: ModelRegistry,
    log: Callable[..., Registered],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry._client, step, die)
        with pytest.raises(KeyboardInterrupt):
            log(metrics={"auroc": 0.81})
    made = log(metrics={"auroc": 0.81})
    assert (made.version, log(metrics={"auroc": 0.81})) == ("1", made)
    experiment = registry._experiment(MODEL)
    assert len(registry._client.search_runs([experiment])) == 1
    assert len(registry._client.search_logged_models([experiment])) == 1
    assert len(registry._client.get_metric_history(made.mlflow_run_id, "auroc")) == 1
    assert Bundle.load(registry.fetch(MODEL, "1", tmp_path / "f")).digest == bundle().digest


def _log_in_process(uri: str, root: str, folder: str, start: Any, results: Any) -> None:
    start.wait()
    registry = ModelRegistry(uri, root)
    results.put(registry.log(Path(folder), name=MODEL, run_id="run-1", requirements=REQUIREMENTS).version)


@pytest.mark.slow
def test_processes_that_share_a_new_database_agree_on_the_version(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    folder = bundle().save(tmp_path / "b")
    arguments = (f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "models"), str(folder), start, results)
    processes = [context.Process(target=_log_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    versions = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    registry = ModelRegistry(arguments[0], arguments[1])
    assert registry.log(folder, name=MODEL, run_id="run-1", requirements=REQUIREMENTS).version == "1"
    assert versions == ["1", "1"]


def test_fetch_returns_the_bundle_and_refuses_altered_files(
    registry: ModelRegistry, log: Callable[..., Registered], tmp_path: Path
) -> None:
    log()
    folder = registry.fetch(MODEL, "1", tmp_path / "fetched")
    assert folder == tmp_path / "fetched" / "withdrawal-1"
    x = np.array([[0.1, 77.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(Bundle.load(folder).predict(x), bundle().predict(x))
    assert registry.fetch(MODEL, "1", tmp_path / "fetched") == folder

    stored = next((tmp_path / "models").rglob("bundle.json"))
    stored.write_text(stored.read_text().replace("-0.4", "-0.3"))
    with pytest.raises(TrialOpsError, match="altered"):
        registry.fetch(MODEL, "1", tmp_path / "again")
    bundle(0.2).save(stored.parent)  # whole and valid, but another model
    with pytest.raises(TrialOpsError, match="not the one registered"):
        registry.fetch(MODEL, "1", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_bundle_that_does_not_verify_is_not_registered(registry: ModelRegistry, tmp_path: Path) -> None:
    folder = bundle().save(tmp_path / "b")
    (folder / "bundle.json").write_text((folder / "bundle.json").read_text().replace("-0.4", "-0.3"))
    with pytest.raises(TrialOpsError, match="altered"):
        registry.log(folder, name=MODEL, run_id="run-1", requirements=REQUIREMENTS)
    assert registry.by_alias(MODEL, CHAMPION) is None


def test_aliases_point_move_and_go(registry: ModelRegistry, log: Callable[..., Registered]) -> None:
    assert registry.by_alias(MODEL, CHALLENGER) is None
    first, second = log(), log("run-2")
    registry.set_alias(MODEL, CHALLENGER, first.version)
    registry.set_alias(MODEL, CHALLENGER, second.version)
    assert registry.by_alias(MODEL, CHALLENGER) == second
    assert registry.by_alias(MODEL, CHAMPION) is None
    for _ in range(2):
        registry.remove_alias(MODEL, CHALLENGER)
        assert registry.by_alias(MODEL, CHALLENGER) is None
    with pytest.raises(TrialOpsError, match="MLflow refused"):
        registry.set_alias(MODEL, CHAMPION, "9")


def test_pyfunc_loads_the_champion_by_alias_and_predicts_the_same(
    registry: ModelRegistry, log: Callable[..., Registered], tmp_path: Path
) -> None:
    registry.set_alias(MODEL, CHAMPION, log().version)
    import mlflow
    import pandas as pd

    frame = pd.DataFrame({"age": [77.0, None], "extra": [1.0, 1.0], "weight_slope": [0.1, None]})
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        model = mlflow.pyfunc.load_model("models:/withdrawal@champion")
    finally:
        mlflow.set_tracking_uri(None)
    expected = bundle().predict(np.array([[0.1, 77.0], [np.nan, np.nan]]))
    np.testing.assert_allclose(model.predict(frame), expected, rtol=0, atol=1e-12)
    with pytest.raises(mlflow.exceptions.MlflowException, match="weight_slope"):
        model.predict(frame[["age"]])


def test_the_version_holds_no_pickle_no_path_of_this_machine_and_the_requirements_given(
    log: Callable[..., Registered], tmp_path: Path
) -> None:
    log()
    folder = next((tmp_path / "models").rglob("MLmodel")).parent
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc_model.py", "requirements.txt", "artifacts/bundle/bundle.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".pyc"))]
    assert (folder / "requirements.txt").read_text().split() == [
        "mlflow==" + _mlflow_version(),
        *REQUIREMENTS,
    ]
    own = str(Path(promotion.__file__).parents[1])
    for path in folder.rglob("*"):
        if path.is_file():
            assert own not in path.read_text(), path.name
    example = json.loads((folder / "serving_input_example.json").read_text())["dataframe_split"]
    assert example == {"columns": ["weight_slope", "age"], "data": [[0.0, 70.0]]}  # fill values, nobody's row


def _mlflow_version() -> str:
    from importlib.metadata import version

    return version("mlflow")


def test_nothing_is_said_and_the_callers_settings_stay(
    log: Callable[..., Registered], capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    import mlflow

    def settings() -> tuple[Any, ...]:
        return mlflow.get_tracking_uri(), *(logging.getLogger(name).level for name in ("mlflow", "alembic"))

    before = settings()
    gc.collect()  # what earlier tests have left unclosed warns when it is collected, whenever that is
    capfd.readouterr()
    recwarn.clear()
    log()
    assert capfd.readouterr() == ("", "")
    # The registry of this test is a file and opens no socket.
    said = [str(warning.message) for warning in recwarn]
    assert [text for text in said if not text.startswith("unclosed <socket")] == []
    assert settings() == before


def test_names_that_a_search_could_not_quote_are_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    folder = bundle().save(tmp_path / "b")
    with pytest.raises(TrialOpsError, match="quote"):
        registry.log(folder, name=MODEL, run_id="a' or '1", requirements=REQUIREMENTS)


def test_a_store_that_cannot_be_opened_is_a_clear_error_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but longer than a header so that it is read as one" * 9)
    with pytest.raises(TrialOpsError) as error:
        ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "m").by_alias(MODEL, CHAMPION)
    assert "mlflow.db" in error.value.where


# -- promotion ----------------------------------------------------------------------


def test_promotion_moves_the_alias_drops_the_challenger_and_is_logged(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any
) -> None:
    first, second = log(), log("run-2")
    promote(registry, first.version, engine, "p1")
    registry.set_alias(MODEL, CHALLENGER, second.version)
    done = promote(registry, second.version, engine, "p2")
    assert registry.by_alias(MODEL, CHAMPION) == second
    assert registry.by_alias(MODEL, CHALLENGER) is None
    assert (done.from_version, done.to_version, done.reason, done.actor) == (
        "1",
        "2",
        "non-inferior",
        "reviewer",
    )
    assert done.decision == {"auroc": 0.81} and done.confirmed > done.intended
    story = registry.history(MODEL, engine)
    assert [(t.action, t.from_version, t.to_version, bool(t.confirmed)) for t in story] == [
        ("promote", "", "1", True),
        ("promote", "1", "2", True),
    ]
    assert story[1] == done
    assert registry.history("other", engine) == []


def test_another_challenger_stays(registry: ModelRegistry, log: Callable[..., Registered], engine: Any) -> None:
    first, second = log(), log("run-2")
    registry.set_alias(MODEL, CHALLENGER, second.version)
    promote(registry, first.version, engine, "p1")
    assert registry.by_alias(MODEL, CHALLENGER) == second


def test_a_repeated_promotion_changes_nothing_even_after_a_later_one(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any
) -> None:
    first, second = log(), log("run-2")
    done = promote(registry, first.version, engine, "p1")
    assert promote(registry, first.version, engine, "p1") == done
    promote(registry, second.version, engine, "p2")
    assert promote(registry, first.version, engine, "p1") == done
    assert registry.by_alias(MODEL, CHAMPION) == second
    assert len(promotions(engine, MODEL)) == 4


@pytest.mark.parametrize("crash", ["set_alias", "remove_alias", "confirmation"])
def test_an_interrupted_promotion_is_finished_by_the_same_run(
    registry: ModelRegistry,
    log: Callable[..., Registered],
    engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    crash: str,
) -> None:
    first, second = log(), log("run-2")
    promote(registry, first.version, engine, "p1")
    registry.set_alias(MODEL, CHALLENGER, second.version)
    append = promotion._append

    def die(*arguments: Any) -> Any:
        if crash != "confirmation" or arguments[-1] == promotion.DONE:
            raise KeyboardInterrupt
        return append(*arguments)

    with monkeypatch.context() as patch:
        if crash == "confirmation":
            patch.setattr(promotion, "_append", die)
        else:
            patch.setattr(registry, crash, die)
        with pytest.raises(KeyboardInterrupt):
            promote(registry, second.version, engine, "p2")
    assert registry.history(MODEL, engine)[-1].confirmed == ""
    done = promote(registry, second.version, engine, "p2")
    assert (done.from_version, done.to_version, bool(done.confirmed)) == ("1", "2", True)
    assert registry.by_alias(MODEL, CHAMPION) == second
    assert registry.by_alias(MODEL, CHALLENGER) is None
    assert registry.history(MODEL, engine)[-1] == done
    assert len(promotions(engine, MODEL)) == 4


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_champion_the_version_was_not_compared_with_stays(
    registry: ModelRegistry,
    log: Callable[..., Registered],
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    """Run A compared version 2 with version 1; version 3 came into service before A ended."""
    engine = request.getfixturevalue("engine" if kind == "sqlite" else "postgres_engine")
    first, second, third = log(), log("run-2"), log("run-3")
    promote(registry, first.version, engine, "p1")
    promote(registry, third.version, engine, "p3")
    before = promotions(engine, MODEL)
    with pytest.raises(TrialOpsError, match="compared with version 1, but version 3 is the champion now"):
        promote(registry, second.version, engine, "p2", expected_from=first.version)
    with pytest.raises(TrialOpsError, match="judged while there was no champion, but version 3"):
        promote(registry, second.version, engine, "p0", expected_from=None)
    assert registry.by_alias(MODEL, CHAMPION) == third and promotions(engine, MODEL) == before
    # What is in service already displaces nothing, and rolling it back still finds what it replaced.
    promote(registry, third.version, engine, "p4", expected_from=first.version)
    assert registry.rollback(MODEL, third.version, **decided(engine, "r1")).to_version == first.version


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_runs_that_compared_with_the_same_champion_one_promotes(
    registry: ModelRegistry, log: Callable[..., Registered], request: pytest.FixtureRequest, kind: str
) -> None:
    engine = request.getfixturevalue("engine" if kind == "sqlite" else "postgres_engine")
    champion = log("run-9")
    promote(registry, champion.version, engine, "p9")
    versions = [log(f"run-{k}").version for k in range(1, 5)]
    together = threading.Barrier(len(versions))

    def attempt(version: str) -> str:
        together.wait()
        try:
            return promote(registry, version, engine, f"p{version}", expected_from=champion.version).to_version
        except TrialOpsError as error:
            assert "is not promoted" in error.what or "overtaken" in error.what
            return ""

    with ThreadPoolExecutor(len(versions)) as pool:
        promoted = [version for version in pool.map(attempt, versions) if version]
    in_service = registry.by_alias(MODEL, CHAMPION)
    assert in_service is not None and promoted == [in_service.version]
    confirmed = [t.to_version for t in registry.history(MODEL, engine) if t.confirmed]
    assert confirmed == [champion.version, in_service.version]


def test_an_interrupted_promotion_that_was_overtaken_is_not_finished(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = log(), log("run-2")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", die)
        with pytest.raises(KeyboardInterrupt):
            promote(registry, first.version, engine, "p1")
    promote(registry, second.version, engine, "p2")
    with pytest.raises(TrialOpsError, match="overtaken by run p2"):
        promote(registry, first.version, engine, "p1")
    assert registry.by_alias(MODEL, CHAMPION) == second


def test_rolling_the_champion_back_returns_to_the_version_it_replaced(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any
) -> None:
    first, second, third = log(), log("run-2"), log("run-3")
    promote(registry, first.version, engine, "p1")
    promote(registry, third.version, engine, "p2")
    done = registry.rollback(MODEL, third.version, **decided(engine, "r1", reason="drift"))
    assert (done.action, done.version, done.from_version, done.to_version) == ("rollback", "3", "3", "1")
    assert registry.by_alias(MODEL, CHAMPION) == first
    assert registry.rollback(MODEL, third.version, **decided(engine, "r1", reason="drift")) == done
    named = registry.rollback(MODEL, first.version, to_version=second.version, **decided(engine, "r2"))
    assert (named.from_version, named.to_version) == ("1", "2")
    assert registry.by_alias(MODEL, CHAMPION) == second
    with pytest.raises(TrialOpsError, match="no earlier version"):
        registry.rollback(MODEL, second.version, **decided(engine, "r3"))


@pytest.mark.parametrize("champion", [True, False], ids=["champion", "none"])
def test_rolling_a_candidate_back_never_puts_it_into_service(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any, champion: bool
) -> None:
    first, candidate = log(), log("run-2")
    if champion:
        promote(registry, first.version, engine, "p1")
    registry.set_alias(MODEL, CHALLENGER, candidate.version)
    done = registry.rollback(MODEL, candidate.version, **decided(engine, "c1", reason="the canary failed"))
    kept = first.version if champion else ""
    assert (done.version, done.from_version, done.to_version) == (candidate.version, kept, kept)
    assert registry.by_alias(MODEL, CHAMPION) == (first if champion else None)
    assert registry.by_alias(MODEL, CHALLENGER) is None


def test_hold_drops_the_challenger_and_keeps_the_champion(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any
) -> None:
    first, second = log(), log("run-2")
    promote(registry, first.version, engine, "p1")
    registry.set_alias(MODEL, CHALLENGER, second.version)
    held = registry.keep(MODEL, second.version, "hold", **decided(engine, "c1", reason="canary rolled back"))
    assert (held.version, held.from_version, held.to_version) == ("2", "1", "1")
    assert registry.by_alias(MODEL, CHAMPION) == first
    assert registry.by_alias(MODEL, CHALLENGER) is None


@pytest.mark.parametrize("outcome", ["reject", "unchanged"])
def test_what_was_not_promoted_is_logged_too(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any, outcome: Any
) -> None:
    first, second = log(), log("run-2")
    promote(registry, first.version, engine, "p1")
    registry.keep(MODEL, second.version, outcome, **decided(engine, "c1", reason="not shown non-inferior"))
    kept = registry.history(MODEL, engine)[-1]
    assert (kept.action, kept.version, kept.from_version, kept.to_version) == (outcome, "2", "1", "1")
    assert kept.confirmed and kept.reason == "not shown non-inferior"
    assert registry.by_alias(MODEL, CHAMPION) == first


def test_decisions_that_contradict_or_cannot_be_are_refused_before_anything_is_written(
    registry: ModelRegistry, log: Callable[..., Registered], engine: Any
) -> None:
    first, second = log(), log("run-2")
    with pytest.raises(TrialOpsError, match="MLflow refused"):
        promote(registry, "9", engine, "p0")
    with pytest.raises(TrialOpsError, match="needs the id of the run"):
        promote(registry, first.version, engine, "")
    with pytest.raises(TrialOpsError, match="MLflow refused"):
        registry.rollback(MODEL, "9", **decided(engine, "r0"))
    assert promotions(engine) == []
    promote(registry, first.version, engine, "p1")
    with pytest.raises(TrialOpsError, match="already decided to promote version 1"):
        promote(registry, second.version, engine, "p1")
    with pytest.raises(TrialOpsError, match="already decided"):
        registry.keep(MODEL, first.version, "hold", **decided(engine, "p1"))
    assert registry.by_alias(MODEL, CHAMPION) == first


def test_a_creation_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """MLflow's tables appear all at once or not at all: what a killed process left is put aside."""
    (tmp_path / ".mlflow.db.creating").write_bytes(b"half a database")
    (tmp_path / ".mlflow.db.partial").write_bytes(b"half a copy")
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "models"))
    assert registry.by_alias(MODEL, "champion") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
