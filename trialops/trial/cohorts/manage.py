"""One run over all cohorts: evaluate, write the memberships, say what has changed since the run before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from trialops.trial.cohorts.records import DATASET, STANDING, Before, last

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step

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
        moves: Persons who stand elsewhere than in the run before: where they stood, where they stand, how many.
    """

    definition: Definition
    version: int
    evaluated: Evaluated
    attrition: Attrition
    difference: membership.Difference
    sizes: tuple[int | None, ...]
    moves: tuple[tuple[str, str, int | str], ...] = ()

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
        standing = {one.name: _standing(one, found[one.name], load) for one in chosen}
        stood = before.standing(run) if before else None
        made, sealed = [], []
        for one in chosen:
            state = _state(one, found[one.name], tables, load, words.digest, before)
            hidden = shared.size_withheld(one.name)
            cohort = _cohort(run, one, versions[one.name], found[one.name], load, state, hidden)
            made.append(replace(cohort, moves=_moves(one, stood, standing[one.name], hidden=hidden)))
            sealed.append((one, state))
    finally:
        tables.close()
    rows = {one.id: found[one.name].members for one in chosen}
    frames = _sealed(sealed, standing)
    written = {
        "cohort": membership.cohort_table(rows),
        "cohort_definition": membership.definition_table(chosen, versions),
        STANDING: _digests(standing),
    }
    snapshot = run.write(cohorts, written, zone=ZONE)
    run.seal(changes, frames)
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


def _standing(one: Definition, found: Evaluated, load: Load) -> pl.DataFrame:
    return membership.eligibility(found, [rule.name for rule in one.expression.rules], load.persons)


def _moves(
    one: Definition, stood: pl.DataFrame | None, stand: pl.DataFrame, *, hidden: bool
) -> tuple[tuple[str, str, int | str], ...]:
    """Persons who stand elsewhere than before; none where the run before did not have the cohort."""
    import polars as pl

    mine = stood.filter(pl.col("cohort") == one.name) if stood is not None else None
    if mine is None or mine.is_empty():
        return ()
    return tuple(membership.transitions(mine, stand, withheld=hidden))


def _digests(standing: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    from trialops.stores.digest import table_digest

    rows = [{"cohort": name, "digest": table_digest(frame.to_arrow())} for name, frame in sorted(standing.items())]
    return pl.DataFrame(rows, schema={"cohort": pl.String, "digest": pl.String})


def _sealed(
    states: Sequence[tuple[Definition, _State]], standing: Mapping[str, pl.DataFrame]
) -> dict[str, pl.DataFrame]:
    """changes: who entered, left or has other dates, and why; standing: where everybody stands."""
    import polars as pl

    changes = []
    for one, state in states:
        told = state.changed.join(standing[one.name], on="person_id", how="left", maintain_order="left")
        changes.append(told.with_columns(cohort=pl.lit(one.name)))
    every = [frame.with_columns(cohort=pl.lit(name)) for name, frame in standing.items()]
    return {"changes": pl.concat(changes), "standing": pl.concat(every)}
