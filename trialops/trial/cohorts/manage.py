"""One run over all cohorts: evaluate, write the memberships, say what has changed since the run before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.trial.cohorts import membership
from trialops.trial.cohorts.attrition import MEMBERS, Attrition, attrition
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.concept_sets import tables_of
from trialops.trial.cohorts.definitions import Definition, definitions
from trialops.trial.cohorts.evaluate import CdmTables, Evaluated
from trialops.trial.cohorts.load import Load, read_load
from trialops.trial.cohorts.overlap import Overlap, overlap

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.stores.lake import Manifest

DATASET = "cohorts"
"""Name of the chain of memberships."""
TABLES = ("cohort", "cohort_definition")
ZONE = "omop"
SHOWN_RUNS = 24


@dataclass(frozen=True)
class Cohort:
    """A cohort of this run.

    Attributes:
        definition: What it means.
        version: 1 for the first content of its name, one more with every other content.
        evaluated: What it gave.
        attrition: Persons step by step.
        difference: From the run before.
        sizes: Members over the runs as a page may show them, this one last.
    """

    definition: Definition
    version: int
    evaluated: Evaluated
    attrition: Attrition
    difference: membership.Difference
    sizes: tuple[int | None, ...]

    @property
    def rules(self) -> list[str]:
        """Names of the inclusion rules."""
        return [rule.name for rule in self.definition.expression.rules]


@dataclass(frozen=True)
class Managed:
    """All cohorts of this run.

    Attributes:
        cohorts: By name.
        overlap: Persons in several.
        load: What they were evaluated over.
        source: Where the definitions are from.
        withdrawn: Names that the run before had and this one has not.
    """

    cohorts: tuple[Cohort, ...]
    overlap: Overlap
    load: Load
    source: str
    withdrawn: tuple[str, ...]

    @property
    def changed(self) -> int:
        """Cohorts of which somebody's membership has changed."""
        return sum(one.difference.any for one in self.cohorts)


@dataclass(frozen=True)
class Before:
    """The run before.

    Attributes:
        manifest: Its link in the chain.
        cohorts: Its membership table.
        definitions: Canonical JSON by cohort_definition_id.
    """

    manifest: Manifest
    cohorts: pl.DataFrame
    definitions: Mapping[int, str]

    def noted(self, name: str) -> Mapping[str, Any]:
        """What it noted of a cohort: digest and version; empty where it had none of that name."""
        found: Mapping[str, Any] = self.manifest.evidence["cohorts"].get(name, {})
        return found


def manage(
    run: Step,
    *,
    folder: str,
    vocabulary: str,
    blinded: bool,
    cdm: Artifact,
    cohorts: Artifact,
    changes: Artifact,
) -> Managed:
    """Evaluate the definitions over the newest OMOP tables and write what they give.

    Args:
        run: The step.
        folder: Folder with definitions; empty: imported ones, else those that ship.
        vocabulary: Folder with an Athena download, for descendants and mapped concepts.
        blinded: Whether the study's outputs keep the treatment to themselves.
        cdm: Takes the name of the load.
        cohorts: Takes the tables cohort and cohort_definition.
        changes: Takes who has changed and where everybody stands; sealed.
    """
    from trialops.standards.omop_run import vocabulary_of

    chosen, source = definitions(run.objects, folder)
    load = read_load(run, blinded=blinded)
    words = vocabulary_of(run, vocabulary)
    before = last(run)
    tables = CdmTables(load.tables, study_days=load.study_days, vocabulary=tables_of(words))
    try:
        found = _evaluate(run, tables, chosen)
        shared = overlap({one.name: _persons(found[one.name]) for one in chosen}, len(load.persons))
        versions = {one.name: _version(run, one) for one in chosen}
        made, sealed = [], []
        for one in chosen:
            state = _state(one, found[one.name], tables, load, words.digest, before)
            hidden = shared.size_withheld(one.name)
            made.append(_cohort(run, one, versions[one.name], found[one.name], load, state, hidden))
            sealed.append((one, state))
    finally:
        tables.close()
    rows = {one.id: found[one.name].members for one in chosen}
    written = {
        "cohort": membership.cohort_table(rows),
        "cohort_definition": membership.definition_table(chosen, versions),
    }
    snapshot = run.write(cohorts, written, zone=ZONE)
    run.seal(changes, _sealed(sealed, found, load))
    evidence = {
        "cohorts": {one.definition.name: _note(one) for one in made},
        "data": load.digest,
        "vocabulary": words.digest,
        "sealed": json.loads(Path(changes.path).read_bytes()),
    }
    run.lake.mark_validated(DATASET, snapshot, evidence, run_id=run.run_id)
    run.write_reference(cdm, load.snapshot)
    names = {one.name for one in chosen}
    gone = sorted(set(before.manifest.evidence["cohorts"]) - names) if before else []
    return Managed(tuple(made), shared, load, source, tuple(gone))


def last(run: Step) -> Before | None:
    """The newest memberships that still verify; None before the first run."""
    link = run.lake.last_validated(DATASET)
    if link is None:
        return None
    frames = {name: run.lake.read(link.snapshot.tables[name]) for name in TABLES}
    table = frames["cohort_definition"]
    syntax = dict(table.select("cohort_definition_id", "cohort_definition_syntax").iter_rows())
    return Before(link, frames["cohort"], syntax)


def _note(one: Cohort) -> dict[str, Any]:
    """What the chain says of a cohort: names, digests, and figures that may be told."""
    return {
        "id": one.definition.id,
        "digest": one.definition.digest,
        "version": one.version,
        "members": one.attrition.shown[MEMBERS],
        "since": one.difference.words,
        "changes": [list(line) for line in one.difference.reasons],
    }


def _evaluate(run: Step, tables: CdmTables, chosen: Sequence[Definition]) -> dict[str, Evaluated]:
    made = {}
    for place, one in enumerate(chosen):
        run.progress(f"evaluating {one.name}", place / len(chosen))
        made[one.name] = tables.evaluate(one.expression)
    return made


def _persons(evaluated: Evaluated) -> set[int]:
    return set(evaluated.members["person_id"].unique().to_list())


def _version(run: Step, one: Definition) -> int:
    """1 for the first content of a name, one more with every other content; a name that comes back goes on."""
    for link in reversed(run.lake.manifests(DATASET)):
        noted = link.evidence["cohorts"].get(one.name)
        if noted is not None:
            return int(noted["version"]) + (noted["digest"] != one.digest)
    return 1


@dataclass(frozen=True)
class _State:
    """A cohort against the run before."""

    known: bool
    definition_changed: bool
    data_changed: bool
    before: pl.DataFrame
    changed: pl.DataFrame


def _state(
    one: Definition, found: Evaluated, tables: CdmTables, load: Load, vocabulary: str, before: Before | None
) -> _State:
    """Who has changed and why."""
    noted = before.noted(one.name) if before else {}
    old = membership.members_of(before.cohorts, one.id) if before and noted else found.members.clear()
    changed = membership.differences(old, found.members)
    if not before or not noted:
        return _State(False, False, False, old, changed.with_columns(reason=_text("first run")))
    other_definition = noted["digest"] != one.digest
    evidence = before.manifest.evidence
    other_data = evidence["data"] != load.digest or evidence["vocabulary"] != vocabulary
    by_data = None
    if other_definition and other_data:
        earlier = tables.evaluate(read_expression(json.loads(before.definitions[one.id])))
        by_data = membership.differences(earlier.members.clear(), earlier.members)
    reasoned = membership.with_reasons(
        changed, definition_changed=other_definition, data_changed=other_data, by_data=by_data
    )
    return _State(True, other_definition, other_data, old, reasoned)


def _text(value: str) -> pl.Expr:
    import polars as pl

    return pl.lit(value)


def _cohort(
    run: Step, one: Definition, version: int, found: Evaluated, load: Load, state: _State, hidden: bool
) -> Cohort:
    rules = [rule.name for rule in one.expression.rules]
    persons = len(load.persons)
    now = found.members["person_id"].n_unique()
    # Before the first run nobody was in it: everybody who entered is the size itself.
    shown = state.changed if state.known else state.changed.clear()
    difference = membership.count_changes(
        shown,
        state.before["person_id"].n_unique() if state.known else now,
        now,
        persons,
        known=state.known,
        definition_changed=state.definition_changed,
        data_changed=state.data_changed,
        withheld=hidden,
    )
    sizes = _earlier_sizes(run, one)
    if not sizes or not state.known or state.changed.height:
        sizes.append(now)
    return Cohort(
        one,
        version,
        found,
        attrition(found, rules, persons, withheld=hidden),
        difference,
        tuple(membership.series(sizes, withheld=hidden)),
    )


def _earlier_sizes(run: Step, one: Definition) -> list[int]:
    """Members in the runs before, oldest first, of those that had the cohort and can still be read."""
    from trialops.stores.lake import IntegrityError

    sizes = []
    for link in run.lake.manifests(DATASET)[-SHOWN_RUNS:]:
        if one.name in link.evidence["cohorts"]:
            try:
                table = run.lake.read(link.snapshot.tables["cohort"])
            except IntegrityError:
                continue
            sizes.append(membership.members_of(table, one.id)["person_id"].n_unique())
    return sizes


def _sealed(
    states: Sequence[tuple[Definition, _State]], found: Mapping[str, Evaluated], load: Load
) -> dict[str, pl.DataFrame]:
    """changes: who entered, left or has other dates, and why; standing: where everybody stands."""
    import polars as pl

    changes, standing = [], []
    for one, state in states:
        rules = [rule.name for rule in one.expression.rules]
        where = membership.eligibility(found[one.name], rules, load.persons).with_columns(cohort=pl.lit(one.name))
        standing.append(where)
        told = state.changed.join(where.drop("cohort"), on="person_id", how="left", maintain_order="left")
        changes.append(told.with_columns(cohort=pl.lit(one.name)))
    return {"changes": pl.concat(changes), "standing": pl.concat(standing)}
