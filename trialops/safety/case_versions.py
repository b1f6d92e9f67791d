"""Versions of cases: what an event says now against what the register has, and cases whose event is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.safety.case_builder import Identity, build_case, country_of
from trialops.safety.case_content import content_digest, differences, read_content, seal_content
from trialops.safety.classification import CITATIONS, Authority, Role, classify
from trialops.safety.clock_times import local_day, moment, start_of_day, utc_text
from trialops.safety.register_records import FOLLOW_UP, INITIAL, NULLIFICATION, Version

if TYPE_CHECKING:
    from trialops.safety.case_rows import CaseEvent, SubjectRows
    from trialops.safety.register import CaseRegister
    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Step
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables

EVENT_KIND = "safety_event"


def event_hash(run: Step, subject: str, event: str) -> str:
    """The name of an event in the register: nobody without the vault can try subjects."""
    return run.vault.keyed_hash(EVENT_KIND, f"{subject}\0{event}")


def sender_name(study: StudyFile) -> str:
    """The sender's part of a case id: its identifier, else its name, letters and digits in capitals."""
    name = str(study.sender.get("identifier") or study.sender.get("organisation") or "SENDER")
    return "".join(c for c in name.upper() if c.isascii() and c.isalnum())[:20] or "SENDER"


def authorities_of(study: StudyFile) -> tuple[Authority, ...]:
    """Whom the study reports to: FDA under an IND, the EU under a EudraCT or CTIS number; both where none is stated."""
    stated: dict[Authority, bool] = {
        "FDA": bool(study.safety.get("ind_number")),
        "EU": bool(study.safety.get("eudract_number") or study.safety.get("ctis_number")),
    }
    return tuple(a for a, there in stated.items() if there) or ("FDA", "EU")


@dataclass
class CaseVersions:
    """The register's view of a delivery.

    Attributes:
        run: The step.
        register: The cases of the study.
        trial: The delivery as it came.
        study: The study file.
        policy: Its safety policy.
        now: The time it is about, UTC.
        received: When the delivery was received, UTC; not after `now`.
    """

    run: Step
    register: CaseRegister
    trial: TrialTables
    study: StudyFile
    policy: SafetyPolicy
    now: datetime
    received: datetime

    def __post_init__(self) -> None:
        """Read the register once."""
        self.versions = self.register.versions()
        self.by_event = {fields["event"]: case for case, fields in self.register.cases().items()}

    def enter(self, rows: SubjectRows, event: CaseEvent) -> Version | None:
        """Enter a version of an event's case where it says something new; open the case where there is none."""
        case = self._case(rows, event)
        made = self.versions.get(case, [])
        last = made[-1] if made else None
        facts = event.facts(self._role(event.subject))
        rulings = {str(a): asdict(classify(facts, a)) for a in authorities_of(self.study)}
        aware, basis = self._aware(event, last)
        built = self._content(rows, event, case, made[0].aware if made else aware, aware, rulings)
        stands = last is not None and last.kind != NULLIFICATION
        before = read_content(self.run, last.sealed) if last is not None and stands else None
        edited = str(before["edited"]) if before else ""
        digest = content_digest(built, asdict(facts), edited)
        if last is not None and stands and last.digest == digest:
            return None
        if edited:
            built["narrative"]["text"] = f"{edited}\n\nFurther information: {built['narrative']['text']}"
        content = {"case": built, "facts": asdict(facts), "edited": edited}
        content |= {"subject": event.subject, "event": event.event}
        return self._add(
            case,
            FOLLOW_UP if made else INITIAL,
            digest=digest,
            content=content,
            aware=(aware, basis),
            changed=differences(before, content) if before else (),
            facts=asdict(facts),
            rulings=rulings,
        )

    def nullify(self, there: Sequence[str]) -> int:
        """Nullify the cases whose event is not there any more.

        Args:
            there: Hashes of all events of the delivery.

        Returns:
            How many were.
        """
        count, known = 0, set(there)
        for event, case in sorted(self.by_event.items(), key=lambda item: item[1]):
            made = self.versions.get(case, [])
            if event in known or not made or made[-1].kind == NULLIFICATION:
                continue
            last, content = made[-1], read_content(self.run, made[-1].sealed)
            content["case"]["report"] |= {
                "amendment": "nullification",
                "amendment_reason": "The event was deleted by the site.",
            }
            ruling = {"rule": NULLIFICATION, "kind": "", "reason": "nullified: the event is no longer in the data"}
            rulings = {
                str(a): {"authority": a, **ruling, "citation": CITATIONS[a, "follow_up"], "unblind": False}
                for a in authorities_of(self.study)
            }
            at = utc_text(max(self.received, moment(last.aware)))
            entered = self._add(
                case,
                NULLIFICATION,
                digest=last.digest,
                content=content,
                aware=(at, "received"),
                changed=("event",),
                facts=last.facts,
                rulings=rulings,
            )
            count += entered is not None
        return count

    def _add(
        self,
        case: str,
        kind: str,
        *,
        digest: str,
        content: Mapping[str, Any],
        aware: tuple[str, str],
        changed: tuple[str, ...],
        facts: Mapping[str, Any],
        rulings: Mapping[str, Mapping[str, Any]],
    ) -> Version | None:
        version = Version(
            case=case,
            version=0,
            kind=kind,
            digest=digest,
            sealed=seal_content(self.run, content),
            aware=aware[0],
            basis=aware[1],
            changed=changed,
            facts=facts,
            rulings=rulings,
            policy_digest=self.policy.digest,
            delivery=self.trial.source,
        )
        entered = self.register.add(version, actor=self.run.settings.who, run_id=self.run.run_id)
        if entered is not None:
            self.run.audit("case.version", case, digest, number=entered.version, kind=entered.kind)
        return entered

    def _case(self, rows: SubjectRows, event: CaseEvent) -> str:
        hashed = event_hash(self.run, event.subject, event.event)
        if hashed not in self.by_event:
            person = rows.dicts("DM", event.subject)
            home = str(self.study.sender.get("address", {}).get("country", ""))
            self.by_event[hashed] = self.register.open_case(
                hashed,
                country=country_of(str(person[-1].get("COUNTRY") or "") if person else "", home),
                sender=sender_name(self.study),
                subject=self.run.vault.pseudonym("subject", event.subject),
                actor=self.run.settings.who,
                run_id=self.run.run_id,
            )
        return self.by_event[hashed]

    def _content(
        self,
        rows: SubjectRows,
        event: CaseEvent,
        case: str,
        first: str,
        latest: str,
        rulings: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        days = [local_day(moment(at), self.policy.time_zone).isoformat() for at in (first, latest)]
        kinds = {str(r["kind"]) for r in rulings.values()}
        due = "7-day" if "grave" in kinds else "15-day" if "serious" in kinds else "non-expedited"
        identity = Identity(case, days[0], days[1], due, due != "non-expedited")
        return build_case(rows, event, self.study, identity).to_dict()

    def _aware(self, event: CaseEvent, last: Version | None) -> tuple[str, str]:
        """When the sponsor had this version, and by which rule; never after the delivery was received."""
        zone = self.policy.time_zone
        if last is None:
            start = start_of_day(event.aware, zone) if event.aware is not None else None
            if start is None or start > self.received:
                return utc_text(self.received), "received"
            return utc_text(start), event.aware_basis
        # Further information: what the site wrote down since, else what came with this delivery.
        if event.latest is not None and event.latest > local_day(moment(last.aware), zone):
            start = start_of_day(event.latest, zone)
            if start <= self.received:
                return utc_text(start), "AEDTC"
        return utc_text(max(self.received, moment(last.aware))), "received"

    @cached_property
    def _roles(self) -> dict[str, Role]:
        from trialops.safety.case_drugs import roles_of

        return roles_of(self.trial, self.study)

    def _role(self, subject: str) -> Role:
        """What the subject had; not looked up while the study is blinded."""
        return "blinded" if self.study.blinded else self._roles.get(subject, "investigational")
