"""What a correction file would change: every line is accepted, already applied, or set aside with a reason."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.intake import quarantine
from trialops.intake.domains import RECEIVED, catalog
from trialops.quality.correction.records import Key, corrected_row, parse_record, plain, rows_by_key, typed
from trialops.stores.database import canonical

if TYPE_CHECKING:
    import polars as pl

    from trialops.quality.correction.file import Received

REASONS = {
    "UNKNOWN_DOMAIN": "DOMAIN is not a domain of this trial's data",
    "UNKNOWN_VARIABLE": "VARIABLE is not a column of the domain",
    "IDENTITY": "VARIABLE says which record a row is; deliver the row again instead",
    "RECORD_NOT_NAMED": "RECORD does not name the key of the domain, such as LBSEQ=12",
    "NO_SUCH_RECORD": "there is no such record of this subject",
    "OLD_VALUE_DIFFERS": "OLD is not the value the record has now",
    "NOT_A_NUMBER": "NEW must be a number and is not",
    "NO_REASON": "REASON is empty",
    "NO_AUTHOR": "BY is empty",
    "NO_TIME": "AT is not an ISO 8601 date or time, or lies in the future",
    "CONFLICT": "another line changes the same value to something else",
    "MAKES_ROW_INVALID": "with these values the row would be set aside: {why}",
}


@dataclass(frozen=True)
class Change:
    """One value that changes. Values are identifiable data: they stay in the sealed zone.

    Attributes:
        domain, usubjid, record, variable: Which value; `record` as in the file.
        old, new: As text; None for no value.
        reason, by, at: Why, who, when, as the site states it.
        file, row: Where the line stands.
    """

    domain: str
    usubjid: str
    record: str
    variable: str
    old: str | None
    new: str | None
    reason: str
    by: str
    at: str
    file: str
    row: int

    @property
    def key(self) -> Key:
        """The rest of the row's key."""
        key = parse_record(self.domain, self.record)
        assert key is not None
        return key


@dataclass(frozen=True)
class Proposal:
    """What would change.

    Attributes:
        changes: Accepted lines, in the order of files and lines.
        rejected: Lines set aside; see `quarantine.SCHEMA`.
        already: Lines whose new value the record has already.
        read: Lines read.
        received: Day the corrections count from.
        files: File name -> SHA-256.
        warnings: What is odd but allowed, without values: text -> lines.
    """

    changes: tuple[Change, ...]
    rejected: pl.DataFrame
    already: int
    read: int
    received: dt.date
    files: Mapping[str, str]
    warnings: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over files and changes, not the day: what a signature is bound to, and the proposal's name."""
        body = self.as_dict()
        del body["received"]
        return hashlib.sha256(canonical(body).encode()).hexdigest()

    @property
    def subjects(self) -> tuple[str, ...]:
        """USUBJIDs concerned, sorted."""
        return tuple(sorted({change.usubjid for change in self.changes}))

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains concerned, sorted."""
        return tuple(sorted({change.domain for change in self.changes}))

    def as_dict(self) -> dict[str, Any]:
        """Plain form of the changes, for the register."""
        return {
            "received": self.received.isoformat(),
            "files": dict(self.files),
            "changes": [dict(vars(change)) for change in self.changes],
        }


@cache
def policy() -> dict[str, Any]:
    """The correction policy, read once from policy.yaml."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("policy.yaml").read_text("utf-8"))
    return loaded


def propose(tables: Mapping[str, pl.DataFrame], received: Received, *, today: dt.date) -> Proposal:
    """Check every line against the records as they are now.

    Args:
        tables: Raw tables by domain, corrections applied so far among them.
        received: The lines.
        today: Day the corrections count from; no date in a corrected row can be later.

    Returns:
        The proposal; lines = changes + already + rejected.
    """
    lines = received.lines.to_dicts()
    problems: dict[int, str] = {}
    accepted: dict[int, Change] = {}
    already: set[int] = set()
    by_domain: dict[str, list[int]] = defaultdict(list)
    for i, line in enumerate(lines):
        by_domain[line["DOMAIN"] or ""].append(i)
    for domain, numbers in by_domain.items():
        if domain not in tables or domain not in catalog().domains:
            problems |= dict.fromkeys(numbers, "UNKNOWN_DOMAIN")
            continue
        subjects = {lines[i]["USUBJID"] for i in numbers if lines[i]["USUBJID"]}
        rows = rows_by_key(domain, tables[domain], subjects)
        for i in numbers:
            outcome = _look(domain, lines[i], rows, set(tables[domain].columns), today)
            if outcome == "ALREADY":
                already.add(i)
            elif isinstance(outcome, str):
                problems[i] = outcome
            else:
                accepted[i] = outcome
        _drop_conflicts(accepted, already, problems)
        why = _invalid_rows(
            domain, tables[domain], rows, {i: c for i, c in accepted.items() if c.domain == domain}, today
        )
        for i, reason in why.items():
            problems[i] = f"MAKES_ROW_INVALID {reason}"
            del accepted[i]
    changes = tuple(accepted[i] for i in sorted(accepted))
    return Proposal(
        changes=changes,
        rejected=_rejected(lines, problems),
        already=len(already),
        read=len(lines),
        received=today,
        files=dict(received.files),
        warnings=_warnings(changes),
    )


def _look(
    domain: str, line: dict[str, Any], rows: dict[tuple[str, Key], dict[str, Any]], columns: set[str], today: dt.date
) -> Change | str:
    """The change a line asks for, "ALREADY", or what is wrong with it."""
    variable = line["VARIABLE"] or ""
    if variable in policy()["identity"] or variable in catalog().domains[domain].key:
        return "IDENTITY"
    if variable not in columns or variable.startswith("_"):
        return "UNKNOWN_VARIABLE"
    key = parse_record(domain, line["RECORD"])
    if key is None:
        return "RECORD_NOT_NAMED"
    row = rows.get((line["USUBJID"] or "", key))
    if row is None:
        return "NO_SUCH_RECORD"
    new, fits = typed(domain, variable, line["NEW"])
    if not fits:
        return "NOT_A_NUMBER"
    if plain(row[variable]) == plain(new):
        return "ALREADY"
    if plain(row[variable]) != plain(line["OLD"]):
        return "OLD_VALUE_DIFFERS"
    if not line["REASON"]:
        return "NO_REASON"
    if not line["BY"]:
        return "NO_AUTHOR"
    if not _past(line["AT"], today):
        return "NO_TIME"
    return Change(
        domain=domain,
        usubjid=line["USUBJID"],
        record=line["RECORD"] or "",
        variable=variable,
        old=line["OLD"],
        new=line["NEW"],
        reason=line["REASON"],
        by=line["BY"],
        at=line["AT"],
        file=line["file"],
        row=int(line["row"]),
    )


def _past(text: str | None, today: dt.date) -> bool:
    try:
        return dt.datetime.fromisoformat(text or "").date() <= today
    except ValueError:
        return False


def _drop_conflicts(accepted: dict[int, Change], already: set[int], problems: dict[int, str]) -> None:
    """Lines that want different values for one cell are all set aside; a line said twice counts once."""
    cells: dict[tuple[str, str, Key, str], list[int]] = defaultdict(list)
    for i, change in accepted.items():
        cells[change.domain, change.usubjid, change.key, change.variable].append(i)
    for numbers in cells.values():
        if len({plain(accepted[i].new) for i in numbers}) > 1:
            for i in numbers:
                problems[i] = "CONFLICT"
                del accepted[i]
        else:
            for i in numbers[1:]:
                already.add(i)
                del accepted[i]


def _invalid_rows(
    domain: str,
    frame: pl.DataFrame,
    rows: dict[tuple[str, Key], dict[str, Any]],
    changes: Mapping[int, Change],
    today: dt.date,
) -> dict[int, str]:
    """Lines whose corrected row would not pass the door: line number -> reason of the intake."""
    import polars as pl

    if not changes:
        return {}
    grouped: dict[tuple[str, Key], list[int]] = defaultdict(list)
    for i, change in changes.items():
        grouped[change.usubjid, change.key].append(i)
    made = []
    for number, (place, numbers) in enumerate(grouped.items()):
        values = {changes[i].variable: typed(domain, changes[i].variable, changes[i].new)[0] for i in numbers}
        made.append(corrected_row(rows[place], values, "correction", number) | {RECEIVED: today})
    fresh = pl.DataFrame(made, schema=frame.schema)
    study = str(fresh["STUDYID"][0])
    text = {name for name, kind in fresh.schema.items() if kind == pl.String}
    checks = quarantine.row_checks(catalog().domains[domain], fresh.columns, text, study)
    fresh = fresh.with_columns(_received_by=pl.lit(today))
    _, bad = quarantine.split(fresh, catalog().domains[domain], checks)
    wrong = dict(bad.select("row", "reason").iter_rows())
    places = list(grouped)
    return {i: reason for number, reason in wrong.items() for i in grouped[places[int(number)]]}


def _rejected(lines: list[dict[str, Any]], problems: Mapping[int, str]) -> pl.DataFrame:
    import polars as pl

    rows = []
    for i in sorted(problems):
        reason, _, why = problems[i].partition(" ")
        rows.append(
            {
                "file": lines[i]["file"],
                "row": int(lines[i]["row"]),
                "domain": lines[i]["DOMAIN"] if lines[i]["DOMAIN"] in catalog().domains else "",
                "column": "",
                "reason": reason,
                "message": REASONS[reason].format(why=why),
                "all_reasons": reason,
            }
        )
    return pl.concat([quarantine.empty(), pl.DataFrame(rows, schema=quarantine.empty().schema)])


def _warnings(changes: tuple[Change, ...]) -> dict[str, int]:
    """A result corrected as collected while its standardised form stays would contradict itself."""
    cells = {(c.domain, c.usubjid, c.key, c.variable) for c in changes}
    odd = 0
    for c in changes:
        if c.variable == f"{c.domain}ORRES":
            standard = [(c.domain, c.usubjid, c.key, f"{c.domain}{end}") for end in ("STRESC", "STRESN")]
            odd += not any(cell in cells for cell in standard)
    text = "--ORRES is corrected and neither --STRESC nor --STRESN of the record is"
    return {text: odd} if odd else {}
