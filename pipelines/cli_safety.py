"""Commands of drug safety: the case register, its clocks, and what a safety physician decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli_case_form import form, read
from pipelines.cli_grading import grading
from pipelines.cli_reports import reports
from pipelines.cli_signals import screen

if TYPE_CHECKING:
    from trialops.safety.register import CaseRegister
    from trialops.safety.release import Prepared
    from trialops.stores.context import Step

REASON = click.option("--reason", required=True, help="Why; nothing that identifies a subject or tells a treatment.")
PURPOSE = click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
STUDY = click.option("--study", default="", help="Study file; the demonstration trial's by default.")
AS_OF = click.option("--as-of", default="", help="ISO 8601 time the clocks are read at; now by default.")


@click.group()
def safety() -> None:
    """Safety cases: list, look, assess, release; the role in TRIALOPS_ROLE decides who may."""


safety.add_command(reports)
safety.add_command(form)
safety.add_command(read)
safety.add_command(screen)
safety.add_command(grading)


def _open(name: str) -> tuple[Step, CaseRegister]:
    """A step by hand, and the register of the study these stores hold.

    Raises:
        TrialOpsError: There is no study yet.
    """
    from trialops.errors import TrialOpsError
    from trialops.safety.register import CaseRegister
    from trialops.settings import settings
    from trialops.stores.context import Step
    from trialops.stores.study import bound_study

    run = Step(name, {}, settings())
    study = bound_study(run.objects)
    if not study:
        raise TrialOpsError(
            "There are no cases: these stores hold no study yet",
            where=str(settings().home),
            fix="Run adverse_event_monitoring first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    return run, CaseRegister(run.engine, study)


@safety.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cases(as_json: bool) -> None:
    """List the cases by id: newest version, what it was decided to be, whether somebody has reviewed it."""
    from pipelines.cli_output import table
    from trialops.safety.register_records import DECIDED, RELEASED, REVIEWED

    _, register = _open("safety-cases")
    done, rows = register.actions(), []
    for case, versions in register.versions().items():
        if not versions:
            continue
        last = versions[-1]
        looked = any(
            a.version == last.version and a.action in (REVIEWED, RELEASED, DECIDED) for a in done.get(case, [])
        )
        rules = "; ".join(f"{authority}: {ruling['rule']}" for authority, ruling in sorted(last.rulings.items()))
        rows.append([case, str(last.version), last.kind, last.aware[:10], "reviewed" if looked else "waits", rules])
    columns = ["case", "version", "kind", "aware", "review", "decision"]
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1))
        return
    table(columns, rows)


@safety.command()
@STUDY
@AS_OF
@click.option("--all", "everything", is_flag=True, help="Ended ones too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def clocks(study: str, as_of: str, everything: bool, as_json: bool) -> None:
    """List reporting clocks, the most urgent first."""
    from datetime import UTC, datetime

    from pipelines.cli_output import table
    from trialops.safety.case_run import case_clocks
    from trialops.safety.case_versions import authorities_of
    from trialops.safety.clock_times import moment
    from trialops.safety.clocks import OPEN
    from trialops.safety.safety_policy import alert_levels, safety_policy
    from trialops.trial.study_file import study_file

    _, register = _open("safety-clocks")
    stated = study_file(study)
    policy, now = safety_policy(stated), moment(as_of) if as_of else datetime.now(UTC)
    done = register.actions()
    found = [
        (case, clock)
        for case, versions in register.versions().items()
        for clock in case_clocks(versions, done.get(case, []), policy, authorities_of(stated))
        if everything or clock.state == OPEN
    ]
    found.sort(key=lambda item: (item[1].due, item[0], item[1].authority))
    if as_json:
        click.echo(json.dumps([{"case": case, **clock.as_dict()} for case, clock in found], indent=1))
        return
    rows = [
        [case, c.authority, c.kind, str(c.version), c.day_0.isoformat(), c.due.strftime("%Y-%m-%d %H:%M"), c.state,
         f"{100 * c.used(now):.0f} %" if c.state == OPEN else "", c.alert(now, alert_levels()), c.void]
        for case, c in found
    ]  # fmt: skip
    table(["case", "authority", "clock", "version", "day 0", "due (UTC)", "state", "used", "alert", "why void"], rows)


@safety.command("case")
@click.argument("case")
@PURPOSE
def show_case(case: str, purpose: str) -> None:
    """Show CASE, blinded: versions, assessments, actions, content. It identifies a person: the look is audited."""
    from pipelines.cli_output import table
    from trialops.safety.release import look

    run, register = _open("safety-case")
    versions, content = look(run, register, case, purpose=purpose)
    rows = [[str(v.version), v.kind, v.aware[:16], v.basis, ", ".join(v.changed) or "–"] for v in versions]
    table(["version", "kind", "aware (UTC)", "by", "changed"], rows)
    for authority, ruling in sorted(versions[-1].rulings.items()):
        click.echo(f"{authority}: {ruling['rule']} ({ruling['reason']}) {ruling['citation']}")
    for said in register.assessments(case):
        word = "related" if said.related else "not related"
        click.echo(f"sponsor, {said.at[:16]}, {said.actor}: {word}; {said.reason}")
    for done in register.actions(case).get(case, []):
        click.echo(
            f"{done.action} {done.authority} version {done.version}, {done.moment[:16]}, {done.actor}: {done.reason}"
        )
    click.echo(json.dumps(content["case"], indent=1, sort_keys=True))


@safety.command()
@click.argument("case")
@click.option("--related/--not-related", required=True, help="Whether there is a reasonable possibility.")
@REASON
def assess(case: str, related: bool, reason: str) -> None:
    """Record the sponsor's causality assessment of CASE, beside the investigator's; the next run takes it in."""
    from trialops.governance.access import authorise

    run, register = _open("safety-assess")
    grant = authorise(run, "safety_assessment", reason, subject=case)
    number = register.assess(case, related=related, reason=reason, actor=run.settings.who, role=grant.role)
    run.audit("case.assess", case, str(number), reason=reason, related=related)
    click.echo(f"{case}: assessment {number}, {'related' if related else 'not related'}")


@safety.command()
@click.argument("case")
@click.option("--at", required=True, help="When the sponsor had it, ISO 8601; without a zone it is UTC.")
@click.option("--version", type=int, default=1, show_default=True, help="Of the case.")
@REASON
def aware(case: str, at: str, version: int, reason: str) -> None:
    """Record when the sponsor had a version of CASE: day 0 of its clocks."""
    from datetime import UTC, datetime

    from trialops.errors import TrialOpsError
    from trialops.governance.access import authorise
    from trialops.safety.clock_times import moment, utc_text
    from trialops.safety.register_records import AWARE

    run, register = _open("safety-aware")
    grant = authorise(run, "safety_assessment", reason, subject=case)
    when = moment(at, where="--at")
    if when > datetime.now(UTC):
        raise TrialOpsError("Nobody is aware of something before it is so", where="--at", fix="Give a past time.")
    register.act(
        case, AWARE, version=version, moment=utc_text(when), reason=reason, actor=run.settings.who, role=grant.role
    )
    run.audit("case.aware", case, str(version), reason=reason, moment=utc_text(when))
    click.echo(f"{case} version {version}: aware {utc_text(when)}")


@safety.command()
@click.argument("case")
@REASON
def review(case: str, reason: str) -> None:
    """Record that a safety physician has reviewed the newest version of CASE."""
    from trialops.governance.access import authorise
    from trialops.safety.register_records import REVIEWED

    run, register = _open("safety-review")
    grant = authorise(run, "safety_assessment", reason, subject=case)
    done = register.act(case, REVIEWED, reason=reason, actor=run.settings.who, role=grant.role)
    run.audit("case.review", case, str(done.version), reason=reason)
    click.echo(f"{case} version {done.version} is reviewed")


@safety.command()
@click.argument("case")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@PURPOSE
def narrative(case: str, file: Path, purpose: str) -> None:
    """Enter the text in FILE as the narrative of CASE, a new version of it."""
    from trialops.safety.release import amend_narrative

    run, register = _open("safety-narrative")
    version = amend_narrative(run, register, case, file.read_text("utf-8"), purpose=purpose)
    click.echo(f"{case} version {version.version}: narrative entered")


@safety.command()
@click.argument("case")
@click.option("--user", required=True, help="User id of the safety physician who signs.")
@click.option("--passphrase", default="", help="Asked for, after the case is shown, when not given.")
@STUDY
@PURPOSE
@REASON
def release(case: str, user: str, passphrase: str, study: str, purpose: str, reason: str) -> None:
    """Unblind the subject of CASE, show what would go out, and release it with a signature."""
    from pipelines.cli_governance import anchored
    from pipelines.cli_release import signatures
    from trialops.governance.approval import APPROVED
    from trialops.governance.signatures import as_text
    from trialops.safety.release import KIND, prepare, settle
    from trialops.trial.study_file import study_file

    run, register = _open("safety-release")
    prepared = prepare(run, register, study_file(study), case, purpose=purpose)
    click.echo(_shown(prepared))
    signature = signatures().sign(
        user=user,
        passphrase=passphrase or click.prompt(f"Passphrase of {user}", hide_input=True),
        meaning=APPROVED,
        kind=KIND,
        record=prepared.record,
        digest=prepared.digest,
        reason=reason,
    )
    done = settle(run, register, prepared, signature=signature.id, reason=reason)
    anchored(run.engine)
    click.echo(f"\n{as_text(signature)}")
    for authority, action in done.items():
        click.echo(f"{authority}: {action.action}")


def _shown(prepared: Prepared) -> str:
    """What a signer is shown: the decision after unblinding, and the case."""
    lines = [f"Case {prepared.case}, version {prepared.version}, SHA-256 {prepared.digest}"]
    lines += [f"{a}: {r.rule} ({r.reason}) {r.citation}" for a, r in prepared.rulings.items()]
    return "\n".join([*lines, json.dumps(prepared.told.to_dict(), indent=1, sort_keys=True)])


@safety.command()
@click.argument("case")
@click.option("--authority", type=click.Choice(["FDA", "EU"]), required=True)
@REASON
def withdraw(case: str, authority: str, reason: str) -> None:
    """Take a release of CASE back, before it has been sent."""
    from trialops.errors import TrialOpsError
    from trialops.governance.access import authorise
    from trialops.safety.register_records import WITHDRAWN

    run, register = _open("safety-withdraw")
    grant = authorise(run, "safety_assessment", reason, subject=case)
    open_ = [a for a in register.released() if a.case == case and a.authority == authority]
    if not open_:
        raise TrialOpsError("There is no release to take back: none was made, or it has been sent", where=case)
    register.act(
        case,
        WITHDRAWN,
        version=open_[0].version,
        authority=authority,
        reason=reason,
        actor=run.settings.who,
        role=grant.role,
    )
    run.audit("case.withdraw", case, str(open_[0].version), reason=reason, authority=authority)
    click.echo(f"{case}: the release to {authority} is taken back")
