"""De-identify FHIR R4 resources: Safe Harbor (strict), limited data set (limited), or as they are (off)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake import quarantine
from trialops.intake.domains import RECEIVED, ROW, SOURCE
from trialops.intake.fhir_tables import canonical, parse, schema
from trialops.privacy.fhir_people import People, people
from trialops.privacy.fhir_policy import FhirPolicy, default_fhir_policy
from trialops.privacy.fhir_scan import scan_fhir
from trialops.privacy.fhir_walk import TYPE_NOT_RELEASED, UNKNOWN_MODIFIER, UNKNOWN_RULES, Walker, Withheld
from trialops.privacy.policy import MODES
from trialops.privacy.report import LABELS

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.fhir_text import Scrubbers
    from trialops.privacy.keys import Vault

    Progress = Callable[[str, float], None] | None

REASONS = {
    TYPE_NOT_RELEASED: "resources of this type are not released",
    UNKNOWN_MODIFIER: "a modifier extension changes the meaning, and it is not known how",
    UNKNOWN_RULES: "implicit rules change the meaning, and they are not known",
    "CONSENT": "consent does not permit this use",
    "NO_SUBJECT": "the resource is about no one subject whose consent could be asked",
    "RESTRICTED": "processing for this subject is restricted",
}


BLOCK = 20_000
"""Resources treated at a time."""


@dataclass(frozen=True)
class FhirReport:
    """What was done, in counts.

    Attributes:
        mode: strict, limited or off.
        label: What the result may be called.
        policy_version: Version of the element policy.
        zip3_version: Version of the table of restricted three-digit ZIP areas.
        subjects: Subjects in the input.
        resources: Resource type -> read, released, withheld.
        elements: One line per element met: path, action, identifier, values, gone.
        unlisted: Path -> values dropped because R4 has no such element there.
        extensions: URL -> extensions dropped because the policy does not name them.
        media: Content type -> attachments whose content was dropped.
        texts: Distinct texts looked at and changed.
        capped_ages: Ages over the limit that became the top category.
        keys: Where subject keys come from -> subjects.
        day_one: Where day 1 comes from -> subjects.
        withheld: Reason -> resources.
        scanned: Paths, distinct values and identifiers of the residual search; empty in mode off.
    """

    mode: str
    label: str
    policy_version: str
    zip3_version: str
    subjects: int
    resources: dict[str, tuple[int, int, int]]
    elements: list[tuple[str, str, str, int, int]]
    unlisted: dict[str, int]
    extensions: dict[str, int]
    media: dict[str, int]
    texts: dict[str, int]
    capped_ages: int
    keys: dict[str, int]
    day_one: dict[str, int]
    withheld: dict[str, int]
    scanned: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FhirDeidentified:
    """What de-identification of FHIR resources gives.

    Attributes:
        tables: Clean tables by resource type; columns of `RESOURCE_SCHEMA`.
        report: What was done.
        quarantine: Resources that were withheld; see `quarantine.SCHEMA`.
        links: Key space -> columns `raw` and `pseudonym`. Identifiable: for the vault alone, never shown or logged.
    """

    tables: dict[str, pl.DataFrame]
    report: FhirReport
    quarantine: pl.DataFrame
    links: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False)


def deidentify_fhir(
    tables: Mapping[str, pl.DataFrame],
    mode: str,
    vault: Vault,
    *,
    synthetic: bool = False,
    denied: Mapping[str, Mapping[str, str]] | None = None,
    policy: FhirPolicy | None = None,
    scrubbers: Scrubbers | None = None,
    progress: Progress = None,
) -> FhirDeidentified:
    """De-identify FHIR tables.

    Args:
        tables: Raw tables by resource type, see `trialops.intake.fhir_tables`.
        mode: "strict", "limited" or "off".
        vault: Keys of the study.
        synthetic: States that the resources describe nobody; mode "off" needs it.
        denied: Resource type -> id -> reason (a key of `REASONS`) for resources that are withheld.
        policy: The platform's own by default.
        scrubbers: Treat free text; the platform's own by default.
        progress: Called with a message and the fraction done.

    Returns:
        Clean tables sorted by id, report, quarantine and links.

    Raises:
        TrialOpsError: Unknown mode, "off" on data not declared synthetic, colliding pseudonyms, or an identifier left
            in a clean resource.
    """
    import polars as pl

    policy = policy or default_fhir_policy()
    if mode not in MODES or (mode == "off" and not synthetic):
        raise TrialOpsError(
            f"There is no de-identification mode {mode!r}."
            if mode not in MODES
            else "De-identification is off, and the data are not declared synthetic.",
            where="HIPAA_COMPLIANCE_MODE",
            fix=f"Use one of {', '.join(MODES)}; off is for synthetic data alone.",
        )
    denied = denied or {}
    who = people(tables, policy, mode, vault)
    walker = Walker(policy, who, mode, vault)
    if mode != "off" and scrubbers is None:
        from trialops.privacy.fhir_text import Scrubbers as Own

        scrubbers = Own(mode)
    clean: dict[str, pl.DataFrame] = {}
    aside: list[tuple[Any, ...]] = []
    counts: dict[str, tuple[int, int, int]] = {}
    texts = {"texts": 0, "changed": 0}
    total = max(sum(f.height for f in tables.values()), 1)
    done = 0
    for kind, frame in sorted(tables.items()):
        parts: list[pl.DataFrame] = []
        released = withheld = 0
        # Block by block: only so many resources are held as Python objects at a time.
        for block in frame.iter_slices(BLOCK):
            if progress:
                progress(f"de-identifying {kind}", 0.8 * done / total)
            kept, left = _clean_table(kind, block, walker, mode, denied.get(kind, {}))
            if scrubbers is not None and kept:
                from trialops.privacy.fhir_text import treat

                for name, n in treat(walker, who, policy, mode, scrubbers).items():
                    texts[name] += n
            aside += left
            released, withheld = released + len(kept), withheld + len(left)
            if kept:
                parts.append(_frame(kept, mode, vault))
            done += block.height
        counts[kind] = (frame.height, released, withheld)
        if parts:
            clean[kind] = pl.concat(parts).sort("id")
    if progress:
        progress("searching the clean resources for identifiers", 0.85)
    scanned = {} if mode == "off" else scan_fhir(clean, who, mode)
    reasons: dict[str, int] = {}
    for row in aside:
        reasons[row[4]] = reasons.get(row[4], 0) + 1
    report = FhirReport(
        mode=mode,
        label=LABELS[mode],
        policy_version=policy.version,
        zip3_version=policy.zip3_version,
        subjects=len(who.subjects),
        resources=counts,
        elements=[(line.path, line.action, line.identifier, line.seen, line.gone) for line in walker.lines()],
        unlisted=dict(sorted(walker.unlisted.items())),
        extensions=dict(sorted(walker.extensions.items())),
        media=dict(sorted(walker.media.items())),
        texts=texts,
        capped_ages=walker.capped,
        keys=dict(who.keys),
        day_one=dict(who.day_one),
        withheld=dict(sorted(reasons.items())),
        scanned=scanned,
    )
    schema_ = quarantine.empty().schema
    return FhirDeidentified(
        clean,
        report,
        pl.DataFrame(aside, schema=schema_, orient="row").sort("domain", "row", nulls_last=True),
        {} if mode == "off" else _links(who, walker, tables),
    )


def _clean_table(
    kind: str, frame: pl.DataFrame, walker: Walker, mode: str, denied: Mapping[str, str]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Rows to release, their resources still parsed, and rows withheld."""
    kept: list[tuple[Any, ...]] = []
    left: list[tuple[Any, ...]] = []
    columns = ("id", "subject", "version", "updated", "digest", "json", SOURCE, ROW, RECEIVED)
    for identity, subject, version, updated, digest, text, source, row, received in frame.select(columns).iter_rows():
        reason = denied.get(identity, "")
        if not reason and mode == "off":
            kept.append((identity, subject, version, updated, digest, text, source, row, received))
            continue
        if not reason:
            try:
                resource = walker.clean(parse(text), subject)
            except Withheld as refusal:
                reason = str(refusal)
            else:
                who = walker.people.subjects.get(subject) if subject is not None else None
                plain = version if version.isdigit() and len(version) <= 4 else ""
                moved = resource.get("meta", {}).get("lastUpdated", "")
                kept.append((resource["id"], who and who.pseudonym, plain, moved, None, resource, source, None, None))
                continue
        left.append((None, row, kind, None, reason, REASONS.get(reason, reason), reason))
    return kept, left


def _frame(rows: list[tuple[Any, ...]], mode: str, vault: Vault) -> pl.DataFrame:
    """Rows of a clean table: JSON and its digest, file names replaced."""
    import hashlib

    import polars as pl

    if mode == "off":
        return pl.DataFrame(rows, schema=schema(), orient="row")
    files = sorted({row[6] for row in rows if row[6]})
    names = dict(zip(files, vault.pseudonyms("file", files), strict=True))
    done = []
    for identity, subject, version, updated, _, resource, source, row, received in rows:
        data = canonical(resource)
        digest = hashlib.sha256(data).hexdigest()
        label = f"file {names[source]}" if source in names else ""
        done.append((identity, subject, version, updated, digest, data.decode(), label, row, received))
    return pl.DataFrame(done, schema=schema(), orient="row")


def _links(who: People, walker: Walker, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    import polars as pl

    links = who.links(tables)
    added = sorted((raw, new.split("/")[-1]) for raw, new in walker.made.items())
    for kind in links:
        more = [pair for pair in added if pair[0].startswith("Patient/") == (kind == "subject")]
        links[kind] = pl.concat([links[kind], pl.DataFrame(more, schema=links[kind].schema, orient="row")])
    return links
