"""ClinicalDatabaseOperator: looks at a database, backs it up, proves the backup by a restore, tends it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.operations.backup_archive import Backup, backups, find, last_check
from trialops.operations.backup_make import back_up, database_name
from trialops.operations.backup_rotation import rotate
from trialops.operations.backup_verify import Verification, verify
from trialops.operations.database_facts import DatabaseFacts, look
from trialops.operations.database_findings import Upkeep, judge, upkeep
from trialops.operations.database_policy import DatabasePolicy, default_database_policy
from trialops.operations.health import Finding, alert_on, worst

if TYPE_CHECKING:
    from trialops.stores.context import Step

Task = Literal["inspect", "back up", "verify", "tend"]
RUNBOOK = "database-maintenance"


@dataclass(frozen=True)
class DatabaseResult:
    """What one task found and did.

    Attributes:
        task: inspect, back up, verify or tend.
        database: Name of the database.
        decision: State of the findings; "verified", "failed" or "unverified" of a backup; "plan" or "done" of upkeep.
        findings: What was looked at.
        facts: The database's figures, where it was asked.
        backup: The backup made or verified.
        verification: Its verification.
        removed: Backups that the policy no longer keeps, and kept: id to why.
        kept: The same for those that stay.
        statements: Statement, reason, and what became of it.
    """

    task: str
    database: str
    decision: str
    findings: tuple[Finding, ...] = ()
    facts: DatabaseFacts | None = None
    backup: Backup | None = None
    verification: Verification | None = None
    removed: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    statements: tuple[tuple[str, str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain form, without the checksums of a backup, which its manifest holds."""
        return {
            "task": self.task,
            "database": self.database,
            "decision": self.decision,
            "findings": [found.as_dict() for found in self.findings],
            "facts": asdict(self.facts) if self.facts else {},
            "backup": {
                "id": self.backup.id,
                "started": self.backup.started,
                "bytes": self.backup.size,
                "manifest": self.backup.manifest,
                **{name: self.backup.body.get(name, "") for name in ("method", "tool", "server", "schema")},
            }
            if self.backup
            else {},
            "verification": self.verification.as_dict() if self.verification else {},
            "removed": list(self.removed),
            "kept": dict(sorted(self.kept.items())),
            "statements": [list(item) for item in self.statements],
        }


class ClinicalDatabaseOperator:
    """The database's upkeep.

    Args:
        policy: The platform's own by default.
    """

    def __init__(self, policy: DatabasePolicy | None = None) -> None:
        self.policy = policy or default_database_policy()

    def run(
        self, run: Step, task: Task, *, apply: bool = True, as_of: str = "", backup: str = "", scratch_url: str = ""
    ) -> DatabaseResult:
        """Carry out one task on the step's database.

        Args:
            run: The step.
            task: inspect: look, change nothing. back up: make a backup and rotate old ones. verify: restore a backup
                into a scratch database and compare. tend: VACUUM, ANALYZE, REINDEX where they help.
            apply: tend: do it; otherwise the plan is shown.
            as_of: ISO 8601 moment that ages are counted to; empty is now.
            backup: verify: its id; empty is the newest.
            scratch_url: verify: another server to restore on.

        Returns:
            What was found and done; the decision is recorded, and what is not well has raised an alert.

        Raises:
            TrialOpsError: A backup cannot be made, or there is none to verify.
        """
        now = _moment(as_of)
        if task == "inspect":
            return self._inspect(run)
        if task == "back up":
            return self._back_up(run, now)
        if task == "verify":
            return self._verify(run, now, backup, scratch_url)
        if task == "tend":
            return self._tend(run, apply)
        raise TrialOpsError(f"{task!r} is no task of the database operator", fix="inspect, back up, verify, tend")

    def _inspect(self, run: Step) -> DatabaseResult:
        run.progress("asking the database about itself", None)
        facts = look(run.engine)
        findings = judge(facts, self.policy)
        alert_on(run, findings, name="DatabaseUpkeep", area="infrastructure", runbook=RUNBOOK)
        run.metrics |= {"bytes": facts.size, "tables": len(facts.tables), "findings": len(findings)}
        bad = [f"{f.component} {f.check}" for f in findings if f.state != "healthy"]
        state = run.decide(worst(findings), numbers={"not_healthy": bad}, policy=self.policy.named())
        return DatabaseResult("inspect", database_name(run.engine), state, tuple(findings), facts)

    def _back_up(self, run: Step, now: dt.datetime) -> DatabaseResult:
        name = database_name(run.engine)
        made = back_up(
            run.engine,
            vault=run.vault,
            objects=run.objects,
            policy=self.policy,
            run_id=run.run_id,
            workdir=run.workdir,
            progress=run.progress,
        )
        run.audit("backup.create", made.prefix, made.manifest, bytes=made.size, method=str(made.body["method"]))
        removed, reasons = rotate(run, name, self.policy.backup, now)
        tables = made.body["contents"]["tables"]
        run.metrics |= {
            "bytes": made.size,
            "tables": len(tables),
            "rows": sum(int(rows) for rows, _ in tables.values()),
            "removed": len(removed),
        }
        return DatabaseResult("back up", name, "made", backup=made, removed=tuple(removed), kept=reasons)

    def _verify(self, run: Step, now: dt.datetime, id_: str, scratch_url: str) -> DatabaseResult:
        name = database_name(run.engine)
        backup = find(run.objects, name, id_)
        made = verify(
            backup,
            engine=run.engine,
            vault=run.vault,
            objects=run.objects,
            scratch_url=scratch_url,
            workdir=run.workdir,
            progress=run.progress,
        )
        run.audit("backup.verify", backup.prefix, backup.manifest, outcome=made.outcome, checks=len(made.checks))
        wrong = next((check for check in made.checks if not check.ok), None)
        findings = [
            Finding(
                "backup",
                "restore",
                {"verified": "healthy", "failed": "broken", "unverified": "unknown"}[made.outcome],  # type: ignore[arg-type]
                f"{backup.id}: {wrong.name}: {wrong.detail}" if wrong else f"{backup.id} was restored and compared",
                fix="" if wrong is None else "Make another backup and verify it before anything else.",
            ),
            *recovery(run, self.policy, now),
        ]
        alert_on(run, findings, name="DatabaseBackup", area="infrastructure", runbook=RUNBOOK)
        run.metrics |= {"restore_seconds": made.restore_seconds, "tables": made.tables[0], "rows": made.tables[1]}
        run.decide(
            made.outcome,
            numbers={"backup": backup.id, "checks": len(made.checks), **run.metrics},
            policy=self.policy.named(),
        )
        return DatabaseResult("verify", name, made.outcome, tuple(findings), backup=backup, verification=made)

    def _tend(self, run: Step, apply: bool) -> DatabaseResult:
        facts = look(run.engine)
        wanted = upkeep(facts, self.policy)
        done = self._carry_out(run, wanted) if apply else [(u.statement, u.reason, "planned") for u in wanted]
        failed = [statement for statement, _, outcome in done if outcome not in ("planned", "done")]
        after = look(run.engine) if apply else facts
        run.metrics |= {"statements": len(done), "failed": len(failed), "bytes": after.size}
        decision = "plan" if not apply else "failed" if failed else "done"
        run.decide(decision, numbers=dict(run.metrics), policy=self.policy.named())
        finding = Finding(
            facts.kind,
            "upkeep",
            "degraded" if failed else "healthy",
            f"{len(failed)} of {len(done)} statements failed" if failed else f"{len(done)} statements",
            float(len(failed)),
            0.0,
            "Look for long transactions and locks; the next run tries again." if failed else "",
        )
        alert_on(run, [finding], name="DatabaseUpkeep", area="infrastructure", runbook=RUNBOOK)
        return DatabaseResult("tend", database_name(run.engine), decision, (finding,), after, statements=tuple(done))

    def _carry_out(self, run: Step, wanted: Sequence[Upkeep]) -> list[tuple[str, str, str]]:
        if run.engine.dialect.name == "postgresql":
            from trialops.operations.database_postgres import tend
        else:
            from trialops.operations.database_sqlite import tend
        done = []
        for place, one in enumerate(wanted):
            run.progress(one.statement, place / len(wanted))
            ((_, error),) = tend(run.engine, [one.statement])
            done.append((one.statement, one.reason, error or "done"))
        if wanted:
            run.audit("database.tend", database_name(run.engine), statements=len(wanted))
        return done


def recovery(run: Step, policy: DatabasePolicy, now: dt.datetime) -> list[Finding]:
    """Recovery point and time against the policy: age of the last verified backup, and how long its restore took."""
    name, rules = database_name(run.engine), policy.backup
    good = [
        (one, told)
        for one in backups(run.objects, name)
        if one.started and (told := last_check(run.objects, one) or {}).get("outcome") == "verified"
    ]
    if not good:
        return [
            Finding("backup", "recovery point", "broken", "there is no verified backup", None, rules.rpo_hours,
                    "Run database_maintenance, or: trialops database backup"),
            Finding("backup", "recovery time", "unknown", "no restore was measured", None, rules.rto_minutes),
        ]  # fmt: skip
    backup, told = good[-1]
    hours = (now - dt.datetime.fromisoformat(backup.started)).total_seconds() / 3600
    minutes = float(told["restore_seconds"]) / 60
    late, slow = hours > rules.rpo_hours, minutes > rules.rto_minutes
    return [
        Finding("backup", "recovery point", "broken" if late else "healthy",
                f"{hours:.1f} hours would be lost; the last verified backup is {backup.id}", hours, rules.rpo_hours,
                "Find out why no newer backup was verified." if late else ""),
        Finding("backup", "recovery time", "degraded" if slow else "healthy",
                f"its restore took {minutes * 60:.1f} seconds, to where it was verified", minutes, rules.rto_minutes,
                "Restore in parallel (pg_restore --jobs), or on faster disks." if slow else ""),
    ]  # fmt: skip


def _moment(as_of: str) -> dt.datetime:
    if not as_of:
        return dt.datetime.now(dt.UTC)
    try:
        at = dt.datetime.fromisoformat(as_of)
    except ValueError:
        raise TrialOpsError("The moment to look from is no date.", where="as_of", fix="Use ISO 8601.") from None
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
