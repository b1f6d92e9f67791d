from __future__ import annotations

import base64
from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.settings import RETENTION_FLOOR_DAYS, settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLINICAL_DB_HOST", "TRIALOPS_DATABASE_URL", "DATA_RETENTION_DAYS", "HIPAA_COMPLIANCE_MODE"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_embedded_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    found = settings()
    assert found.database == f"sqlite:///{tmp_path / 'trialops.db'}"
    assert found.lake == str(tmp_path / "lake") and found.mlflow.startswith("sqlite:///")
    assert found.hipaa_compliance_mode == "strict" and found.data_retention_days == RETENTION_FLOOR_DAYS


def test_catalogue_names_choose_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINICAL_DB_HOST", "db.example")
    monkeypatch.setenv("CLINICAL_DB_PORT", "5433")
    monkeypatch.setenv("CLINICAL_DB_PASSWORD", "p@ss/word")
    assert settings().database == "postgresql+psycopg://trialops:p%40ss%2Fword@db.example:5433/trialops"
    assert "p@ss" not in repr(settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("DATA_RETENTION_DAYS", "30"), ("HIPAA_COMPLIANCE_MODE", "lenient"), ("CLINICAL_DB_PORT", "many")],
)
def test_values_that_may_not_be(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TrialOpsError) as caught:
        settings()
    assert name in caught.value.where.upper()


def test_cluster_profile_refuses_stores_inside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_PROFILE", "cluster")
    monkeypatch.setenv("TRIALOPS_LAKE_URL", "s3://trial/lake")
    with pytest.raises(TrialOpsError) as caught:
        settings()
    for name in ("TRIALOPS_OBJECTS_URL", "CLINICAL_DB_HOST", "TRIALOPS_MLFLOW_URI", "TRIALOPS_VAULT_KEY"):
        assert name in caught.value.where
    assert "TRIALOPS_LAKE_URL" not in caught.value.where
    monkeypatch.setenv("TRIALOPS_OBJECTS_URL", "s3://trial/objects")
    monkeypatch.setenv("CLINICAL_DB_HOST", "db.example")
    monkeypatch.setenv("TRIALOPS_MLFLOW_URI", "http://mlflow.example")
    monkeypatch.setenv("TRIALOPS_VAULT_KEY", base64.b64encode(b"k" * 32).decode())
    assert settings().lake == "s3://trial/lake"


def test_master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_VAULT_KEY", base64.b64encode(b"k" * 32).decode())
    assert settings().master_key == b"k" * 32
    assert "a2tra" not in repr(settings())
    monkeypatch.setenv("TRIALOPS_VAULT_KEY", "short")
    settings.cache_clear()
    with pytest.raises(TrialOpsError, match="32 bytes"):
        _ = settings().master_key


def test_the_online_store_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRIALOPS_ONLINE_URL", raising=False)
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    assert settings().online == f"sqlite:///{tmp_path}/features/online.db"
    settings.cache_clear()
    monkeypatch.setenv("TRIALOPS_ONLINE_URL", "postgresql://db/features")
    assert settings().online == "postgresql://db/features"


def test_the_online_store_is_never_a_file_in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    from trialops.settings import Settings

    monkeypatch.delenv("TRIALOPS_ONLINE_URL", raising=False)
    shared = {
        "lake_url": "s3://b/lake",
        "objects_url": "s3://b/o",
        "database_url": "postgresql+psycopg://d/t",
        "mlflow_uri": "https://mlflow",
        "vault_key": base64.b64encode(bytes(32)).decode(),
    }
    with pytest.raises(TrialOpsError, match="online store that pods share"):
        _ = Settings(profile="cluster", **shared).online  # type: ignore[arg-type]
    found = Settings(profile="cluster", online_url="redis://cache:6379/0", **shared)  # type: ignore[arg-type]
    assert found.online == "redis://cache:6379/0"
