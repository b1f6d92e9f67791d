"""The case register over small deliveries: versions, idempotence, awareness, decisions, release; and the blind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from pipelines.cli_safety import safety
from tests.support.homes import artifact, leave, live_in
from tests.support.safety_trial import STUDY, arm, deliver, study, subject, trial
from tests.support.vaults import settle_vault
from trialops.errors import TrialOpsError
from trialops.governance.signatures import Signatures
from trialops.quality.queries import Queries
from trialops.safety.blinding import blind, leaks, treatment_of
from trialops.safety.case import Case
from trialops.safety.case_page import cases_page, counts, open_clocks, standing
from trialops.safety.case_run import Assessed, assess_cases, keep_delivery
from trialops.safety.clock_times import moment
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import Version
from trialops.safety.release import amend_narrative, look, prepare, released_cases, settle
from trialops.safety.safety_policy import alert_levels, safety_policy
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.study import bind_study
from trialops.trial.tables import TrialTables

NOW = "2023-03-06T12:00:00Z"
WHY = "Looked at by the test of the register"
FATAL = {"AEDECOD": "MYOCARDIAL INFARCTION", "AETERM": "Heart attack", "AESER": "Y", "AESDTH": "Y", "AEOUT": "FATAL",
         "AEREL": "POSSIBLE", "AELLTCD": 10028596.0}  # fmt: skip
HOSPITAL = {"AEDECOD": "SYNCOPE", "AETERM": "Fainting", "AESER": "Y", "AESHOSP": "Y", "AEREL": "POSSIBLE",
            "AELLTCD": 10042772.0}  # fmt: skip
VERUM, PLACEBO = 3, 2  # numbers of a subject with Verum High and of one with placebo


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    settle_vault(tmp_path)
    live_in(tmp_path, monkeypatch)
    monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
    settings.cache_clear()
    made = Step("assess", {}, settings())
    bind_study(made.objects, "SAF01")
    yield made
    leave()


def assess(run: Step, made: TrialTables, now: str = NOW, **safety_section: Any) -> Assessed:
    raw, opened = deliver(run, made)
    keep_delivery(run, raw, opened)
    stated = study(**safety_section)
    at = moment(now)
    return assess_cases(run, opened, stated, safety_policy(stated), now=at, received=at)


def versions(run: Step) -> dict[str, list[Version]]:
    return CaseRegister(run.engine, "SAF01").versions()


def only(run: Step) -> tuple[str, list[Version]]:
    ((case, made),) = versions(run).items()
    return case, made


def states(assessed: Assessed) -> list[tuple[str, str, int, str]]:
    return sorted((c.authority, c.kind, c.version, c.state) for cs in assessed.clocks.values() for c in cs)


# -- versions --------------------------------------------------------------------------------------------------------


def test_a_serious_event_becomes_a_case_once(run: Step) -> None:
    made = trial([{"subject": VERUM, **FATAL}, {"subject": PLACEBO}])
    first = assess(run, made)
    case, entered = only(run)
    assert case == "US-SPONSOR-SAF01_000001" and first.added == {"initial": 1, "follow-up": 0, "nullification": 0}
    assert [(v.version, v.kind, v.changed, v.basis) for v in entered] == [(1, "initial", (), "AEDTC")]
    # Day 0 is the day the site wrote it down, in the zone of the safety desk: midnight in New York.
    assert entered[0].aware == "2023-03-05T05:00:00.000000Z"
    assert {a: r["rule"] for a, r in entered[0].rulings.items()} == {"FDA": "SUSAR 7-day", "EU": "SUSAR 7-day"}
    again = assess(run, made, "2023-03-07T12:00:00Z")
    assert sum(again.added.values()) == 0 and len(only(run)[1]) == 1
    _, content = look(run, CaseRegister(run.engine, "SAF01"), case, purpose=WHY)
    told = Case.from_dict(content["case"])
    assert told.drugs[0].blinded and told.reactions[0].term is not None and told.reactions[0].death
    assert told.report.local_criteria == "7-day" and told.report.first_received == "2023-03-05"
    assert "Generated" in told.narrative.text and subject(VERUM) in told.narrative.text


def test_changed_data_make_a_follow_up_with_the_names_of_what_changed(run: Step) -> None:
    assess(run, trial([{"subject": VERUM, **HOSPITAL}]))
    changed = trial([{"subject": VERUM, **HOSPITAL, "AEOUT": "FATAL", "AESDTH": "Y", "AEDTC": "2023-03-08"}])
    later = assess(run, changed, "2023-03-09T12:00:00Z")
    case, (first, second) = only(run)
    assert (second.version, second.kind, second.aware[:10]) == (2, "follow-up", "2023-03-08")
    assert {"facts.grave", "reactions.1.death", "reactions.1.outcome"} <= set(second.changed)
    assert not any("2023" in name or "FATAL" in name for name in second.changed), "names, never values"
    # From 15 days to 7, counted from what made it fatal.
    assert [s for s in states(later) if s[0] == "FDA"] == [("FDA", "grave", 2, "open"), ("FDA", "serious", 1, "void")]
    assert first.digest != second.digest and case


def test_an_event_that_is_deleted_nullifies_its_case_and_its_return_revives_it(run: Step) -> None:
    made = trial([{"subject": VERUM, **FATAL}])
    assess(run, made)
    gone = assess(run, trial([{"subject": PLACEBO}]), "2023-03-07T12:00:00Z")
    assert gone.added["nullification"] == 1 and {s[3] for s in states(gone)} == {"void"}
    assert "no longer in the data" in next(iter(gone.clocks.values()))[0].void
    assert sum(assess(run, trial([{"subject": PLACEBO}]), "2023-03-07T13:00:00Z").added.values()) == 0
    assess(run, made, "2023-03-08T12:00:00Z")
    assert [v.kind for v in only(run)[1]] == ["initial", "nullification", "follow-up"]


def test_rows_that_record_one_event_are_one_case_and_events_keep_their_case(run: Step) -> None:
    rows = [
        {"subject": VERUM, **HOSPITAL, "AESPID": "E1", "AEDTC": "2023-03-02"},
        {"subject": VERUM, **HOSPITAL, "AESPID": "E1", "AEDTC": "2023-03-05"},
        {"subject": VERUM, **FATAL, "AESPID": "E2"},
    ]
    assess(run, trial(rows))
    assert len(versions(run)) == 2
    assert min(v[0].aware for v in versions(run).values()) == "2023-03-02T05:00:00.000000Z", "the earliest row counts"
    assess(run, trial(list(reversed(rows))), "2023-03-07T12:00:00Z")
    assert len(versions(run)) == 2, "another order of rows is nothing new"


def test_awareness_falls_back_to_onset_and_receipt_and_never_lies_behind_the_receipt(run: Step) -> None:
    assess(
        run,
        trial(
            [
                {"subject": 1, **FATAL, "AEDTC": None},
                {"subject": 2, **FATAL, "AEDTC": None, "AESTDTC": None},
                {"subject": 3, **FATAL, "AEDTC": "2023-09-01"},
                {"subject": 4, **FATAL, "AEDTC": None, "AESTDTC": "2023-02"},
            ]
        ),
    )
    found = sorted((v[0].aware, v[0].basis) for v in versions(run).values())
    assert found == [
        ("2023-02-28T05:00:00.000000Z", "ONSET_LATEST"),
        ("2023-03-01T05:00:00.000000Z", "ONSET_LATEST"),
        ("2023-03-06T12:00:00.000000Z", "received"),
        ("2023-03-06T12:00:00.000000Z", "received"),
    ]


def test_looking_back_leaves_out_what_came_later_and_the_register_is_not_written_backwards(run: Step) -> None:
    made = trial([{"subject": VERUM, **FATAL}, {"subject": PLACEBO, **HOSPITAL, "AEDTC": "2023-04-01"}])
    raw, opened = deliver(run, made)
    policy = safety_policy(study())

    def at(text: str) -> Assessed:
        now = moment(text)
        return assess_cases(run, opened, study(), policy, now=now, received=now, back=True)

    assert len(at(NOW).clocks) == 1 and len(at("2023-04-02T00:00:00Z").clocks) == 2
    with pytest.raises(TrialOpsError, match="not written backwards"):
        at(NOW)
    assert raw.path


# -- causality, answers, awareness -----------------------------------------------------------------------------------


def test_neither_assessor_overwrites_the_other_and_the_more_conservative_decides(run: Step) -> None:
    made = trial([{"subject": VERUM, **HOSPITAL, "AEREL": "NOT RELATED"}])
    assert states(assess(run, made)) == []
    case, _ = only(run)
    register = CaseRegister(run.engine, "SAF01")
    register.assess(case, related=True, reason="Plausible in time", actor="doc", role="safety physician")
    said = assess(run, made, "2023-03-07T12:00:00Z")
    assert [s[:2] for s in states(said)] == [("EU", "serious"), ("FDA", "serious")]
    facts = only(run)[1][-1].facts
    assert (facts["investigator"], facts["sponsor"]) == (False, True)
    register.assess(case, related=False, reason="The autopsy shows another cause", actor="doc", role="safety physician")
    assert {s[3] for s in states(assess(run, made, "2023-03-08T12:00:00Z"))} == {"void"}
    assert [(a.version, a.related) for a in register.assessments(case)] == [(1, True), (2, False)]
    _, content = look(run, register, case, purpose=WHY)
    opinions = content["case"]["drugs"][0]["relations"][0]["assessments"]
    assert [(o["source"], o["method"], o["result"]) for o in opinions] == [
        ("Investigator", "As collected", "NOT RELATED"),
        ("Sponsor", "Reasonable possibility", "Not related"),
        ("Sponsor", "FDA", "Not Suspected"),
    ]
    sponsor_no = trial([{"subject": VERUM, **HOSPITAL, "AEREL": "RELATED"}])
    assess(run, sponsor_no, "2023-03-09T12:00:00Z")
    facts = only(run)[1][-1].facts
    assert (facts["investigator"], facts["sponsor"]) == (True, False)
    assert only(run)[1][-1].rulings["FDA"]["rule"] == "SUSAR 15-day", "the sponsor's no does not undo a yes"


def test_an_event_to_confirm_runs_a_clock_until_the_site_has_answered(run: Step) -> None:
    made = trial([{"subject": VERUM, **HOSPITAL, "AESER": "N"}])
    first = assess(run, made)
    ruling = only(run)[1][0].rulings["FDA"]
    assert ruling["rule"] == "undecided: treated as expedited until seriousness is confirmed"
    assert {s[3] for s in states(first)} == {"open"}
    known = Queries(run.engine, "SAF01")
    (query,) = known.table()["query"].to_list()
    known.move(query, "closed", actor="data manager", reason="The stay was planned before the trial")
    answered = assess(run, made, "2023-03-07T12:00:00Z")
    assert {(s[3]) for s in states(answered)} == {"void"} and only(run)[1][-1].rulings["FDA"]["rule"] == "non-serious"
    assert known.table()["state"].to_list() == ["closed"], "the answer is not asked about again"


# -- looking, unblinding, releasing ----------------------------------------------------------------------------------


def release(run: Step, case: str, user: str = "doc", reason: str = "Reportable") -> Any:
    register = CaseRegister(run.engine, "SAF01")
    signatures = Signatures(run.engine, run.vault, cost=2**4)
    if not (run.settings.home / "enrolled").exists():
        signatures.enrol(user, "Dr Doc", "a long passphrase 1", actor="tester")
        (run.settings.home / "enrolled").touch()
    prepared = prepare(run, register, study(), case, purpose=WHY)
    signed = signatures.sign(
        user=user, passphrase="a long passphrase 1", meaning="approved", kind="safety case", record=prepared.record,
        digest=prepared.digest, reason=reason,
    )  # fmt: skip
    return register, signatures, prepared, settle(run, register, prepared, signature=signed.id, reason=reason)


def test_a_release_unblinds_one_subject_is_signed_and_ends_the_clocks_when_sent(run: Step) -> None:
    made = trial([{"subject": VERUM, **FATAL}, {"subject": PLACEBO, **HOSPITAL}])
    assess(run, made)
    case = next(c for c, v in versions(run).items() if v[0].facts["grave"])
    register, signatures, prepared, done = release(run, case)
    assert {a: d.action for a, d in done.items()} == {"FDA": "released", "EU": "released"}
    assert [(d.name, d.blinded) for d in prepared.told.drugs][:1] == [("Verum", False)]
    dosages = prepared.told.drugs[0].dosages
    assert [(d.dose.value, d.start) for d in dosages if d.dose] == [("10", "2023-02-01"), ("20", "2023-02-15")]
    assert prepared.told.drugs[0].substances[0].name == "verumab"
    assert "unblinded for this report: Verum" in prepared.told.narrative.text
    waiting = released_cases(run, register, signatures, purpose=WHY)
    assert [(w.case, w.authority, w.kind) for w in waiting] == [(case, "EU", "grave"), (case, "FDA", "grave")]
    assert waiting[0].told == prepared.told
    register.mark_sent(case, 1, "FDA", at="2023-03-09T12:00:00.000000Z", message="M1", actor="sender")
    after = assess(run, made, "2023-03-10T12:00:00Z")
    assert [s for s in states(after) if s[3] != "open"] == [("FDA", "grave", 1, "submitted on time")]
    assert [w.authority for w in released_cases(run, register, signatures, purpose=WHY)] == ["EU"]


def test_a_subject_on_placebo_is_decided_and_the_reason_is_sealed(run: Step) -> None:
    made = trial([{"subject": PLACEBO, **FATAL}])
    assess(run, made)
    case, _ = only(run)
    _, _, prepared, done = release(run, case)
    assert {a: d.action for a, d in done.items()} == {"FDA": "decided", "EU": "decided"}
    assert prepared.rulings["FDA"].reason == "the subject had placebo"
    # Decisions are made at the present time, so the runs that follow them lie after it.
    found = assess(run, made, "2100-01-01T00:00:00Z")
    assert {s[3] for s in states(found)} == {"void"}
    assert "placebo" not in json.dumps([c.void for cs in found.clocks.values() for c in cs])
    further = assess(run, trial([{"subject": PLACEBO, **FATAL, "AESHOSP": "Y"}]), "2100-01-02T00:00:00Z")
    assert further.added["follow-up"] == 1 and {s[3] for s in states(further)} == {"void"}, "it had placebo still"


def test_a_case_nullified_after_its_release_is_not_handed_over(run: Step) -> None:
    assess(run, trial([{"subject": VERUM, **FATAL}]))
    case, _ = only(run)
    register, signatures, _, _ = release(run, case)
    assert len(register.released()) == 2
    assess(run, trial([{"subject": PLACEBO}]), "2100-01-01T00:00:00Z")
    assert register.released() == [] == released_cases(run, register, signatures, purpose=WHY)


def test_an_altered_release_is_not_handed_over(run: Step) -> None:
    assess(run, trial([{"subject": VERUM, **FATAL}]))
    case, _ = only(run)
    register, signatures, _, _ = release(run, case)
    register.act(case, "released", authority="FDA", reason="Slipped in", detail={"digest": "0" * 64, "kind": "grave"},
                 actor="somebody")  # fmt: skip
    with pytest.raises(TrialOpsError, match="not covered by an approval"):
        released_cases(run, register, signatures, purpose=WHY)


@pytest.mark.parametrize("role", ["", "data engineer", "statistician (blinded)", "regulatory affairs"])
def test_only_a_safety_physician_unblinds(run: Step, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trial([{"subject": VERUM, **FATAL}])
    assess(run, made)
    monkeypatch.setenv("TRIALOPS_ROLE", role)
    settings.cache_clear()
    other = Step("other", {}, settings())
    register = CaseRegister(other.engine, "SAF01")
    case, _ = only(run)
    with pytest.raises(TrialOpsError, match="may not use this"):
        treatment_of(other, made, subject(VERUM), purpose=WHY, case=case)
    with pytest.raises(TrialOpsError, match="may not use this"):
        prepare(other, register, study(), case, purpose=WHY)
    refused = [e for e in other.trail.events() if e.action == "access.refuse"]
    assert len(refused) == 2 and not any(subject(VERUM) in str(e) for e in other.trail.events())


def test_unblinding_needs_a_purpose_and_is_on_record(run: Step) -> None:
    made = trial([{"subject": VERUM, **FATAL}])
    with pytest.raises(TrialOpsError, match="purpose"):
        treatment_of(run, made, subject(VERUM), purpose="why", case="C1")
    found = treatment_of(run, made, subject(VERUM), purpose=WHY, case="C1")
    assert found.actual == arm(VERUM) and [e.dose for e in found.exposures] == [10.0, 20.0]
    event = next(e for e in run.trail.events() if e.action == "unblind.subject")
    assert (event.object, event.reason, event.actor) == ("C1", WHY, "tester")
    with pytest.raises(TrialOpsError, match="no such subject"):
        treatment_of(run, made, "SAF01-999", purpose=WHY, case="C1")
    with pytest.raises(TrialOpsError, match="blinded"):
        treatment_of(run, blind(made), subject(VERUM), purpose=WHY, case="C1")


def test_a_narrative_that_a_person_wrote_stays_and_says_what_is_further(run: Step) -> None:
    assess(run, trial([{"subject": VERUM, **HOSPITAL}]))
    case, _ = only(run)
    register = CaseRegister(run.engine, "SAF01")
    text = "The patient fell at home and was seen by a cardiologist."
    assert amend_narrative(run, register, case, text, purpose=WHY).kind == "amendment"
    with pytest.raises(TrialOpsError, match="already"):
        amend_narrative(run, register, case, text, purpose=WHY)
    assert sum(assess(run, trial([{"subject": VERUM, **HOSPITAL}]), "2023-03-07T12:00:00Z").added.values()) == 0
    assess(run, trial([{"subject": VERUM, **HOSPITAL, "AESEV": "SEVERE", "AESDISAB": "Y"}]), "2023-03-08T12:00:00Z")
    _, content = look(run, register, case, purpose=WHY)
    assert content["case"]["narrative"]["text"].startswith(text + "\n\nFurther information: ")
    assert [v.kind for v in only(run)[1]] == ["initial", "amendment", "follow-up"]


def test_the_tables_are_append_only(run: Step) -> None:
    assess(run, trial([{"subject": VERUM, **FATAL}]))
    for table in ("safety_cases", "safety_case_versions"):
        with pytest.raises(sa.exc.DatabaseError, match="append-only"), run.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {table} SET actor = 'x'")


# -- the blind -------------------------------------------------------------------------------------------------------


def everything(run: Step, assessed: Assessed) -> Mapping[str, Any]:
    """What a run leaves in the clear: page, metrics, every row of the database, every file of the home."""
    policy = safety_policy(study())
    page = cases_page(assessed, policy, alert_levels())
    artifact_ = artifact(Path(run.settings.home), "report")
    run.show(artifact_, page)
    run.metrics |= counts(assessed, alert_levels())
    with run.engine.connect() as connection:
        tables = sa.inspect(run.engine).get_table_names()
        rows = {t: [list(r) for r in connection.exec_driver_sql(f'SELECT * FROM "{t}"')] for t in tables}
    return {
        "page": Path(artifact_.path),
        "metrics": run.metrics,
        "standing": standing(assessed, alert_levels()),
        "clocks": [c.as_dict() for _, c in open_clocks(assessed)],
        "database": rows,
        "sealed table": assessed.cases,
        "home": Path(run.settings.home),
    }


def test_nothing_a_blinded_role_reads_tells_an_arm(run: Step) -> None:
    events = [{"subject": n, **(FATAL if n % 4 == 0 else HOSPITAL)} for n in range(1, 25)]
    events += [{"subject": 25, **FATAL, "AETERM": "Heart attack after VERUM high, not placebo"}]
    made = trial(events)
    assessed = assess(run, made)
    found = everything(run, assessed)
    contents = [look(run, CaseRegister(run.engine, "SAF01"), case, purpose=WHY)[1] for case in assessed.clocks]
    assert len(contents) == 25 and len(assessed.clocks) == 25
    assert leaks({**found, "cases as the role reads them": contents}, made) == []
    # The same scan finds what is planted in a page, in a file among the stores, and in a row of the database.
    home = Path(run.settings.home)
    (home / "runs" / "notes.json").write_text(json.dumps({"subject": subject(VERUM), "arm": "VH"}))
    run.audit("note", "case", reason=f"{subject(VERUM)} had Verum, high")
    where = {leak.where for leak in leaks(everything(run, assessed), made)}
    assert any("notes.json" in place for place in where) and any("audit_events" in place for place in where)
    assert leaks(blind(made).tables, made) == []


def test_an_unblinded_case_tells_its_own_arm_and_no_other(run: Step) -> None:
    made = trial([{"subject": n, **FATAL} for n in range(1, 10)])
    assessed = assess(run, made)
    case = assessed.cases.filter(pl.col("USUBJID") == subject(VERUM))["case"][0]
    _, _, prepared, _ = release(run, case)
    own = ("VERUM", "Verum High", "VH")
    assert leaks(prepared.told.to_dict(), made, allowed=own) == []
    assert {leak.what.upper() for leak in leaks(prepared.told.to_dict(), made)} == {"VERUM"}
    after = everything(run, assess(run, made, "2100-01-01T00:00:00Z"))
    assert leaks(after, made) == [], "the release itself is sealed"


@pytest.mark.parametrize(
    ("planted", "how"),
    [
        ("SAF01-003 had verum  HIGH", "named"),
        (b"\x00\x01 Verum High \xff", "named"),
        ("Verum&nbsp;High", "named"),
        ("arm=Verum%20Low", "named"),
        ("Verum-High".encode("utf-16-le"), "named"),
        (json.dumps({"arm": "VH"}), "named"),
        ({"deep": [{"er": "placebo"}]}, "named"),
        ({"VERUM": 1}, "named"),
        (pl.DataFrame({"USUBJID": ["a"], "EXDOSE": [5.0]}), "column"),
        (pl.DataFrame({"ARMCD": ["VL"]}), "column"),
    ],
    ids=["text", "bytes", "entity", "percent", "utf16", "code", "nested", "key", "dose", "arm"],
)
def test_the_scanner_finds_what_is_planted(planted: Any, how: str) -> None:
    assert how in {leak.how for leak in leaks(planted, trial([{"subject": 1}]))}


def test_the_scanner_finds_a_column_that_follows_the_arm_under_another_name() -> None:
    made = trial([{"subject": 1}])
    people = [subject(n) for n in range(1, 31)]
    groups = {"Verum High": "Group 2", "Verum Low": "Group 7", "Placebo": "Group 1"}
    coded = pl.DataFrame({"USUBJID": people, "GRP": [groups[arm(n)] for n in range(1, 31)]})
    assert [leak.how for leak in leaks(coded, made)] == ["follows the arm"]
    blocks = coded.with_columns(GRP=pl.Series([f"Group {n // 10}" for n in range(30)]))
    assert leaks(blocks, made) == []


def test_names_inside_other_words_are_no_leak() -> None:
    made = trial([{"subject": 1}])
    assert leaks("A veruma, a placeboid, VHS and php are words of their own.", made) == []
    assert leaks("the P of a p-value, VL as in a text", made) == [], "codes of two letters count as whole values"


def test_blind_keeps_who_was_treated_when_and_nothing_of_what(run: Step) -> None:
    from trialops.trial.populations import populations

    made = trial([{"subject": 1, "AETERM": "Rash after Placebo patch"}])
    blinded = blind(made)
    assert populations(blinded).equals(populations(made))
    assert blinded.table("EX").columns == ["STUDYID", "DOMAIN", "USUBJID", "EXSEQ", "EXSTDTC", "EXENDTC"]
    assert blinded.table("EX").group_by("USUBJID").len()["len"].unique().to_list() == [1], "a titration is not told"
    assert blinded.table("LB")["LBTESTCD"].unique().to_list() == ["ALT"], "a level of the product is not told"
    assert blinded.table("AE")["AETERM"].to_list() == ["Rash after [blinded] patch"]
    assert blinded.table("DM")["ARM"].unique().to_list() == ["BLINDED"] and run


# -- the command line ------------------------------------------------------------------------------------------------


def test_the_commands(run: Step, tmp_path: Path) -> None:
    stated = tmp_path / "study.yaml"
    import yaml

    stated.write_text(yaml.safe_dump(STUDY))
    assess(run, trial([{"subject": VERUM, **FATAL}]))
    case, _ = only(run)
    Signatures(run.engine, run.vault).enrol("doc", "Dr Doc", "a long passphrase 1", actor="tester")

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(safety, list(arguments), help_option_names=["-h", "--help"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert case in call("cases") and json.loads(call("cases", "--json"))[0]["review"] == "waits"
    listed = json.loads(call("clocks", "--study", str(stated), "--json", "--as-of", NOW))
    assert {(c["authority"], c["kind"], c["due_day"]) for c in listed} == {
        ("FDA", "grave", "2023-03-12"),
        ("EU", "grave", "2023-03-12"),
        ("EU", "complete", "2023-03-20"),
    }
    shown = call("case", case, "--purpose", WHY)
    assert "Heart attack" in shown and "SUSAR 7-day" in shown and "Verum" not in shown
    call("assess", case, "--not-related", "--reason", "Not plausible in time")
    call("aware", case, "--at", "2023-03-04T09:00:00-05:00", "--reason", "The site had called the day before")
    moved = json.loads(call("clocks", "--study", str(stated), "--json"))
    assert {c["day_0"] for c in moved} == {"2023-03-04"}
    call("review", case, "--reason", "Read with the hospital's letter")
    (tmp_path / "text.txt").write_text("Written by a physician.")
    call("narrative", case, str(tmp_path / "text.txt"), "--purpose", WHY)
    released = call(
        "release", case, "--user", "doc", "--passphrase", "a long passphrase 1", "--study", str(stated),
        "--purpose", WHY, "--reason", "Reportable",
    )  # fmt: skip
    assert "FDA: released" in released and "Verum" in released and "Signed by:  Dr Doc" in released
    assert "taken back" in call("withdraw", case, "--authority", "FDA", "--reason", "A correction is on its way")
    actions = CaseRegister(run.engine, "SAF01").actions(case)[case]
    assert [a.action for a in actions] == ["aware", "reviewed", "released", "released", "withdrawn"]
    with pytest.raises(TrialOpsError, match="There is no case"):
        call("review", "US-X-1", "--reason", "Nothing there")
    with pytest.raises(TrialOpsError, match="Nobody is aware"):
        call("aware", case, "--at", "2999-01-01", "--reason", "In the future")
