"""The raw zone across deliveries: what is held, in which version, and what a new delivery changes.

The state is a chain of small documents, each naming sealed tables and the digest of the state before it; a new one
becomes visible with one conditional write, after everything it names is sealed. Objects are never changed: what an
older state named can still be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import RECEIVED, ROW, SOURCE
from trialops.stores.sealed import seal, unseal

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

HISTORY = "_history"
HISTORY_SCHEMA = {
    "type": "String",
    "id": "String",
    "version": "String",
    "updated": "String",
    "digest": "String",
    RECEIVED: "Date",
    "deleted": "Boolean",
    "seq": "Int64",
}
"""Every version ever accepted, and every deletion (digest then names the deletion); seq is the order of arrival."""


@dataclass(frozen=True)
class Held:
    """What the raw zone holds.

    Attributes:
        seq: Number of the state, 0 before the first.
        digest: SHA-256 of the state's document, empty before the first.
        tables: Sealed tables by resource type: key, rows, digest.
        history: See HISTORY_SCHEMA.
        rules: Rules under which the content was found valid.
        cursors: Last safely sealed point of each source that is asked, not delivered.
    """

    seq: int
    digest: str
    tables: Mapping[str, Mapping[str, Any]]
    history: pl.DataFrame
    rules: str = ""
    cursors: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The sealed tables as :func:`trialops.stores.sealed.unseal` reads them."""
        return sealed_document(self.tables)


def sealed_document(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A document over sealed tables, as :func:`trialops.stores.sealed.seal` makes it."""
    kept = {name: dict(tables[name]) for name in sorted(tables)}
    total = hashlib.sha256("\n".join(f"{n}={s['digest']}" for n, s in kept.items()).encode()).hexdigest()
    return {"kind": "sealed", "digest": total, "tables": kept}


def empty_history() -> pl.DataFrame:
    """A history without rows."""
    import polars as pl

    return pl.DataFrame(schema={name: getattr(pl, kind) for name, kind in HISTORY_SCHEMA.items()})


@dataclass(frozen=True)
class Merged:
    """What a delivery makes of what is held.

    Attributes:
        changed: Tables that are other than before, whole; empty where the last resource of a type was deleted.
        history: The new history.
        accepted: Positions (file, row) of the delivery that are now current, or deletions in force.
        superseded: Positions that are older than what is held or also delivered.
        conflicts: Positions whose version was seen with other content.
    """

    changed: dict[str, pl.DataFrame]
    history: pl.DataFrame
    accepted: pl.DataFrame
    superseded: pl.DataFrame
    conflicts: pl.DataFrame


class RawZone:
    """The chain of states of one kind of source.

    Args:
        vault: Seals the tables; another vault's states are not seen.
        objects: Where they are.
        name: Kind of source, part of the keys.
    """

    def __init__(self, vault: Vault, objects: ObjectStore, name: str = "fhir") -> None:
        self._vault, self._objects = vault, objects
        self._prefix = f"raw/{vault.id}/state/{name}"

    def held(self) -> Held:
        """The newest state.

        Raises:
            TrialOpsError: Something it names is missing or altered.
        """
        keys = list(self._objects.list(self._prefix))
        if not keys:
            return Held(0, "", {}, empty_history())
        data = self._objects.get(keys[-1])
        body = json.loads(data)
        digest = hashlib.sha256(data).hexdigest()
        if self._vault.destroyed() and not self._readable(body):
            # Its key was destroyed on purpose: nothing of it comes back, and what arrives from now on begins anew.
            return Held(int(body["seq"]), digest, {}, empty_history())
        history = unseal(body["history"], vault=self._vault, objects=self._objects)[HISTORY]
        return Held(
            int(body["seq"]),
            digest,
            body["tables"],
            history,
            str(body["rules"]),
            dict(body["cursors"]),
        )

    def _readable(self, body: Mapping[str, Any]) -> bool:
        """Whether everything a state names still opens."""
        items = [*body["tables"].values(), *body["history"]["tables"].values()]
        return all(self._vault.opens(self._objects.get(item["key"]), context=item["key"]) for item in items)

    def read(self, held: Held, types: set[str]) -> dict[str, pl.DataFrame]:
        """Held tables of some types, decrypted; a type that is not held is left out."""
        wanted = {name: item for name, item in held.tables.items() if name in types}
        return unseal(sealed_document(wanted), vault=self._vault, objects=self._objects) if wanted else {}

    def commit(self, held: Held, merged: Merged | None, *, rules: str, cursors: Mapping[str, str]) -> Held:
        """Seal what a delivery changed and make it the newest state.

        Args:
            held: The state it was merged with.
            merged: The change, or None where only a cursor moves.
            rules: Rules the content was checked under.
            cursors: New cursors, by source; others stay.

        Returns:
            The new state; the old one where nothing has changed.

        Raises:
            StateMoved: Another run committed in between; merge again.
        """
        tables = {name: dict(item) for name, item in held.tables.items()}
        history = held.history
        if merged is not None:
            sealed = seal(merged.changed, vault=self._vault, objects=self._objects)
            tables |= sealed["tables"]
            tables = {name: item for name, item in tables.items() if item["rows"]}
            history = merged.history
        moved = dict(held.cursors) | dict(cursors)
        same = history.height == held.history.height and tables == held.tables and moved == held.cursors
        if same and held.seq and rules == held.rules:
            return held
        body = {
            "kind": "raw state",
            "seq": held.seq + 1,
            "previous": held.digest,
            "tables": tables,
            "history": seal({HISTORY: history}, vault=self._vault, objects=self._objects),
            "rules": rules,
            "cursors": moved,
        }
        data = json.dumps(body, indent=1, sort_keys=True).encode()
        if not self._objects.put(f"{self._prefix}/{held.seq + 1:08d}.json", data, if_absent=True):
            raise StateMoved()
        return Held(held.seq + 1, hashlib.sha256(data).hexdigest(), tables, history, rules, moved)


class StateMoved(TrialOpsError):
    """Another run changed the raw zone first."""

    def __init__(self) -> None:
        super().__init__("Another run changed the raw zone in between", fix="Run it again: nothing is lost.")


def merge(zone: RawZone, held: Held, new: Mapping[str, pl.DataFrame], deletions: pl.DataFrame) -> Merged:
    """Merge a delivery with what is held.

    A version is newer by versionId as a number, then by lastUpdated, then by the day received, then by the order of
    arrival. A deletion ends what is not newer than itself.

    Args:
        zone: To read the held tables that change.
        held: What is held.
        new: Resource tables of the delivery, rows in reading order; content that is held already left out.
        deletions: type, id, version, updated, digest, _SOURCE, _ROW, _RECEIVED of deletions, likewise.

    Returns:
        The change.
    """
    import polars as pl

    added = _arrivals(held, new, deletions)
    everything = pl.concat([held.history.with_columns(_new=pl.lit(False)), added.drop(SOURCE, ROW)])
    named = (pl.col("version") != "") & ~pl.col("deleted")
    first = pl.col("digest").sort_by("seq").first().over("type", "id", "version")
    everything = everything.with_columns(_conflict=named & pl.col("_new") & (pl.col("digest") != first))
    clean = everything.filter(~pl.col("_conflict"))
    current = _current(clean)
    history = clean.drop("_new", "_conflict").sort("seq").select(list(HISTORY_SCHEMA))
    changed = _changed(zone, held, new, current, set(added["type"]))
    conflicted = added.join(everything.filter("_conflict").select("seq"), on="seq", how="semi")
    sound = added.join(conflicted.select("seq"), on="seq", how="anti")
    force = sound.join(current.select("seq"), on="seq", how="semi")
    ended = sound.filter("deleted").join(current.select("type", "id"), on=["type", "id"], how="anti")
    accepted = pl.concat([force, ended]).select(SOURCE, ROW, "type", "deleted")
    superseded = sound.join(accepted, on=[SOURCE, ROW], how="anti").select(SOURCE, ROW, "type", "deleted")
    return Merged(changed, history, accepted, superseded, conflicted.select(SOURCE, ROW, "type", "deleted"))


def _arrivals(held: Held, new: Mapping[str, pl.DataFrame], deletions: pl.DataFrame) -> pl.DataFrame:
    """Rows of the delivery in the form of the history, with their positions, numbered in order of arrival."""
    import polars as pl

    columns = ["type", "id", "version", "updated", "digest", RECEIVED, "deleted", SOURCE, ROW]
    parts = [
        frame.with_columns(type=pl.lit(kind), deleted=pl.lit(False)).select(columns) for kind, frame in new.items()
    ]
    parts.append(deletions.with_columns(deleted=pl.lit(True)).select(columns))
    start = int(held.history["seq"].max() or 0) + 1  # type: ignore[arg-type]
    return (
        pl.concat(parts)
        .sort(RECEIVED, SOURCE, ROW, nulls_last=False, maintain_order=True)
        .with_columns(seq=pl.int_range(start, start + pl.len(), dtype=pl.Int64), _new=pl.lit(True))
        .select([*HISTORY_SCHEMA, "_new", SOURCE, ROW])
    )


def _current(history: pl.DataFrame) -> pl.DataFrame:
    """The newest version of each resource that no deletion has ended."""
    import polars as pl

    ranked = history.with_columns(
        _number=pl.col("version").cast(pl.Int64, strict=False),
        _time=instants("updated"),
        _day=pl.col(RECEIVED).fill_null(pl.date(1, 1, 1)),
    )
    order = [pl.col("_number").fill_null(-1), pl.col("_time").fill_null(0), pl.col("_day"), pl.col("seq")]
    key = ["type", "id"]
    newest = ranked.filter(~pl.col("deleted")).sort(order).unique(key, keep="last", maintain_order=True)
    ends = ranked.filter("deleted").sort(pl.col("_time").fill_null(0), "seq").select(*key, "_number", "_time", "seq")
    pairs = newest.join(ends, on=key, how="inner", suffix="_end")
    by_number = pl.col("_number_end") >= pl.col("_number")
    by_time = pl.col("_time_end") >= pl.col("_time")
    ended = pairs.filter(pl.coalesce(by_number, by_time, pl.col("seq_end") > pl.col("seq"))).select(key).unique()
    return newest.join(ended, on=key, how="anti").select(list(HISTORY_SCHEMA))


def instants(column: str) -> pl.Expr:
    """meta.lastUpdated as microseconds since 1970 (UTC); null where there is none."""
    import polars as pl

    text = pl.col(column).str.replace(r"Z$", "+00:00")
    # %.f needs a fraction to be there; one is put in where the second is whole.
    whole = text.str.replace(r"(T\d{2}:\d{2}:\d{2})([+-])", "$1.0$2")
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_zone="UTC").dt.epoch("us")


def _changed(
    zone: RawZone, held: Held, new: Mapping[str, pl.DataFrame], current: pl.DataFrame, types: set[str]
) -> dict[str, pl.DataFrame]:
    """The tables of some types as they are now, rows in order of id."""
    import polars as pl

    from trialops.intake.fhir_tables import empty

    before = zone.read(held, types)
    changed = {}
    for kind in sorted(types):
        rows = pl.concat([before.get(kind, empty()), new.get(kind, empty())])
        kept = current.filter(pl.col("type") == kind).select("id", "digest")
        table = rows.join(kept, on=["id", "digest"], how="semi").sort("id", "digest")
        if kind not in before or not table.equals(before[kind]):
            changed[kind] = table
    return changed
