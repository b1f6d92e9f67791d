"""What may still be needed: every reference to a table version that anything else holds.

A version is kept where a validated manifest, the lineage of a registered model or document, a legal hold, an object or
a row of the database names it, directly or by a digest. What cannot be read or is of no known kind makes everything
kept: nothing is removed because nobody could look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.lineage import run_records, upstream
from trialops.operations.lake_policy import LakePolicy

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.privacy.holds import Hold
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore
    from trialops.stores.registry import ModelRegistry
    from trialops.stores.vault import Vault

_VERSION = re.compile(r"\b([a-z0-9_]+(?:/[a-z0-9_]+)+)@(\d+)\b")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_SUBJECT = "subject/"


@dataclass(frozen=True)
class ModelUse:
    """A registered model version and the data it was made from.

    Attributes:
        name: Model and version.
        run_id: The run that registered it.
        tables: Table, version and digest, as the registry names them.
    """

    name: str
    run_id: str
    tables: tuple[tuple[str, int, str], ...] = ()


@dataclass
class References:
    """What is referred to, and by what.

    Attributes:
        versions: ``zone/name@version`` to what names it.
        digests: Digest to what names it.
        tables: Pattern of tables all of whose versions are kept, to why.
        unclear: What could not be looked at; with any of it everything is kept.
        members: Digest of a snapshot to the versions in it.
        records: Keys of the step records that were walked: evidence that is kept too.
    """

    versions: dict[str, set[str]] = field(default_factory=dict)
    digests: dict[str, set[str]] = field(default_factory=dict)
    tables: dict[str, set[str]] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)
    members: dict[str, set[str]] = field(default_factory=dict)
    records: set[str] = field(default_factory=set)

    def name(self, table: str, version: int, why: str, digest: str = "") -> None:
        """Note a version by number and, where known, by digest."""
        self.versions.setdefault(f"{table}@{version}", set()).add(why)
        if digest:
            self.digests.setdefault(digest, set()).add(why)

    def settle(self) -> None:
        """A snapshot that is named by its digest names the versions in it."""
        for digest, reasons in list(self.digests.items()):
            for name in self.members.get(digest, ()):
                self.versions.setdefault(name, set()).update(reasons)

    def why(self, table: str, version: int, digest: str = "") -> list[str]:
        """What keeps a version; empty where nothing does."""
        found = set(self.unclear) | self.versions.get(f"{table}@{version}", set())
        if digest:
            found |= self.digests.get(digest, set())
        for pattern, reasons in self.tables.items():
            if fnmatchcase(table, pattern):
                found |= reasons
        return sorted(found)

    def keeps_object(self, key: str) -> bool:
        """Whether an object is evidence of something that is kept."""
        return bool(self.unclear) or key in self.records or f"{key.rsplit('/', 1)[0]}/record.json" in self.records


def collect(run: Step, policy: LakePolicy, progress: bool = True) -> References:
    """Every reference in the stores of a step.

    Args:
        run: The step.
        policy: What is searched.
        progress: Say what is being looked at.
    """
    from trialops.privacy.holds import active

    found = References()

    def tell(message: str, fraction: float) -> None:
        if progress:
            run.progress(message, fraction)

    tell("looking for references: manifests, holds", 0.0)
    roots = named_by_manifests(found, run.objects)
    named_by_holds(found, active(run.engine), table_classes())
    tell("looking for references: models, documents", 0.2)
    models = models_of(run.registry, run.settings.mlflow, found)
    roots |= {model.run_id: f"model {model.name}" for model in models}
    roots |= documents_of(run.engine)
    named_by_models(found, models)
    tell("looking for references: lineage", 0.4)
    snapshots_of(found, run.objects)
    walk(found, run.objects, roots, known={model.run_id for model in models if model.tables})
    tell("looking for references: objects and database", 0.6)
    mentioned_by_objects(found, run.objects, policy, run.vault)
    mentioned_by_database(found, run.engine, policy)
    found.settle()
    return found


def named_by_manifests(found: References, objects: ObjectStore) -> dict[str, str]:
    """Versions in every chain of validated versions; returns the runs that marked them, with the reason."""
    from trialops.stores.lake import Lake

    roots: dict[str, str] = {}
    lake = Lake("", objects)
    names = {key.removeprefix("validated/").rpartition("/")[0] for key in objects.list("validated")}
    for dataset in sorted(names - {""}):
        try:
            chain = lake.manifests(dataset)
        except TrialOpsError as error:
            found.unclear.append(f"the manifests of {dataset} cannot be read: {error.what}")
            continue
        for manifest in chain:
            why = f"manifest {dataset}/{manifest.sequence}"
            for ref in manifest.snapshot.tables.values():
                found.name(ref.table, ref.version, why, ref.digest)
            if manifest.run_id:
                roots[manifest.run_id] = why
    return roots


def named_by_holds(found: References, holds: Iterable[Hold], classes: Mapping[str, Sequence[str]]) -> None:
    """Tables under legal hold. A hold on a subject keeps every table of its classes: which hold them is not known.

    Args:
        found: Takes them.
        holds: Holds in force.
        classes: Record class to patterns of its tables.
    """
    for hold in holds:
        why = f"legal hold {hold.hold}"
        for name, patterns in classes.items():
            if fnmatchcase(name, hold.record_class):
                everything = hold.object == "*" or hold.object.startswith(_SUBJECT)
                for pattern in patterns if everything else (hold.object,):
                    found.tables.setdefault(pattern, set()).add(why)
        if not any(fnmatchcase(name, hold.record_class) for name in classes):
            found.tables.setdefault("*", set()).add(f"{why}, whose class {hold.record_class} is not known")


def table_classes() -> dict[str, Sequence[str]]:
    """Record class to patterns of its tables, from the retention policy."""
    from trialops.privacy.retention import default_retention_policy

    return {one.name: one.lake for one in default_retention_policy().classes}


def models_of(registry: ModelRegistry, uri: str, found: References) -> list[ModelUse]:
    """Every registered model version; what cannot be asked is noted as unclear."""
    from pathlib import Path

    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        return []  # no registry has been made yet, and looking would make one
    try:
        return [
            ModelUse(f"{one.name}/{one.version}", one.run_id, registry.data_of(one))
            for name in registry.names()
            for one in registry.versions(name)
        ]
    except TrialOpsError as error:
        found.unclear.append(f"the model registry cannot be asked: {error.what}")
        return []


def named_by_models(found: References, models: Iterable[ModelUse]) -> None:
    """The data that the registry says models were made from."""
    for model in models:
        for table, version, digest in model.tables:
            found.name(table, version, f"model {model.name}", digest)


def documents_of(engine: Engine) -> dict[str, str]:
    """Runs that registered regulatory documents, with the reason."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import documents as table

    with reading(engine) as connection:
        rows = connection.execute(sa.select(table.c.run_id, table.c.document, table.c.version)).all()
    return {row.run_id: f"document {row.document}/{row.version}" for row in rows if row.run_id}


def snapshots_of(found: References, objects: ObjectStore) -> None:
    """What the digests of snapshots stand for, from every step record."""
    for key in objects.list("runs"):
        if not key.endswith("/record.json"):
            continue
        try:
            record = json.loads(objects.get(key))
            items = [*record["inputs"], *record["outputs"]]
            for item in items:
                names = {f"{t['table']}@{int(t['version'])}" for t in item.get("tables", {}).values() if "table" in t}
                if names and item.get("digest"):
                    found.members.setdefault(str(item["digest"]), set()).update(names)
        except (KeyError, TypeError, ValueError, AttributeError):
            found.unclear.append(f"a step record cannot be read: {key}")


def walk(found: References, objects: ObjectStore, roots: Mapping[str, str], known: Iterable[str] = ()) -> None:
    """Everything that some runs' results depend on, by lineage, across runs.

    Args:
        found: Takes it.
        objects: Step records.
        roots: Run to why it counts.
        known: Runs whose data the registry names, so that missing records leave nothing open.
    """
    for run_id, why in sorted(roots.items()):
        try:
            own = run_records(objects, run_id)
            records = upstream(objects, own)
        except (KeyError, TypeError, ValueError):
            found.unclear.append(f"the records of run {run_id} cannot be read ({why})")
            continue
        if not own and run_id not in set(known):
            found.unclear.append(f"no record says what run {run_id} was made from ({why})")
        for record in records:
            found.records.add(f"runs/{record['run_id']}/steps/{record['step']}/record.json")
            for item in (*record["inputs"], *record["outputs"]):
                for table in item.get("tables", {}).values():
                    if "table" in table and table.get("version") is not None:
                        found.name(str(table["table"]), int(table["version"]), why, str(table.get("digest", "")))
            missing = {str(i.get("record", "")) for i in record["inputs"]} - {""}
            for key in sorted(missing):
                if not objects.exists(key):
                    found.unclear.append(f"a record that {why} depends on is missing: {key}")


def mentioned_by_objects(
    found: References, objects: ObjectStore, policy: LakePolicy, vault: Vault | None = None
) -> None:
    """Versions and digests in objects that may hold some; objects of no known kind leave everything open."""
    strange: dict[str, int] = {}
    for key in objects.list(""):
        if not policy.known(key):
            place = key.split("/", 1)[0]
            strange[place] = strange.get(place, 0) + 1
        elif not policy.is_opaque(key):
            text = _text(objects.get(key), key, vault)
            if text is None:
                found.unclear.append(f"an object cannot be read: {key}")
            else:
                mentioned(found, text, f"object {key}")
    for place, number in sorted(strange.items()):
        found.unclear.append(f"{number} objects below {place} are of no known kind (lake.yaml, references)")


def mentioned_by_database(found: References, engine: Engine, policy: LakePolicy) -> None:
    """Versions and digests in the text columns of the database."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import metadata

    with reading(engine) as connection:
        for table in metadata.sorted_tables:
            if table.name in policy.not_mentions:
                continue
            columns = [c for c in table.c if isinstance(c.type, sa.Text | sa.String)]
            for row in connection.execute(sa.select(*columns)) if columns else ():
                for value in row:
                    if value and len(value) > 3:
                        mentioned(found, str(value), f"table {table.name}")


def _text(data: bytes, key: str, vault: Vault | None) -> str | None:
    """What an object says, opened by the vault where it is sealed; None where neither helps."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if vault is None:
            return None
    try:
        # Characters outside ASCII name no version and are in no digest.
        return vault.decrypt(data, context=key).decode("utf-8", "replace")
    except TrialOpsError:
        return None


def mentioned(found: References, text: str, why: str) -> None:
    """Every version and digest that a text names."""
    for table, version in _VERSION.findall(text):
        found.versions.setdefault(f"{table}@{version}", set()).add(why)
    for digest in _DIGEST.findall(text):
        found.digests.setdefault(digest, set()).add(why)
    if '"table"' in text and '"version"' in text:
        try:
            _nested(found, json.loads(text), why)
        except ValueError:
            return


def _nested(found: References, value: Any, why: str) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("table"), str) and isinstance(value.get("version"), int | float):
            found.name(value["table"], int(value["version"]), why)
        for part in value.values():
            _nested(found, part, why)
    elif isinstance(value, list):
        for part in value:
            _nested(found, part, why)
