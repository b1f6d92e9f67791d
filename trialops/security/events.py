"""Events of every source in one typed, columnar form, and what is kept of them.

Three tables are kept, never the events themselves:

* *activity*: hourly counts per actor, action, kind of object, outcome and network;
* *objects*: daily counts per actor and single object, for kinds of which one object is one case, subject or secret;
* *notable*: the few events that rules judge one by one.

Actors and objects are pseudonyms of the vault from here on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.security.networks import Networks

if TYPE_CHECKING:
    import polars as pl

TABLES = ("activity", "objects", "notable")
SOURCES = ("trail", "kubernetes", "fhir")
NOTABLE = (
    "unblind", "sign", "reidentify", "refused", "auth_failure", "secret", "exec", "privilege", "admin", "login",
)  # fmt: skip
"""Classes whose events are kept one by one; and all events of actions that a rule of the policy names."""


def schema() -> dict[str, Any]:
    """Columns of events: what a reader of a source returns."""
    import polars as pl

    return {
        "source": pl.String,
        "id": pl.String,  # unique within the source
        "at": pl.Datetime("us"),  # UTC
        "actor": pl.String,
        "service": pl.Boolean,  # null: the source does not say
        "role": pl.String,  # role acted in, where the source says
        "action": pl.String,
        "object": pl.String,
        "about": pl.String,  # the single thing acted on, where it is not the object
        "record": pl.String,  # digest of what was made or signed
        "volume": pl.Float64,  # rows, resources or bytes; null where it is not said
        "address": pl.String,
        "outcome": pl.String,  # allowed, refused, failed
        "purpose": pl.String,  # code of the purpose, or "stated"
        "run": pl.String,
    }


@dataclass(frozen=True)
class Kept:
    """What is kept of events."""

    activity: pl.DataFrame
    objects: pl.DataFrame
    notable: pl.DataFrame

    def tables(self) -> dict[str, pl.DataFrame]:
        """By name."""
        return {"activity": self.activity, "objects": self.objects, "notable": self.notable}


@cache
def rules() -> tuple[Mapping[str, Any], ...]:
    """The rules of actions.yaml, in order."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("actions.yaml").read_text("utf-8"))
    return tuple(loaded["rules"])


def classify(source: str, action: str, thing: str) -> tuple[str, str, bool]:
    """Class of an action, kind of its object, and whether single objects are counted."""
    for rule in rules():
        fits = rule["source"] == source and fnmatchcase(action, rule.get("action", "*"))
        if fits and fnmatchcase(thing, rule.get("object", "*")):
            zone = thing.replace("@", "/").split("/", 1)[0]
            kind = str(rule["kind"]).format(object=thing, zone=zone)
            return str(rule["class"]), kind[:64], bool(rule.get("objects", False))
    return "other", "other", False


@dataclass
class Collector:
    """Takes batches of events and keeps what is kept; memory does not grow with the number of events.

    Args:
        pseudonyms: Pseudonyms of values of a kind ("actor", "object"), in order.
        networks: Where addresses are.
        named: Actions whose events are notable whatever their class.
        services: Actors (in the clear) that are services.
        persons: Actors that are persons.
    """

    pseudonyms: Callable[[str, Sequence[str]], Sequence[str]]
    networks: Networks
    named: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()
    events: int = 0
    known: dict[str, dict[str, str]] = field(default_factory=lambda: {"actor": {}, "object": {}})
    _parts: dict[str, list[pl.DataFrame]] = field(default_factory=lambda: {n: [] for n in TABLES})
    _rows: int = 0

    def add(self, events: pl.DataFrame) -> None:
        """Take a batch with the columns of `schema`."""
        if events.height == 0:
            return
        self.events += events.height
        told = self._classified(events)
        self._parts["activity"].append(_summed("activity", told))
        self._parts["objects"].append(_summed("objects", told.filter(told["single"])))
        self._parts["notable"].append(told.filter(told["keep"]).select(NOTABLE_COLUMNS))
        self._rows += self._parts["activity"][-1].height + self._parts["objects"][-1].height
        if self._rows > 400_000:
            self._fold()

    def kept(self) -> Kept:
        """What was kept, sorted; an event that two batches held twice is counted twice: readers see to that."""
        import polars as pl

        self._fold()
        notable = pl.concat([_empty("notable"), *self._parts["notable"]])
        notable = notable.unique(["source", "id"], keep="first", maintain_order=True).sort("at", "source", "id")
        summed = [pl.concat([_empty(name), *self._parts[name]]) for name in _KEYS]
        return Kept(summed[0], summed[1], notable)

    def _fold(self) -> None:
        import polars as pl

        for name in _KEYS:
            if self._parts[name]:
                self._parts[name] = [_refold(name, pl.concat(self._parts[name]))]
        self._rows = sum(part.height for name in _KEYS for part in self._parts[name])

    def _classified(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with class, kind, network and pseudonyms; each distinct value is looked at once."""
        import polars as pl

        kinds = events.select("source", "action", "object").unique()
        found = [classify(*row) for row in kinds.iter_rows()]
        kinds = kinds.with_columns(
            pl.Series("class", [f[0] for f in found], dtype=pl.String),
            pl.Series("kind", [f[1] for f in found], dtype=pl.String),
            pl.Series("single", [f[2] for f in found], dtype=pl.Boolean),
            pl.Series("named", [a in self.named for a in kinds["action"]], dtype=pl.Boolean),
        )
        told = events.join(kinds, on=["source", "action", "object"], how="left", nulls_equal=True)
        told = told.with_columns(
            pl.when(pl.col("outcome") == "refused").then(pl.lit("refused")).otherwise("class").alias("class"),
            pl.col("actor").is_in(list(self.services)).alias("listed"),
            pl.col("actor").is_in(list(self.persons)).alias("person"),
            pl.coalesce("about", "object").alias("one"),
            _mapped(told["address"], self.networks.names).alias("network"),
        )
        told = told.with_columns(
            (pl.col("listed") | (pl.col("service").fill_null(False) & ~pl.col("person"))).alias("service"),
            (pl.col("single") & pl.col("one").is_not_null() & (pl.col("class") != "refused")).alias("single"),
            self._pseudonym("actor", told["actor"]),
        )
        keep = pl.col("class").is_in(NOTABLE) | pl.col("named")
        # Objects only where they are counted or judged: what is read in bulk need not be named.
        wanted = pl.when(pl.col("single") | keep).then("one")
        told = told.with_columns(wanted.alias("one"), keep.alias("keep"))
        return told.with_columns(
            self._pseudonym("object", told["one"]).alias("object"),
            pl.col("at").dt.date().alias("day"),
            pl.col("at").dt.hour().cast(pl.Int8).alias("hour"),
        )

    def _pseudonym(self, kind: str, values: pl.Series) -> pl.Series:
        known = self.known[kind]

        def look_up(distinct: Sequence[str]) -> Sequence[str]:
            new = [v for v in distinct if v not in known]
            known.update(zip(new, self.pseudonyms(kind, new), strict=True))
            made = [known[v] for v in distinct]
            if kind == "object":
                known.clear()  # there is no end of objects; of actors there is
            return made

        return _mapped(values, look_up)


def _mapped(values: pl.Series, names: Callable[[Sequence[str]], Sequence[str]]) -> pl.Series:
    """Each distinct value mapped once; null stays null."""
    import polars as pl

    distinct = values.drop_nulls().unique().to_list()
    made = dict(zip(distinct, names(distinct), strict=True))
    return values.replace_strict(made, default=None, return_dtype=pl.String) if made else values.cast(pl.String)


_ACTIVITY = ["source", "actor", "service", "role", "day", "hour", "class", "kind", "outcome", "network"]
_KEYS: Mapping[str, list[str]] = {"activity": _ACTIVITY, "objects": ["source", "actor", "day", "kind", "object"]}
NOTABLE_COLUMNS = [
    "source", "id", "at", "actor", "service", "role", "action", "class", "kind", "object", "record", "outcome",
    "network", "purpose", "run",
]  # fmt: skip


def _summed(name: str, told: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    made: list[pl.Expr] = [pl.len().cast(pl.Int64).alias("events")]
    if name == "activity":
        made += [pl.col("volume").sum().alias("volume")]
        made += [pl.col("at").min().alias("first"), pl.col("at").max().alias("last")]
    return told.group_by(_KEYS[name]).agg(made)


def _refold(name: str, parts: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    made = [pl.col("events").sum()]
    if name == "activity":
        made += [pl.col("volume").sum(), pl.col("first").min(), pl.col("last").max()]
    return parts.group_by(_KEYS[name]).agg(made).sort(_KEYS[name], nulls_last=True)


def _empty(name: str) -> pl.DataFrame:
    import polars as pl

    types: dict[str, Any] = schema() | {
        "day": pl.Date, "hour": pl.Int8, "class": pl.String, "kind": pl.String, "network": pl.String,
        "events": pl.Int64, "first": pl.Datetime("us"), "last": pl.Datetime("us"),
    }  # fmt: skip
    if name == "notable":
        return pl.DataFrame(schema={c: types[c] for c in NOTABLE_COLUMNS})
    more = ["events", "volume", "first", "last"] if name == "activity" else ["events"]
    return pl.DataFrame(schema={c: types[c] for c in [*_KEYS[name], *more]})


def nothing() -> Kept:
    """No activity."""
    return Kept(_empty("activity"), _empty("objects"), _empty("notable"))


def merged(before: Kept, new: Kept, since: Any) -> Kept:
    """Activity kept before with what was read now.

    Of a source and day that both have, what has more events stays: a log file that was read half written is replaced by
    the whole one, and one that has been rotated away since does not take its day with it.

    Args:
        before: Kept by earlier runs.
        new: Of this run; whole days as far as they could be read.
        since: Days before this one are dropped.
    """
    import polars as pl

    def total(kept: Kept) -> pl.DataFrame:
        return kept.activity.group_by("source", "day").agg(pl.col("events").sum())

    both = total(before).join(total(new), on=["source", "day"], how="full", coalesce=True, suffix="_new")
    newer = both.filter(pl.col("events_new").fill_null(-1) >= pl.col("events").fill_null(-1)).select("source", "day")

    def parts(name: str) -> pl.DataFrame:
        old, now = before.tables()[name], new.tables()[name]
        if name == "notable":
            old, now = (f.with_columns(pl.col("at").dt.date().alias("day")) for f in (old, now))
        keys = ["source", "day"]
        frame = pl.concat([old.join(newer, on=keys, how="anti"), now.join(newer, on=keys, how="semi")])
        frame = frame.filter(pl.col("day") >= since)
        if name == "notable":
            return frame.drop("day").sort("at", "source", "id")
        return frame.sort(_KEYS[name], nulls_last=True)

    return Kept(parts("activity"), parts("objects"), parts("notable"))
