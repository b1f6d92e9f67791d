"""Which finished work may stand for a step: the cache behind local runs and behind ``--resume``.

kfp.local asks one cache object three things per task: a key, what is stored under it, and to store outputs.
This one answers for this project: inputs count by content, the project's sources and settings are part of the
key, and a step that must not be cached between runs can still be found again by the run it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local.cache import LocalCache

from pipelines.runs import now, write_json
from trialops.stores.lake import disposal_key

# Variables that name a place or a person, not something a result depends on.
_NOT_PART_OF_A_RESULT = {
    "TRIALOPS_RUN_ID",
    "TRIALOPS_PIPELINE",
    "TRIALOPS_HOME",
    "TRIALOPS_ACTOR",
    "TRIALOPS_IMAGE",
    "TRIALOPS_ANCHORS",
    "TRIALOPS_CODE_VERSION",
    "TRIALOPS_UPDATE_GOLDEN",
    "TRIALOPS_DEBUG",
    "TRIALOPS_KFP_TOKEN",
    "TRIALOPS_SCHEDULES_PINNED",
}
_PART_OF_A_RESULT = {
    "HIPAA_COMPLIANCE_MODE",
    "DATA_RETENTION_DAYS",
    "AUDIT_LOG_ENABLED",
    "CLINICAL_DB_HOST",
    "CLINICAL_DB_PORT",
    "CLINICAL_DB_NAME",
    "FHIR_ENDPOINT",
    "LAB_SYSTEM_ENDPOINT",
    "REGULATORY_REPORTING_API",
}


@dataclass
class CurrentTask:
    """The task a thread is running, as far as the cache is concerned."""

    path: str
    task: str
    pure: bool
    began: float = field(default_factory=time.monotonic)
    steps: list[str] = field(default_factory=list)
    reused_from: str | None = None


def settings_digest(environment: Mapping[str, str] | None = None) -> str:
    """Digest of the settings a result depends on: compliance mode, endpoints, stores."""
    environ = os.environ if environment is None else environment
    lines = [
        f"{name}={value}"
        for name, value in sorted(environ.items())
        if name in _PART_OF_A_RESULT or (name.startswith("TRIALOPS_") and name not in _NOT_PART_OF_A_RESULT)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def by_content(value: Any) -> Any:
    """Plain form of an argument; an artifact counts by its digest, or without one by name and URI."""
    if isinstance(value, dsl.Artifact):
        digest = (value.metadata or {}).get("digest")
        facts = {"digest": digest} if digest else {"name": value.name, "uri": value.uri}
        return {"artifact": type(value).schema_title, **facts}
    if isinstance(value, list):
        return [by_content(item) for item in value]
    if isinstance(value, dict):
        return {key: by_content(item) for key, item in value.items()}
    return value


class StepCache(LocalCache):
    """Cache of finished steps below ``home/cache``.

    Args:
        root: Folder of the entries.
        run_id: The run that asks.
        code_version: Digest of the sources that steps run.
        across_runs: False keeps every step to its own run (``--no-cache``).
        lake: Folder of the lake when it is local; a reused table reference must still find its table there.
        vault: Id of the vault: another one gives other pseudonyms.
    """

    def __init__(
        self,
        root: Path,
        *,
        run_id: str,
        code_version: str,
        across_runs: bool = True,
        lake: Path | None = None,
        vault: str = "",
    ) -> None:
        super().__init__(cache_root=str(root))
        self.root = root
        self.run_id = run_id
        self.code_version = code_version
        self.across_runs = across_runs
        self.lake = lake
        self.vault = vault
        self.settings = settings_digest()
        self._current = threading.local()

    @property
    def current(self) -> CurrentTask:
        """The task of the calling thread."""
        task: CurrentTask = self._current.task
        return task

    @current.setter
    def current(self, task: CurrentTask) -> None:
        self._current.task = task

    def compute_key(
        self,
        component_name: str,
        image: str,
        full_command: list[str],
        arguments: dict[str, Any],
        env_vars: dict[str, str] | None = None,
        custom_cache_key: str | None = None,
    ) -> str:
        """Key of a task.

        A pure task: its code, arguments by content, environment, settings, vault and the project's code version. Any
        other task (and every task without a cache across runs): run id, path with loop iterations,
        and arguments, so that only the same run finds it. A component's own ``cache_key`` always counts.
        """
        task = self.current
        facts: dict[str, Any] = {
            "command": list(full_command),
            "arguments": by_content(arguments),
            "environment": dict(env_vars or {}),
            "settings": self.settings,
            "vault": self.vault,
            "key": custom_cache_key or "",
        }
        if task.pure and self.across_runs:
            facts["code"] = self.code_version
        else:
            facts |= {"run": self.run_id, "path": task.path}
            if task.pure:
                facts["code"] = self.code_version
            else:
                # A side effect already had is not repeated because unrelated code changed.
                facts.pop("command")
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """Outputs stored under a key, or None when there are none or one of their artifacts is gone."""
        try:
            entry = json.loads(self._entry(key).read_text())
            if any(not Path(path).exists() for path in entry["files"]):
                return None
            if self.lake is not None and any(not (self.lake / table).is_dir() for table in entry["tables"]):
                return None
            if any(self._disposed(version) for version in entry.get("versions", [])):
                return None
            outputs: dict[str, Any] = _outputs(entry["outputs"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        task = self.current
        task.reused_from = entry["run_id"]
        task.steps = entry["steps"]
        return outputs

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Store the outputs of the thread's task."""
        artifacts = [item for value in outputs.values() for item in (value if isinstance(value, list) else [value])]
        artifacts = [item for item in artifacts if isinstance(item, dsl.Artifact)]
        tables = {
            table for item in artifacts for table in str((item.metadata or {}).get("table", "")).split(", ") if table
        }
        named = [str((item.metadata or {}).get("version", "")) for item in artifacts]
        versions = {version for text in named for version in text.split(", ") if version}
        task = self.current
        write_json(
            self._entry(key),
            {
                "run_id": self.run_id,
                "path": task.path,
                "steps": task.steps,
                "at": now(),
                "seconds": round(time.monotonic() - task.began, 3),
                "outputs": self._serialize_outputs(outputs),
                # An artifact of metadata alone (metrics) never had a file; one that had a file must keep it.
                "files": sorted({item.uri for item in artifacts if item.uri and os.path.exists(item.uri)}),
                "tables": sorted(tables),
                "versions": sorted(versions),
            },
        )

    def _disposed(self, version: str) -> bool:
        """Whether the rows of "table@version" were deleted by retention or erasure; they have to be made again."""
        table, found, number = version.rpartition("@")
        return bool(found) and number.isdigit() and (self.root.parent / disposal_key(table, int(number))).exists()

    def _entry(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.json"


def _outputs(stored: dict[str, Any]) -> dict[str, Any]:
    from kfp.dsl import executor

    def artifact(data: dict[str, Any]) -> dsl.Artifact:
        return executor.create_artifact_instance(
            {
                "name": data["name"],
                "uri": data["uri"],
                "metadata": data["metadata"] or {},
                "type": {"schemaTitle": data["schema_title"]},
            }
        )

    def value(data: Any) -> Any:
        if isinstance(data, dict) and data.get("__kfp_artifact__"):
            return artifact(data)
        if isinstance(data, dict) and data.get("__kfp_artifact_list__"):
            return [artifact(item) for item in data["artifacts"]]
        return data

    return {name: value(data) for name, data in stored.items()}
