"""IND reports for FDA and reports for EudraVigilance: what is completed, what is refused, where they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.e2b_case import STAMP, full_case
from trialops.errors import TrialOpsError
from trialops.safety.case import Assessment, Case, Null, Relation
from trialops.safety.e2b.checking import check, rejections
from trialops.safety.e2b.reader import parse, read_messages
from trialops.safety.e2b.reports import (
    EV_CTM,
    FDA_IND_CBER,
    FDA_IND_CDER,
    ReportSettings,
    destination,
    eu_report,
    ind_report,
    ind_shortfalls,
)
from trialops.safety.e2b.values import Value, read_values
from trialops.safety.e2b.writer import write_batch

SETTINGS = ReportSettings("123456789", FDA_IND_CDER)


def ind_case() -> Case:
    """A usual IND case: a blinded trial's event, unblinded for this subject, no devices."""
    case = full_case()
    assert case.study is not None
    drug = replace(
        case.drugs[0],
        other_role=None,
        fda_information=None,
        product_category=None,
        devices=(),
        gestation_at_exposure=None,
        relations=(
            Relation(1, assessments=(Assessment("Sponsor", "FDA", "Suspected"),)),
            Relation(2, assessments=(Assessment("Investigator", "FDA", "Not Suspected"),)),
            Relation(3, assessments=(Assessment("Investigator", "FDA", "Not Suspected"),)),
        ),
    )
    aspirin = replace(
        case.drugs[1],
        fda_information=None,
        pharmaceutical_product=None,
        relations=tuple(
            Relation(number, assessments=(Assessment("Sponsor", "FDA", "Not Suspected"),)) for number in (1, 2, 3)
        ),
    )
    patient = replace(case.patient, parent=None, gestation=None, last_menstrual_period=None, birth_date="1950-06-07")
    return replace(
        case,
        report=replace(
            case.report, amendment=None, amendment_reason=None, combination_product=False, linked_reports=()
        ),
        study=replace(case.study, pre_anda_number=None, registrations=case.study.registrations[:1]),
        patient=patient,
        drugs=(drug, aspirin),
        reactions=tuple(replace(each, required_intervention=False, end=None, duration=None) for each in case.reactions),
    )


def test_an_ind_report_says_what_fda_asks_for() -> None:
    report = ind_report(ind_case(), SETTINGS, STAMP)
    values = read_values(parse(report.document))
    expected = {
        "N.1.1": "1",
        "N.1.3": "123456789",
        "N.1.4": "ZZFDA_PREMKT",
        "N.2.r.2": "123456789",
        "N.2.r.3": "CDER_IND",
        "C.1.3": "2",
        "C.1.7": "true",
        "FDA.C.1.7.1": "6",
        "FDA.C.1.12": "false",
        "C.5.4": "1",
        "FDA.C.5.5a": "123456",
    }
    assert {number: values.first(number) for number in expected} == expected
    assert set(values.all("FDA.E.i.3.2h").values()) == {Value(None, "NI")}
    assert "Suspected" in values.texts("G.k.9.i.2.r.3")
    assert report.completed == ()


def test_none_of_fdas_rejection_rules_finds_anything() -> None:
    report = ind_report(ind_case(), SETTINGS, STAMP)
    assert rejections(check(parse(report.document))) == ()


def test_the_stamp_is_the_time_of_message_and_report() -> None:
    report = ind_report(ind_case(), SETTINGS, "2026-03-01T14:30:00Z")
    values = read_values(parse(report.document))
    assert {values.first(number) for number in ("N.1.5", "N.2.r.4", "C.1.2")} == {"20260301143000+0000"}
    assert report.case.report.created == "2026-03-01T14:30:00+00:00"
    assert report.message.number == "US-TESTSPONSOR-0001"
    assert report.batch.number == "US-TESTSPONSOR-0001-20260301143000"
    assert ind_report(ind_case(), SETTINGS, "2026-03-01T14:30:00Z") == report
    assert ind_report(ind_case(), SETTINGS, "2026-03-01T14:30:01Z").document != report.document


def test_what_a_case_leaves_open_is_said_to_be_missing_and_named() -> None:
    case = ind_case()
    assert case.study is not None
    open_case = replace(
        case,
        patient=replace(case.patient, name=None, races=(), ethnicity=None),
        reporters=tuple(replace(each, email=None) for each in case.reporters),
        report=replace(case.report, combination_product=None),
        study=replace(case.study, cross_reported=()),
    )
    report = ind_report(open_case, SETTINGS, STAMP)
    assert set(report.completed) == {
        "D.1",
        "FDA.D.11.r.1",
        "FDA.D.12",
        "FDA.C.2.r.2.8",
        "FDA.C.1.12",
        "FDA.C.5.6.r",
    }
    values = read_values(parse(report.document))
    assert values.nulls("FDA.C.2.r.2.8") == ["NASK", "NASK"]
    assert values.all("FDA.C.5.6.r") == {(1,): Value(None, "NA")}
    assert values.all("FDA.D.11.r.1") == {(1,): Value(None, "UNK")}
    assert rejections(check(parse(report.document))) == ()
    (message,) = read_messages(report.document)[1]
    assert message.case == report.case


def test_a_reason_that_the_case_gives_is_kept() -> None:
    case = replace(ind_case(), patient=replace(ind_case().patient, name=Null("masked"), ethnicity=Null("masked")))
    report = ind_report(case, SETTINGS, STAMP)
    assert report.completed == ()
    assert read_values(parse(report.document)).nulls("D.1") == ["MSK"]


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda case: replace(case, report=replace(case.report, report_type="spontaneous")), "C.1.3"),
        (lambda case: replace(case, report=replace(case.report, expedited=Null("no information"))), "C.1.7"),
        (lambda case: replace(case, report=replace(case.report, expedited=None)), "C.1.7"),
        (lambda case: replace(case, report=replace(case.report, local_criteria="30-day")), "FDA.C.1.7.1"),
        (lambda case: replace(case, report=replace(case.report, local_criteria=None)), "FDA.C.1.7.1"),
        (lambda case: replace(case, reporters=case.reporters[1:]), "C.2.r.5"),
        (lambda case: replace(case, study=replace(case.study, study_type="other study")), "C.5.4"),
        (lambda case: replace(case, study=None), "C.5.4"),
        (lambda case: replace(case, study=replace(case.study, ind_number="IND123456")), "FDA.C.5.5a"),
        (lambda case: replace(case, study=replace(case.study, ind_number=None)), "FDA.C.5.5a"),
        (lambda case: replace(case, reactions=(), drugs=()), "E.i"),
        (lambda case: replace(case, reactions=tuple(replace(r, term=None) for r in case.reactions)), "E.i.2.1b"),
        (
            lambda case: replace(case, reactions=tuple(replace(r, required_intervention=True) for r in case.reactions)),
            "FDA.E.i.3.2h",
        ),
        (lambda case: replace(case, drugs=(*case.drugs, replace(case.drugs[1], role="not administered"))), "G.k.1"),
        (lambda case: replace(case, drugs=(replace(case.drugs[0], role="concomitant"),)), "G.k.9.i.2.r.3"),
        (lambda case: replace(case, drugs=case.drugs[1:]), "G.k.9.i.2.r.3"),
        (
            lambda case: replace(
                case,
                drugs=(replace(case.drugs[0], relations=(Relation(1, (Assessment("Sponsor", "WHO", "Suspected"),)),)),),
            ),
            "G.k.9.i.2.r.3",
        ),
    ],
    ids=[
        "spontaneous",
        "expedited not told",
        "expedited missing",
        "30-day",
        "no criteria",
        "no primary source",
        "other study",
        "no study",
        "prefixed IND number",
        "no IND number",
        "no reaction",
        "reaction not coded",
        "required intervention",
        "drug not administered",
        "no suspect drug",
        "only a concomitant drug",
        "assessed by another method",
    ],
)
def test_what_only_a_person_can_add_is_refused(change: Callable[[Case], Case], number: str) -> None:
    assert ind_shortfalls(ind_case()) == ()
    case = change(ind_case())
    assert any(each.split()[0] == number for each in ind_shortfalls(case))
    with pytest.raises(TrialOpsError) as error:
        ind_report(case, SETTINGS, STAMP)
    assert number in error.value.where


def test_a_report_that_is_not_expedited_needs_no_deadline() -> None:
    case = ind_case()
    case = replace(case, report=replace(case.report, expedited=False, local_criteria="non-expedited"))
    assert ind_shortfalls(case) == ()


def test_a_message_that_does_not_say_what_the_case_says_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: Any, **keywords: Any) -> bytes:
        return write_batch(*arguments, **keywords).replace(b'code="5" codeSystem', b'code="1" codeSystem')

    monkeypatch.setattr("trialops.safety.e2b.reports.write_batch", forgetful)
    with pytest.raises(TrialOpsError, match="does not say") as error:
        ind_report(ind_case(), SETTINGS, STAMP)
    assert "E.i.7" in error.value.where


def test_cber_has_its_own_receiver() -> None:
    report = ind_report(ind_case(), ReportSettings("1", FDA_IND_CBER), STAMP)
    assert read_values(parse(report.document)).first("N.2.r.3") == "CBER_IND"


def test_the_eu_gets_plain_ich_elements_and_the_entry_says_that_it_is_not_verified() -> None:
    report = eu_report(ind_case(), ReportSettings("SPONSOR", EV_CTM), STAMP)
    values = read_values(parse(report.document))
    assert (values.first("N.1.4"), values.first("N.2.r.3")) == ("EVHUMAN", "EVCTMPROD")
    assert not [number for number in values if number.startswith("FDA.")]
    assert destination(EV_CTM).verified == ""
    assert destination(FDA_IND_CDER).verified


def test_a_report_goes_only_where_it_belongs() -> None:
    with pytest.raises(TrialOpsError, match="goes to FDA"):
        ind_report(ind_case(), ReportSettings("1", EV_CTM), STAMP)
    with pytest.raises(TrialOpsError, match="goes to the EU"):
        eu_report(ind_case(), SETTINGS, STAMP)
    with pytest.raises(TrialOpsError, match="no destination"):
        ind_report(ind_case(), ReportSettings("1", "mars"), STAMP)
