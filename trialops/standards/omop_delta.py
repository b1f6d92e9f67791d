"""New, corrected and deleted resources into OMOP tables without mapping everybody again.

All rows of a person follow from that person's resources, so the persons concerned are mapped anew from all they have
and their rows replaced; what persons share is gathered again. The result is the one a full load gives, to the byte,
in whatever order deliveries arrive. (Henke et al. 2023 load FHIR into OMOP incrementally by resource; the unit here is
the person, because visits, eras and observation periods depend on a person's other resources.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards import omop
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop_cdm import PERSONAL, Cdm
from trialops.standards.omop_ids import keys_of

if TYPE_CHECKING:
    import polars as pl

    from trialops.standards.vocabulary import Vocabulary

MOST_PIECES = 500
SHARED_ELEMENTS = ("Medication", "Device")
"""Types without a subject that other resources take their code from: when one changes, anybody may be concerned."""


@dataclass(frozen=True)
class Changes:
    """What is different from the last load.

    Attributes:
        subjects: Those with a new, changed or deleted resource.
        everybody: Whether a resource changed that anybody's rows may depend on.
        resources: Number of resources that are new, changed or gone.
    """

    subjects: pl.Series
    everybody: bool
    resources: int


def index(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """What a load was made from: kind, subject, digest of every resource."""
    import polars as pl

    empty = pl.DataFrame(schema={"kind": pl.String, "subject": pl.String, "digest": pl.String})
    return pl.concat([empty, *(tables[k].select(pl.lit(k).alias("kind"), "subject", "digest") for k in sorted(tables))])


def changes(before: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> Changes:
    """Compare resources with the index of the last load.

    The digest covers type, id and content, so one comparison finds what is new, what is corrected and what is gone.
    """
    import polars as pl

    now = index(tables)
    new = now.join(before, on="digest", how="anti")
    # Most deliveries only add: when all that was there is still there, nobody need look for what is gone.
    whole = now.height - new.height == before.height
    gone = before.clear() if whole else before.join(now, on="digest", how="anti")
    different = pl.concat([new, gone])
    return Changes(
        subjects=different["subject"].drop_nulls().unique().sort(),
        everybody=bool(different["kind"].is_in(SHARED_ELEMENTS).any()),
        resources=different.height,
    )


def update(
    previous: Cdm,
    before: pl.DataFrame,
    tables: Mapping[str, pl.DataFrame],
    vocabulary: Vocabulary,
    *,
    texts: bool = False,
    progress: Callable[[str, float | None], None] | None = None,
) -> Cdm:
    """Tables as they are after a change of resources.

    Args:
        previous: Tables of the last load.
        before: Its index.
        tables: All resources as they are now, current versions only.
        vocabulary: Concepts; another one than last time means a full load.
        texts: Whether documents may be loaded as notes, as in the last load.
        progress: Told what is read and how far.
    """
    import polars as pl

    found = changes(before, tables)
    if previous.vocabulary != vocabulary.digest or found.everybody:
        return omop.build(read_fhir(tables, texts=texts, progress=progress), vocabulary)
    if not found.resources:
        return previous
    concerned = pl.col("subject").is_null() | pl.col("subject").is_in(found.subjects.implode())
    part = {kind: frame.filter(concerned) for kind, frame in tables.items()}
    source = read_fhir(part, texts=texts, progress=progress)
    if not previous.study_days and source.has_study_days:
        return omop.build(read_fhir(tables, texts=texts, progress=progress), vocabulary)
    new = omop.personal(source, vocabulary, study_days=previous.study_days)
    persons = keys_of("person", found.subjects).sort()
    merged = omop.Personal(
        tables={name: _replaced(previous.tables[name], new.tables[name], persons) for name in PERSONAL},
        locations=pl.concat([previous.tables["location"], new.locations]),
        provenance=_replaced(_personal_rows(previous.provenance), new.provenance, persons),
        outcomes=omop.sort_outcomes(
            [
                previous.outcomes.filter(
                    pl.col("subject").is_not_null() & ~pl.col("subject").is_in(found.subjects.implode())
                ),
                new.outcomes,
            ]
        ),
    )
    source.ignored = {kind: reason for kind, reason in previous.ignored.items() if kind in tables} | source.ignored
    source.read = {kind: frame.height for kind, frame in tables.items()}
    named = pl.concat([previous.references, omop.references(source)]).unique()
    return omop.assemble(merged, source, named, vocabulary, study_days=previous.study_days)


def _replaced(old: pl.DataFrame, new: pl.DataFrame, persons: pl.Series) -> pl.DataFrame:
    """A table with the rows of some persons replaced; both are sorted by person.

    A person's rows lie together, so the result is made of slices: what did not change is not copied.
    """
    import polars as pl

    ends = []
    for frame in (old, new):
        ids = frame["person_id"].to_numpy()
        ends.append([ids.searchsorted(persons.to_numpy(), side=side).tolist() for side in ("left", "right")])
    (starts, stops), (firsts, lasts) = ends
    pieces, at = [], 0
    for start, stop, first, last in zip(starts, stops, firsts, lasts, strict=True):
        pieces += [old.slice(at, start - at), new.slice(first, last - first)]
        at = stop
    pieces.append(old.slice(at))
    made = pl.concat([piece for piece in pieces if piece.height] or [old.clear()])
    # Many small pieces would slow down every later look at the table.
    return made.rechunk() if len(pieces) > MOST_PIECES else made


def _personal_rows(provenance: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return provenance.filter(pl.col("person_id").is_not_null())
