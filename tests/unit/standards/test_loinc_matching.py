"""LOINC: the core table, releases, matching on the axes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.standards.loinc import check_digit, core, read_release, term_of_name
from trialops.standards.loinc_match import LocalTest, LoincMatcher, properties_of
from trialops.standards.term_match import TermIndex, normalised

MATCHER = LoincMatcher()
HEAD = "LOINC_NUM,COMPONENT,PROPERTY,TIME_ASPCT,SYSTEM,SCALE_TYP,METHOD_TYP,LONG_COMMON_NAME,STATUS,COMMON_TEST_RANK\n"
ROWS = (
    '"2345-7",Glucose,MCnc,Pt,Ser/Plas,Qn,,"Glucose [Mass/volume] in Serum or Plasma",ACTIVE,4\n'
    '"14749-6",Glucose,SCnc,Pt,Ser/Plas,Qn,,"Glucose [Moles/volume] in Serum or Plasma",ACTIVE,40\n'
    '"2342-4",Glucose,MCnc,Pt,CSF,Qn,,"Glucose [Mass/volume] in Cerebral spinal fluid",ACTIVE,400\n'
    '"10449-7",Glucose^1H post meal,MCnc,Pt,Ser/Plas,Qn,,Glucose 1 hour post meal,DEPRECATED,0\n'
)


def first(name: str, unit: str = "", specimen: str = "", testcd: str = "", numeric: bool | None = None) -> str:
    return MATCHER.match(LocalTest(name, unit, specimen, testcd, numeric)).candidates[0].code


def test_core_table() -> None:
    terms = core().terms
    assert len(terms) > 200
    assert all(check_digit(term.code) and term.testcd and term.component for term in terms)
    assert len({term.code for term in terms}) == len(terms)
    text = (Path(check_digit.__code__.co_filename).parent / "loinc_core.tsv").read_text()
    assert "copyright" in text and "http://loinc.org/license" in text


@pytest.mark.parametrize(
    ("name", "unit", "specimen", "code"),
    [
        ("Glucose", "mg/dL", "serum", "2345-7"),
        ("Glucose", "mmol/L", "serum", "14749-6"),
        ("Glucose", "mg/dL", "blood", "2339-0"),
        ("Glucose", "", "urine", "25428-4"),
        ("GLUCOSE (FASTING)", "mg/dL", "plasma", "1558-6"),
        ("Haemoglobin", "g/dL", "blood", "718-7"),
        ("Hgb", "mmol/L", "blood", "59260-0"),
        ("HbA1c", "%", "blood", "4548-4"),
        ("HbA1c", "mmol/mol", "blood", "59261-8"),
        ("ALT (SGPT)", "U/L", "serum", "1742-6"),
        ("Serum creatinin", "umol/L", "serum", "14682-9"),
        ("White Blood Cell Count", "10^9/L", "blood", "6690-2"),
        ("Neutrophils", "%", "blood", "770-8"),
        ("Neutrophils", "GI/L", "blood", "751-8"),
        ("Platelet count", "THOU/uL", "blood", "777-3"),
        ("Free T4", "ng/dL", "serum", "3024-7"),
        ("Free T4", "pmol/L", "serum", "14920-3"),
        ("LDL cholesterol", "mg/dL", "serum", "2089-1"),
        ("Systolic BP", "mmHg", "patient", "8480-6"),
        ("Prothrombin Intl. Normalized Ratio", "", "coagulation", "6301-6"),
        ("Glomerular filtration rate/1.73 sq M.predicted", "mL/min/1.73m2", "serum", "98979-8"),
    ],
)
def test_first_candidate(name: str, unit: str, specimen: str, code: str) -> None:
    assert first(name, unit, specimen) == code


def test_unit_decides_between_mass_and_substance() -> None:
    ranked = MATCHER.match(LocalTest("Glucose", "mmol/L", "serum"))
    scores = {candidate.code: candidate.score for candidate in ranked.candidates}
    assert scores["14749-6"] > 0.9
    assert scores["2345-7"] <= 0.45
    against = next(c for c in ranked.candidates if c.code == "2345-7")
    assert any("contradicts the unit" in reason for reason in against.reasons)


def test_unknown_specimen_goes_to_a_person() -> None:
    assert "specimen is not known" in MATCHER.match(LocalTest("Sodium", "mmol/L")).doubt
    assert MATCHER.match(LocalTest("Sodium", "mmol/L", "serum")).doubt == ""


@pytest.mark.parametrize(
    ("name", "unit"), [("Xylophone level", "mg/dL"), ("", ""), ("zz", "mg/dL"), ("Glucose", "kg"), ("Sodium", "mm[Hg]")]
)
def test_nonsense_goes_to_a_person(name: str, unit: str) -> None:
    assert MATCHER.match(LocalTest(name, unit, "serum")).doubt


def test_test_code_helps_where_names_do_not() -> None:
    assert first("Prueba 17", "mg/dL", "CHEMISTRY", testcd="CREAT") == "2160-0"


@pytest.mark.parametrize(
    ("unit", "testcd", "wanted"),
    [
        ("mg/dL", "", "MCnc"),
        ("mmol/L", "", "SCnc"),
        ("mEq/L", "", "SCnc"),
        ("U/L", "ALT", "CCnc"),
        ("mU/L", "TSH", "ACnc"),
        ("THOU/uL", "", "NCnc"),
        ("fL", "", "EntMeanVol"),
        ("pH", "", "LsCnc"),
        ("mmol/mol", "", "SFr"),
        ("mm/h", "", "Vel"),
    ],
)
def test_properties(unit: str, testcd: str, wanted: str) -> None:
    assert wanted in properties_of(unit, testcd)
    assert properties_of("no such unit") == ()


def test_release_of_loinc_org(tmp_path: Path) -> None:
    (tmp_path / "Loinc.csv").write_text(HEAD + ROWS)
    release = read_release(tmp_path)
    assert [term.code for term in release.terms] == ["2345-7", "14749-6", "2342-4"]  # not the deprecated one
    matcher = LoincMatcher(release)
    ranked = matcher.match(LocalTest("Glucose", "mg/dL", "CSF"))
    assert ranked.candidates[0].code == "2342-4" and ranked.doubt == ""
    assert ranked.candidates[0].display == "Glucose [Mass/volume] in Cerebral spinal fluid"


def test_release_of_athena(tmp_path: Path) -> None:
    rows = [
        ("3004501", "Glucose [Mass/volume] in Serum or Plasma", "LOINC", "Lab Test", "2345-7", ""),
        ("3013826", "Glucose [Moles/volume] in Serum or Plasma", "LOINC", "Lab Test", "14749-6", ""),
        ("1", "Something invalid", "LOINC", "Lab Test", "1558-6", "D"),
        ("2", "Aspirin", "RxNorm", "Ingredient", "1191", ""),
    ]
    head = "concept_id\tconcept_name\tvocabulary_id\tconcept_class_id\tconcept_code\tinvalid_reason\n"
    (tmp_path / "CONCEPT.csv").write_text(head + "".join("\t".join(row) + "\n" for row in rows))
    release = read_release(tmp_path / "CONCEPT.csv")
    assert [(term.code, term.property, term.system) for term in release.terms] == [
        ("2345-7", "MCnc", "Ser/Plas"),
        ("14749-6", "SCnc", "Ser/Plas"),
    ]
    assert LoincMatcher(release).match(LocalTest("Glucose", "mmol/L", "serum")).candidates[0].code == "14749-6"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HEAD, "no active LOINC term"),
        ("LOINC_NUM,COMPONENT\n1,2\n", "lacks"),
        (HEAD + ROWS.replace("2345-7", "2345-8"), "wrong check digit"),
        ("", "cannot be read"),
        (HEAD + '"unclosed', "cannot be read|no active|wrong check digit"),
        ("\x00\x01\x02", "lacks|cannot be read"),
    ],
)
def test_malformed_releases(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "Loinc.csv"
    path.write_text(content)
    with pytest.raises(TrialOpsError, match=what):
        read_release(path)


def test_no_release(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="no LOINC table"):
        read_release(tmp_path)


def test_long_common_names_are_read() -> None:
    term = term_of_name("718-7", "Hemoglobin [Mass/volume] in Blood by Automated count")
    assert (term.component, term.property, term.system, term.method) == ("Hemoglobin", "MCnc", "Bld", "Automated count")
    assert term_of_name("8302-2", "Body height").component == "Body height"


@pytest.mark.parametrize(("code", "right"), [("2345-7", True), ("2345-6", False), ("x", False), ("", False)])
def test_check_digit(code: str, right: bool) -> None:
    assert check_digit(code) is right


def test_term_index() -> None:
    index = TermIndex(["Heart failure", "Failure, heart", "Renal failure", "Céphalée", "Nausea"])
    assert [m.index for m in index.search("HEART FAILURE")][:2] == [0, 1]
    assert index.search("heart failure")[0].how == "exact" and index.search("heart failure")[1].how == "same words"
    assert index.search("cephalee")[0].index == 3
    assert index.search("nausia")[0].index == 4 and index.search("nausia")[0].score < 0.98
    assert index.search("") == [] and index.search("!!") == []
    assert [m.index for m in index.search("failure", allowed=[2])] == [2]


@given(st.text(max_size=30))
def test_scores_are_shares(text: str) -> None:
    index = TermIndex(["Heart failure", "Renal failure", "Nausea"])
    assert all(0.0 <= match.score <= 1.0 for match in index.search(text))
    assert normalised(normalised(text)) == normalised(text)
