"""How often the first LOINC candidate is right: the pilot's tests, and Synthea's displays with synthesized noise."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyreadstat
import pytest

from tests.support.noisy_names import noisy
from trialops.standards.loinc import core
from trialops.standards.loinc_match import LocalTest, LoincMatcher

VARIANTS = 20
WORDS = {
    "Bld": "whole blood",
    "RBC": "whole blood",
    "Ser/Plas": "serum or plasma",
    "Ser": "serum",
    "BldA": "arterial blood",
}
# The pilot's tests are coded by a person once: LBTESTCD -> LOINC code by name, unit and category.
PILOT = {
    "ALB": "1751-7", "ALP": "6768-6", "ALT": "1742-6", "ANISO": "702-1", "AST": "1920-8", "BASO": "704-7",
    "BASOLE": "706-2", "BILI": "1975-2", "BUN": "3094-0", "CA": "17861-6", "CHOL": "2093-3", "CK": "2157-6",
    "CL": "2075-0", "COLOR": "5778-6", "CREAT": "2160-0", "EOS": "711-2", "EOSLE": "713-8", "GGT": "2324-2",
    "GLUC": "2345-7", "HBA1C": "4548-4", "HCT": "4544-3", "HGB": "718-7", "K": "2823-3", "KETONES": "2514-8",
    "LYM": "731-0", "LYMLE": "736-9", "MACROCY": "738-5", "MCH": "785-6", "MCHC": "786-4", "MCV": "787-2",
    "MICROCY": "741-9", "MONO": "742-7", "MONOLE": "5905-5", "PH": "5803-2", "PHOS": "2777-1", "PLAT": "777-3",
    "POIKILO": "779-9", "POLYCHR": "10378-8", "PROT": "2885-2", "RBC": "789-8", "SODIUM": "2951-2",
    "SPGRAV": "5811-5", "TSH": "3016-3", "URATE": "3084-1", "UROBIL": "13658-0", "VITB12": "2132-9", "WBC": "6690-2",
}  # fmt: skip


@pytest.fixture(scope="module")
def matcher() -> LoincMatcher:
    return LoincMatcher()


def test_pilot_tests(anchors: Path, matcher: LoincMatcher) -> None:
    labs, _ = pyreadstat.read_xport(str(anchors / "cdiscpilot01" / "sdtm" / "lb.xpt"), output_format="polars")
    tests = labs.select("LBTESTCD", "LBTEST", "LBCAT", "LBORRESU").unique().sort("LBTESTCD").iter_rows()
    right = taken = 0
    for testcd, name, category, unit in tests:
        ranked = matcher.match(LocalTest(name, unit, category, numeric=True))  # without the test code
        right += ranked.candidates[0].code == PILOT[testcd]
        taken += not ranked.doubt and ranked.candidates[0].code == PILOT[testcd]
        assert ranked.doubt or ranked.candidates[0].code == PILOT[testcd], testcd
    print(f"pilot: {right} of {len(PILOT)} first candidates right, {taken} taken without a person")
    assert right == taken == 47


def displays(folder: Path) -> list[tuple[str, str, str]]:
    """Code, display and unit of every measured LOINC code in the bundles that the core table has."""
    known = {term.code for term in core().terms}
    found = set()
    for path in sorted((folder / "fhir-r4" / "bundles").iterdir()):
        for entry in json.loads(path.read_text())["entry"]:
            resource = entry["resource"]
            if resource["resourceType"] != "Observation":
                continue
            for part in [resource, *resource.get("component", [])]:
                coding = part["code"]["coding"][0]
                if "valueQuantity" in part and coding["code"] in known:
                    found.add((coding["code"], coding["display"], part["valueQuantity"].get("code", "")))
    return sorted(found)


@pytest.mark.parametrize(("told", "least"), [(True, 0.90), (False, 0.70)])
def test_synthea_displays_with_noise(anchors: Path, matcher: LoincMatcher, told: bool, least: float) -> None:
    """With the specimen said, and without; what is taken without a person must be right either way."""
    rng = random.Random(20_140_101)
    cases = displays(anchors)
    assert len(cases) == 41
    systems = {term.code: term.system for term in core().terms}
    total = first = among = taken = 0
    wrong: list[tuple[str, str]] = []
    for code, display, unit in cases:
        specimen = WORDS.get(systems[code], "patient") if told else ""
        for _ in range(VARIANTS):
            ranked = matcher.match(LocalTest(noisy(display, rng), unit, specimen))
            codes = [candidate.code for candidate in ranked.candidates]
            total += 1
            first += codes[:1] == [code]
            among += code in codes
            taken += not ranked.doubt
            wrong += [(code, codes[0])] if not ranked.doubt and codes[0] != code else []
    shares = [f"{n / total:.3f}" for n in (first, among, taken, len(wrong))]
    print(f"specimen told {told}: {total} names; first right, among five, taken alone, taken wrongly: {shares}")
    assert first / total >= least
    assert among / total >= 0.99
    # The display names no method and the code has one: the term without a method is less specific, not wrong.
    assert set(wrong) <= {("18262-6", "2089-1")}
    assert len(wrong) / total <= 0.03
