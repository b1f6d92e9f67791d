"""RegulatoryReportGeneratorOperator: from a sealed delivery to registered documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.regulatory.documents.content import AUDIENCES, Audience, Document
from trialops.regulatory.documents.register import Version, register_document
from trialops.regulatory.reports.basis import make_basis
from trialops.regulatory.reports.kinds import Material, SentReport, put_together
from trialops.regulatory.reports.periods import Period, cut_for, due_kinds, kinds, period_of
from trialops.trial.study_file import StudyFile
from trialops.trial.tables import TrialTables, last_day

if TYPE_CHECKING:
    from trialops.safety.judged import Words
    from trialops.stores.context import Step

DUE, ALL = "due", "all"
UNBLINDED = "unblinded_documents"


@dataclass(frozen=True)
class Made:
    """One report: its document, its period, its version in the register, and whether that version is new."""

    document: Document
    period: Period
    version: Version
    new: bool


class RegulatoryReportGeneratorOperator:
    """Makes the periodic reports of a trial from one data cut, and registers them.

    Args:
        run: The step.
        study: The study file.
    """

    def __init__(self, run: Step, study: StudyFile) -> None:
        self._run, self._study = run, study

    def run(
        self,
        trial: TrialTables,
        *,
        wanted: Sequence[str] = (DUE,),
        audience: str = "blinded",
        cut: date | None = None,
        today: date,
        stamp: datetime | None = None,
        purpose: str = "",
        said: Words | None = None,
        sent: Sequence[SentReport] = (),
    ) -> tuple[Made, ...]:
        """Make the reports.

        Args:
            trial: The delivery.
            wanted: Names of reports, "due" for those whose period has just ended, or "all".
            audience: "blinded" or "unblinded"; the latter needs the role and a purpose.
            cut: Last day that counts; by default the end of the last period that the data reach before `today`.
            today: Day of the run.
            stamp: Declared time of making; midnight UTC of `today` by default.
            purpose: Why, for an unblinded report.
            said: What sponsor and sites have said about events; nobody has by default.
            sent: Individual case safety reports that were sent.

        Returns:
            The reports made, in the order of the catalogue.

        Raises:
            TrialOpsError: An unknown report or audience, or the role may not have unblinded documents.
        """
        reader = self._admit(audience, purpose)
        program = self._program()
        begun = first_consent(trial)
        latest = min(last_day(trial), date.fromordinal(today.toordinal() - 1))
        chosen = self._chosen(wanted, begun, today)
        made_at = stamp or datetime.combine(today, time(), UTC)
        made = []
        for k, kind in enumerate(chosen):
            self._run.progress(f"Making {kind}", k / max(len(chosen), 1))
            day = cut or cut_for(kind, self._study, begun=begun, latest=latest)
            period = period_of(kind, self._study, begun=begun, cut=day)
            basis = make_basis(trial, self._study, cut=day, since=period.since, audience=reader, said=said)
            document = put_together(kind, Material(basis, tuple(sent)), due=period.due, stamp=made_at, program=program)
            version, new = register_document(self._run, document)
            made.append(Made(document, period, version, new))
        return tuple(made)

    def _admit(self, audience: str, purpose: str) -> Audience:
        from trialops.governance.access import authorise

        if audience not in AUDIENCES:
            raise TrialOpsError(
                f"There is no audience {audience!r}", where="audience", fix=f"Use {' or '.join(AUDIENCES)}."
            )
        if audience == "unblinded":
            authorise(self._run, UNBLINDED, purpose)
            return "unblinded"
        return "blinded"

    def _chosen(self, wanted: Sequence[str], begun: date, today: date) -> tuple[str, ...]:
        names: set[str] = set()
        for name in wanted:
            if name == DUE:
                names |= set(due_kinds(self._study, begun=begun, today=today))
            elif name == ALL:
                names |= set(kinds())
            elif name in kinds():
                names.add(name)
            else:
                raise TrialOpsError(
                    f"There is no report called {name!r}",
                    where="kinds",
                    fix=f"Use {DUE}, {ALL}, or some of {', '.join(kinds())}.",
                )
        return tuple(kind for kind in kinds() if kind in names)

    def _program(self) -> str:
        from trialops.version import code_version

        return code_version()


def first_consent(trial: TrialTables) -> date:
    """The first day anybody took part: the earliest informed consent, else the earliest reference start.

    Raises:
        TrialOpsError: DM has no such date.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    dm = trial.table("DM")
    named = [c for c in ("RFICDTC", "RFSTDTC", "DMDTC") if c in dm.columns]
    days = dm.select(pl.coalesce([exact_day(c) for c in named]).alias("day"))["day"].drop_nulls() if named else None
    if days is None or days.is_empty():
        raise TrialOpsError("Nobody has a date of consent", where="DM", fix="Deliver RFICDTC or RFSTDTC.")
    first: date = days.sort()[0]
    return first
