"""The case register: who is a case, its versions, the sponsor's assessments, and what people did with it.

All tables are append-only. What they hold says nothing of what happened to whom: the event is a keyed hash, the subject
a pseudonym, the content of a version is a sealed object that the row names by digest. The same event with the same data
makes no new version, however often it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.register_records import (
    ACTIONS,
    KINDS,
    LONGEST_REASON,
    NULLIFICATION,
    RELEASED,
    SENT,
    WITHDRAWN,
    Action,
    SponsorAssessment,
    Version,
)
from trialops.stores.database import canonical, lock_row, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class CaseRegister:
    """The cases of a study."""

    def __init__(self, engine: Engine, study: str) -> None:
        """Take a migrated database and the study."""
        self.engine, self.study = engine, study

    # -- cases and versions -------------------------------------------------------------------------------------------

    def cases(self) -> dict[str, dict[str, str]]:
        """Cases in the order they were opened: event (keyed hash) and subject (pseudonym), by case id."""
        import sqlalchemy as sa

        from trialops.stores.tables import safety_cases as t

        query = sa.select(t.c.case, t.c.event, t.c.subject, t.c.at).where(t.c.study == self.study).order_by(t.c.id)
        with reading(self.engine) as connection:
            return {
                row.case: {"event": row.event, "subject": row.subject, "at": row.at}
                for row in connection.execute(query)
            }

    def open_case(self, event: str, *, country: str, sender: str, subject: str, actor: str, run_id: str = "") -> str:
        """The case of an event, opened where there is none.

        Args:
            event: Keyed hash of subject and event.
            country: ISO 3166-1 alpha-2 of where it happened.
            sender: The sender's short identifier, letters and digits.
            subject: Pseudonym.
            actor: Who, or which service.
            run_id: The run.

        Returns:
            The worldwide unique case id; the same for the same event for ever.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import safety_cases as t

        with writing(self.engine) as connection:
            lock_row(connection, f"safety_cases/{self.study}")
            known = connection.execute(sa.select(t.c.case).where(t.c.study == self.study, t.c.event == event)).scalar()
            if known:
                return str(known)
            number = (
                int(
                    connection.execute(
                        sa.select(sa.func.count()).select_from(t).where(t.c.study == self.study)
                    ).scalar_one()
                )
                + 1
            )
            case = f"{country}-{sender}-{self.study}_{number:06d}"
            connection.execute(
                t.insert().values(
                    at=utc_now(), study=self.study, case=case, event=event, subject=subject, actor=actor, run_id=run_id
                )
            )
            return case

    def add(self, version: Version, *, actor: str, run_id: str = "") -> Version | None:
        """Enter a version.

        Args:
            version: Its number is ignored: it is the next one.
            actor: Who, or which service.
            run_id: The run.

        Returns:
            The version as entered, or None where the newest one says the same.

        Raises:
            TrialOpsError: There is no such case, or the kind is unknown.
        """
        from trialops.stores.tables import safety_case_versions as t

        if version.kind not in KINDS:
            raise TrialOpsError(f"{version.kind!r} is not a kind of version", where="register", fix=", ".join(KINDS))
        with writing(self.engine) as connection:
            lock_row(connection, f"safety_cases/{version.case}")
            self._known(connection, version.case)
            before = self._versions(connection, [version.case])
            if before and (before[-1].digest, before[-1].kind == NULLIFICATION) == (
                version.digest,
                version.kind == NULLIFICATION,
            ):
                return None
            values = {
                "case": version.case,
                "version": len(before) + 1,
                "kind": version.kind,
                "digest": version.digest,
                "sealed": version.sealed,
                "aware": version.aware,
                "basis": version.basis,
                "changed": canonical(list(version.changed)),
                "facts": canonical(dict(version.facts)),
                "rulings": canonical({k: dict(v) for k, v in version.rulings.items()}),
                "policy_digest": version.policy_digest,
                "delivery": version.delivery,
                "at": utc_now(),
                "actor": actor,
                "run_id": run_id,
            }
            connection.execute(t.insert().values(**values))
            return self._versions(connection, [version.case])[-1]

    def versions(self, case: str = "") -> dict[str, list[Version]]:
        """Versions by case, oldest first; of one case or of all of the study."""
        cases = [case] if case else list(self.cases())
        with reading(self.engine) as connection:
            if case:
                self._known(connection, case)
            found = self._versions(connection, cases)
        grouped: dict[str, list[Version]] = {name: [] for name in cases}
        for version in found:
            grouped[version.case].append(version)
        return grouped

    def _versions(self, connection: Connection, cases: Sequence[str]) -> list[Version]:
        import sqlalchemy as sa

        from trialops.stores.tables import safety_case_versions as t
        from trialops.stores.tables import safety_cases as c

        query = sa.select(t).order_by(t.c.case, t.c.version)
        if len(cases) == 1:
            query = query.where(t.c.case == cases[0])
        else:
            query = query.where(t.c.case.in_(sa.select(c.c.case).where(c.c.study == self.study)))
        made = []
        for row in connection.execute(query):
            fields = {name: value for name, value in row._mapping.items() if name != "id"}
            fields |= {name: json.loads(fields[name]) for name in ("changed", "facts", "rulings")}
            made.append(Version(**(fields | {"changed": tuple(fields["changed"])})))
        return made

    def _known(self, connection: Connection, case: str) -> None:
        import sqlalchemy as sa

        from trialops.stores.tables import safety_cases as t

        if connection.execute(sa.select(t.c.id).where(t.c.case == case, t.c.study == self.study)).first() is None:
            raise TrialOpsError(f"There is no case {case!r}", where="case register", fix="See: trialops safety cases")

    # -- assessments and actions --------------------------------------------------------------------------------------

    def assess(self, case: str, *, related: bool, reason: str, actor: str, role: str, run_id: str = "") -> int:
        """Record the sponsor's assessment of causality, a further version of it; the investigator's is not touched.

        Returns:
            Its version.

        Raises:
            TrialOpsError: There is no such case, or no reason.
        """
        from trialops.stores.tables import safety_assessments as t

        text = _reason(reason, case)
        with writing(self.engine) as connection:
            lock_row(connection, f"safety_cases/{case}")
            self._known(connection, case)
            number = len(self._assessments(connection, case)) + 1
            connection.execute(
                t.insert().values(
                    at=utc_now(),
                    case=case,
                    version=number,
                    related="related" if related else "not related",
                    reason=text,
                    actor=actor,
                    role=role,
                    run_id=run_id,
                )
            )
        return number

    def assessments(self, case: str = "") -> list[SponsorAssessment]:
        """The sponsor's assessments, oldest first; of one case or of all."""
        with reading(self.engine) as connection:
            return self._assessments(connection, case)

    def _assessments(self, connection: Connection, case: str) -> list[SponsorAssessment]:
        import sqlalchemy as sa

        from trialops.stores.tables import safety_assessments as t
        from trialops.stores.tables import safety_cases as c

        query = sa.select(t).order_by(t.c.id).where(t.c.case.in_(sa.select(c.c.case).where(c.c.study == self.study)))
        if case:
            query = query.where(t.c.case == case)
        return [
            SponsorAssessment(r.case, r.version, r.related == "related", r.reason, r.actor, r.role, r.at)
            for r in connection.execute(query)
        ]

    def act(
        self,
        case: str,
        action: str,
        *,
        version: int = 0,
        authority: str = "",
        moment: str = "",
        reason: str,
        detail: Mapping[str, Any] | None = None,
        actor: str,
        role: str = "",
        run_id: str = "",
    ) -> Action:
        """Record what was done with a case.

        Args:
            case: Case id.
            action: One of ACTIONS.
            version: Of the case; the newest by default.
            authority: FDA or EU, where the action is about one.
            moment: When it happened, UTC as `utc_now` writes it; now by default.
            reason: Why, at most 500 characters, nothing that identifies a subject or tells a treatment.
            detail: JSON values: a digest, a signature, a message id.
            actor: Who.
            role: As what.
            run_id: The run.

        Raises:
            TrialOpsError: No such case or action, or no reason.
        """
        from trialops.stores.tables import safety_case_actions as t

        if action not in ACTIONS:
            raise TrialOpsError(
                f"{action!r} is not an action on a case", where=case, fix=f"One of {', '.join(ACTIONS)}"
            )
        text = _reason(reason, case)
        with writing(self.engine) as connection:
            lock_row(connection, f"safety_cases/{case}")
            self._known(connection, case)
            made = self._versions(connection, [case])
            number = version or (made[-1].version if made else 0)
            if made and not 1 <= number <= len(made):
                raise TrialOpsError(f"The case has no version {number}", where=case)
            now = utc_now()
            values: dict[str, Any] = {
                "case": case,
                "version": number,
                "action": action,
                "authority": authority,
                "moment": moment or now,
                "reason": text,
                "detail": canonical(dict(detail or {})),
                "actor": actor,
                "role": role,
                "at": now,
                "run_id": run_id,
            }
            connection.execute(t.insert().values(**values))
        return Action(**(values | {"detail": dict(detail or {})}))

    def actions(self, case: str = "") -> dict[str, list[Action]]:
        """What was done, by case, oldest first."""
        import sqlalchemy as sa

        from trialops.stores.tables import safety_case_actions as t
        from trialops.stores.tables import safety_cases as c

        query = sa.select(t).where(t.c.case.in_(sa.select(c.c.case).where(c.c.study == self.study))).order_by(t.c.id)
        if case:
            query = query.where(t.c.case == case)
        found: dict[str, list[Action]] = {}
        with reading(self.engine) as connection:
            for row in connection.execute(query):
                fields = {name: value for name, value in row._mapping.items() if name != "id"}
                found.setdefault(row.case, []).append(Action(**(fields | {"detail": json.loads(fields["detail"])})))
        return found

    def mark_sent(
        self, case: str, version: int, authority: str, *, at: str, complete: bool = True, message: str, actor: str
    ) -> Action:
        """Record that a report of a version went to an authority: it ends the clocks that it answers.

        Args:
            case: Case id.
            version: The version that was told.
            authority: FDA or EU.
            at: When, UTC text as `utc_now` writes it.
            complete: Whether nothing is outstanding.
            message: Id of the message.
            actor: Who, or which service.
        """
        return self.act(
            case,
            SENT,
            version=version,
            authority=authority,
            moment=at,
            reason="A report was sent",
            detail={"complete": complete, "message": message},
            actor=actor,
        )

    def released(self) -> list[Action]:
        """Releases that stand: newest to each authority, not taken back, not sent, the case not nullified since."""
        waiting: list[Action] = []
        versions = self.versions()
        for case, actions in self.actions().items():
            last = versions[case][-1]
            by_authority: dict[str, Action] = {}
            for action in actions:
                if action.action == RELEASED:
                    by_authority[action.authority] = action
                elif action.action == WITHDRAWN:
                    by_authority.pop(action.authority, None)
                elif action.action == SENT:
                    open_ = by_authority.get(action.authority)
                    if open_ is not None and action.version >= open_.version:
                        by_authority.pop(action.authority)
            gone = last.kind == NULLIFICATION
            waiting += [a for a in by_authority.values() if not gone or a.version == last.version]
        return sorted(waiting, key=lambda a: (a.case, a.authority))


def _reason(reason: str, where: str) -> str:
    text = " ".join(reason.split())
    if not text or len(text) > LONGEST_REASON:
        raise TrialOpsError(
            "What is done with a case needs a reason of 1 to 500 characters",
            where=where,
            fix="Say why; name the subject by nothing but the case, and no treatment.",
        )
    return text
