"""The step context: reading, writing, auditing, lineage and timing for every component, in one place.

A component opens ``with step("name", parameter=value) as run`` and uses ``run``; it never touches a store itself.
Between steps travel references (:class:`~trialops.stores.refs.Snapshot`), written as the artifact's content and
repeated in its metadata, so that lineage needs no store but our own.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trialops.errors import TrialOpsError
from trialops.settings import Settings, settings
from trialops.version import code_version

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Engine

    from trialops.governance.audit import AuditEvent, AuditTrail
    from trialops.pages import Page
    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore
    from trialops.stores.refs import Snapshot, TableRef
    from trialops.stores.registry import ModelRegistry
    from trialops.stores.vault import Vault

EVENT_PREFIX = "::trialops:: "
ONLY = "rows"
"""Name of the table in a snapshot that holds a single one."""


class Artifact(Protocol):
    """What a step needs of a KFP artifact; nothing here imports kfp."""

    name: str
    uri: str
    metadata: dict[str, Any]

    @property
    def path(self) -> str:
        """Local path of the content."""
        ...


@dataclass
class Step:
    """What a component may do while it runs. Made by :func:`step`."""

    name: str
    parameters: Mapping[str, Any]
    settings: Settings
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] | None = None
    pages: list[str] = field(default_factory=list)

    # -- stores, opened when first used ------------------------------------------------------------------------

    @cached_property
    def objects(self) -> ObjectStore:
        """Run records and evidence."""
        from trialops.stores.objects import open_store

        return open_store(self.settings.objects)

    @cached_property
    def lake(self) -> Lake:
        """Versioned tables."""
        from trialops.stores.lake import Lake

        return Lake(self.settings.lake, self.objects, retention_days=self.settings.data_retention_days)

    @cached_property
    def engine(self) -> Engine:
        """The database, migrated."""
        from trialops.stores.database import connect, migrate

        engine = connect(self.settings.database)
        migrate(engine)
        return engine

    @cached_property
    def trail(self) -> AuditTrail:
        """The audit trail."""
        from trialops.governance.audit import AuditTrail

        return AuditTrail(self.engine)

    @cached_property
    def vault(self) -> Vault:
        """Keys and pseudonyms."""
        from trialops.stores.vault import open_vault

        return open_vault(self.settings, self.objects)

    @cached_property
    def registry(self) -> ModelRegistry:
        """Models, their versions and aliases."""
        from trialops.stores.registry import ModelRegistry

        return ModelRegistry(self.settings.mlflow, str(self.settings.home.resolve() / "models"))

    @property
    def run_id(self) -> str:
        """The run this step belongs to; ``adhoc`` when a component is called by hand."""
        return self.settings.run_id or "adhoc"

    @property
    def key(self) -> str:
        """Prefix of this step's objects."""
        return f"runs/{self.run_id}/steps/{self.name}"

    @cached_property
    def workdir(self) -> Path:
        """A private folder for files that matter only while the step runs; the same one after a restart."""
        folder = self.settings.home.resolve() / "work" / self.run_id / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- tables ------------------------------------------------------------------------------------------------

    def reference(self, artifact: Artifact) -> Snapshot:
        """The table versions an input names, without reading them."""
        from trialops.stores.refs import Snapshot

        snapshot = Snapshot.from_dict(self._content(artifact))
        self._used(artifact, snapshot.as_dict())
        return snapshot

    def read(self, artifact: Artifact) -> dict[str, pl.DataFrame]:
        """All tables of an input, by short name, each checked against its digest."""
        snapshot = self.reference(artifact)
        frames = {name: self.lake.read(ref) for name, ref in snapshot.tables.items()}
        self.audit("data.read", _label(artifact), snapshot.digest, tables=_brief(snapshot))
        return frames

    def read_table(self, artifact: Artifact) -> pl.DataFrame:
        """The table of an input that holds a single one."""
        frames = self.read(artifact)
        if ONLY not in frames:
            raise TrialOpsError(
                f"Input {_label(artifact)} holds {', '.join(sorted(frames))}, not a single table",
                where=self.name,
                fix="Connect an output that holds one table.",
            )
        return frames[ONLY]

    def write(self, artifact: Artifact, frames: Mapping[str, pl.DataFrame], *, zone: str) -> Snapshot:
        """Write an output's tables to the lake and the reference to the artifact.

        Args:
            artifact: The output.
            frames: Tables by short name.
            zone: ``clean``, ``features``, ...: the first part of the table names; the short name is the second.
        """
        return self._write(artifact, {name: (f"{zone}/{name}".lower(), frame) for name, frame in frames.items()})

    def write_table(self, artifact: Artifact, frame: pl.DataFrame, *, table: str) -> Snapshot:
        """Write an output that is a single table, under its full name (``zone/name``)."""
        return self._write(artifact, {ONLY: (table, frame)})

    def read_latest(self, table: str) -> pl.DataFrame | None:
        """The newest version of a table that outlives runs, under its full name; None when there is none yet.

        For what one run must know of those before it (the part each site plays). It is an input like any other:
        checked, audited, and named with its version in the step's record.
        """
        from trialops.stores.refs import Snapshot, TableRef

        versions = self.lake.versions(table)
        if not versions:
            return None
        ref = TableRef(table, versions[0]["version"], versions[0]["rows"], versions[0]["digest"])
        snapshot = Snapshot({ONLY: ref})
        frame = self.lake.read(ref)
        # Without the record that made it: a run's lineage should not unroll every run before it.
        self.inputs.append({"artifact": table, "record": "", **snapshot.as_dict()})
        self.audit("data.read", table, snapshot.digest, tables=_brief(snapshot))
        return frame

    def read_snapshot(self, label: str, snapshot: Snapshot) -> dict[str, pl.DataFrame]:
        """Tables at exact versions that no artifact names: a validated snapshot, or what an export was made of."""
        frames = {name: self.lake.read(ref) for name, ref in snapshot.tables.items()}
        self.inputs.append({"artifact": label, "record": "", **snapshot.as_dict()})
        self.audit("data.read", label, snapshot.digest, tables=_brief(snapshot))
        return frames

    def write_named(self, table: str, frame: pl.DataFrame) -> TableRef:
        """Write a table that outlives runs, under its full name; no artifact names it, the step's record does."""
        from trialops.stores.refs import Snapshot

        ref = self.lake.write(table, frame, run_id=self.run_id, step=self.name)
        snapshot = Snapshot({ONLY: ref})
        self.outputs.append({"artifact": table, "path": "", **snapshot.as_dict()})
        self.audit("data.write", table, snapshot.digest, tables=_brief(snapshot))
        return ref

    def _write(self, artifact: Artifact, named: Mapping[str, tuple[str, pl.DataFrame]]) -> Snapshot:
        from trialops.stores.refs import Snapshot

        snapshot = Snapshot(
            {
                name: self.lake.write(table, frame, run_id=self.run_id, step=self.name)
                for name, (table, frame) in named.items()
            }
        )
        self.write_reference(artifact, snapshot)
        self.audit("data.write", _label(artifact), snapshot.digest, tables=_brief(snapshot))
        return snapshot

    def seal(
        self,
        artifact: Artifact,
        frames: Mapping[str, pl.DataFrame],
        files: Sequence[Path] | Mapping[str, Path] = (),
    ) -> None:
        """Write identifiable tables, and the files they came from, encrypted; the artifact names them.

        Args:
            artifact: The output.
            frames: Tables by name.
            files: Files to keep as received. By a label fit to be read by anyone where a later step needs them.
        """
        from trialops.stores.sealed import seal, seal_file

        named = files if isinstance(files, Mapping) else {str(number): path for number, path in enumerate(files)}
        kept = {
            label: seal_file(path.read_bytes(), vault=self.vault, objects=self.objects) for label, path in named.items()
        }
        document = seal(frames, vault=self.vault, objects=self.objects)
        if isinstance(files, Mapping):
            document["files"] = kept
        _put(Path(artifact.path), json.dumps(document, indent=1, sort_keys=True).encode())
        self._made(artifact, document, rows=sum(item["rows"] for item in document["tables"].values()))
        self.audit("data.seal", _label(artifact), document["digest"])

    def unseal(self, artifact: Artifact) -> dict[str, pl.DataFrame]:
        """The identifiable tables another step sealed; for de-identification alone."""
        from trialops.stores.sealed import unseal

        document = self._content(artifact)
        self._used(artifact, document)
        self.audit("data.unseal", _label(artifact), str(document.get("digest", "")))
        return unseal(document, vault=self.vault, objects=self.objects)

    def unseal_files(self, artifact: Artifact, *, reason: str) -> dict[str, bytes]:
        """The files another step sealed, as they were received, by label; the audit trail has the reason."""
        from trialops.stores.sealed import unseal_file

        document = self._content(artifact)
        self._used(artifact, document)
        self.audit("data.unseal", _label(artifact), str(document.get("digest", "")), reason=reason)
        return {
            label: unseal_file(digest, vault=self.vault, objects=self.objects)
            for label, digest in sorted(document.get("files", {}).items())
        }

    def write_reference(self, artifact: Artifact, snapshot: Snapshot) -> None:
        """Make an output name table versions that exist already."""
        _put(Path(artifact.path), snapshot.dumps().encode())
        described = snapshot.as_dict()
        self._made(
            artifact,
            described,
            table=", ".join(ref.table for ref in snapshot.tables.values()),
            version=", ".join(f"{ref.table}@{ref.version}" for ref in snapshot.tables.values()),
            rows=snapshot.rows,
        )

    # -- documents and folders ---------------------------------------------------------------------------------

    def read_json(self, artifact: Artifact) -> dict[str, Any]:
        """A document another step wrote with :meth:`write_json`."""
        content = self._content(artifact)
        digest = _sha256(Path(artifact.path).read_bytes())
        if artifact.metadata.get("digest", digest) != digest:
            raise TrialOpsError(
                f"Input {_label(artifact)} is not what was written: the document has changed",
                where=self.name,
                fix="Run the step that wrote it again with --no-cache; find out who changed the file.",
            )
        self._used(artifact, {"kind": "document", "digest": digest})
        return content

    def write_json(self, artifact: Artifact, document: Mapping[str, Any]) -> None:
        """Write a small document (a result, never rows) as an output, and keep it with the step's record."""
        data = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
        _put(Path(artifact.path), data)
        self.objects.put(f"{self.key}/{_label(artifact)}.json", data)
        self._made(artifact, {"kind": "document", "digest": _sha256(data)})

    def read_folder(self, artifact: Artifact) -> Path:
        """A folder another step wrote, checked against its digest."""
        from trialops.stores.folders import folder_digest

        folder = Path(artifact.path)
        digest = folder_digest(folder)
        stated = artifact.metadata.get("digest", digest)
        if stated != digest:
            raise TrialOpsError(
                f"Input {_label(artifact)} is not what was written: its files have changed",
                where=_label(artifact),
                fix="Run the step that wrote it again with --no-cache.",
            )
        self._used(artifact, {"kind": "folder", "digest": digest})
        return folder

    def write_folder(self, artifact: Artifact, source: Path, **metadata: Any) -> str:
        """Copy a folder to an output; returns its digest."""
        from trialops.stores.folders import folder_digest, replace_folder

        replace_folder(source, Path(artifact.path))
        digest = folder_digest(Path(artifact.path))
        self._made(artifact, {"kind": "folder", "digest": digest}, **metadata)
        return digest

    # -- what a person sees ------------------------------------------------------------------------------------

    def show(self, artifact: Artifact, page: Page) -> None:
        """Write a page as an HTML output and keep its content for the run's page."""
        from trialops.pages import fragment, render

        _put(Path(artifact.path), render(page).encode())
        key = f"{self.key}/page.html"
        self.objects.put(key, fragment(page, level=3).encode())
        self.pages.append(key)
        artifact.metadata.update({"title": page.title})

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Say what is going on; ``fraction`` is between 0 and 1 where it is known."""
        _emit("progress", self.name, message=message, fraction=fraction)

    # -- the record --------------------------------------------------------------------------------------------

    def audit(
        self, action: str, subject: str, version: str = "", *, reason: str = "", **detail: Any
    ) -> AuditEvent | None:
        """Append an event to the audit trail; None where the trail is off (synthetic data only)."""
        if not self.settings.audit_log_enabled:
            return None
        return self.trail.append(
            actor=self.settings.who,
            action=action,
            object=subject,
            version=version,
            reason=reason or f"step {self.name}",
            run_id=self.run_id,
            detail=detail,
        )

    def decide(self, decision: str, *, numbers: Mapping[str, Any], policy: Mapping[str, Any] | str) -> str:
        """Record a gate's decision with the numbers and the policy it was made from; returns the decision."""
        self.decision = {"decision": decision, "numbers": dict(numbers), "policy": policy}
        self.audit(f"decision.{self.name}", self.name, decision, numbers=dict(numbers), policy=policy)
        return decision

    def _used(self, artifact: Artifact, described: Mapping[str, Any]) -> None:
        item = {"artifact": _label(artifact), "record": str(artifact.metadata.get("record", "")), **described}
        if item not in self.inputs:
            self.inputs.append(item)

    def _made(self, artifact: Artifact, described: Mapping[str, Any], **metadata: Any) -> None:
        """Note an output, and say in its metadata what it is and which record tells how it came about."""
        artifact.metadata.update(
            {
                **metadata,
                "digest": described["digest"],
                "code_version": code_version(),
                "record": f"{self.key}/record.json",
            }
        )
        self.outputs.append({"artifact": _label(artifact), "path": artifact.path, **described})

    def _content(self, artifact: Artifact) -> dict[str, Any]:
        try:
            content = json.loads(Path(artifact.path).read_bytes())
        except (OSError, ValueError):
            raise TrialOpsError(
                f"Input {_label(artifact)} cannot be read",
                where=self.name,
                fix="Run the step that wrote it again with --no-cache.",
            ) from None
        if not isinstance(content, dict):
            raise TrialOpsError(f"Input {_label(artifact)} is not a document", where=self.name)
        return content


@contextmanager
def step(name: str, **parameters: Any) -> Iterator[Step]:
    """Run the body as one step: timed, recorded, audited, its errors fit to be read by anyone.

    Args:
        name: Step name, unique within its pipeline, with dashes.
        **parameters: The component's parameters, for lineage.

    Raises:
        TrialOpsError: As the body raised it; any other exception is reported by its type and place alone, because
            a library's message may quote a subject's data.
    """
    run = Step(name, parameters, settings())
    started, clock = _now(), time.perf_counter()
    _emit("start", name)
    try:
        yield run
        event = run.audit(
            "step.finish",
            name,
            code_version(),
            parameters=_plain(parameters),
            inputs=[_lineage(item) for item in run.inputs],
            outputs=[_lineage(item) for item in run.outputs],
        )
        seconds = time.perf_counter() - clock
        _record(run, "finished", started, seconds, audit_seq=event.seq if event else None)
    except BaseException as error:
        known = readable(error)
        seconds = time.perf_counter() - clock
        _emit("fail", name, seconds=seconds, error=known.as_dict())
        try:
            run.audit("step.fail", name, code_version(), error=known.as_dict())
            _record(run, "failed", started, seconds, error=known.as_dict())
        except Exception as second:  # the first error is the one to report
            print(f"the failure of {name} could not be recorded ({type(second).__name__})", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        # No cause, no context: what a library said may quote a subject, and Python would print it below ours.
        raise known from None
    _emit("finish", name, seconds=seconds, summary=_plain(run.metrics))


def readable(error: BaseException) -> TrialOpsError:
    """An error without its message where the message is not ours: type, and the place in our code."""
    if isinstance(error, TrialOpsError):
        return error
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "trialops" in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return TrialOpsError(
        f"Unexpected {type(error).__name__}",
        where=place,
        fix="Its message is withheld because it may quote subject data; reproduce it on synthetic data to see it.",
    )


def _record(run: Step, state: str, started: str, seconds: float, **more: Any) -> None:
    from trialops.governance.lineage import note_uses

    record = {
        "step": run.name,
        "run_id": run.run_id,
        "state": state,
        "started": started,
        "finished": _now(),
        "seconds": round(seconds, 4),
        **_used_by_process(),
        "code_version": code_version(),
        "parameters": _plain(run.parameters),
        "inputs": run.inputs,
        "outputs": run.outputs,
        "metrics": _plain(run.metrics),
        "decision": run.decision,
        "pages": run.pages,
        **more,
    }
    run.objects.put(f"{run.key}/record.json", json.dumps(record, indent=1, sort_keys=True, default=str).encode())
    if state == "finished":
        note_uses(run.objects, record, f"{run.key}/record.json")


def _used_by_process() -> dict[str, float]:
    """CPU time since this process began, its children's included, and its largest memory so far."""
    import resource

    spent = os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"cpu_seconds": round(sum(spent[:4]), 3), "peak_mb": round(peak, 1)}


def _emit(event: str, name: str, **values: Any) -> None:
    print(
        EVENT_PREFIX + json.dumps({"event": event, "step": name, "at": _now(), **values}, default=str),
        flush=True,
    )


def _label(artifact: Artifact) -> str:
    """The output's name, read off its path: what an orchestrator puts in ``name`` differs between backends."""
    return Path(artifact.path).name


def _brief(snapshot: Snapshot) -> dict[str, str]:
    return {name: f"{ref.table}@{ref.version}" for name, ref in snapshot.tables.items()}


def _lineage(item: Mapping[str, Any]) -> dict[str, str]:
    return {"artifact": str(item["artifact"]), "digest": str(item.get("digest", ""))}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(values, default=str)))


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.partial")
    staged.write_bytes(data)
    staged.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
