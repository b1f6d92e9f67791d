from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from trialops.errors import TrialOpsError
from trialops.features.definition_file import load
from trialops.features.definitions import SHIPPED, check_blinded
from trialops.models.task import load_task


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(SHIPPED.read_text())
    change(content)
    path = tmp_path / "definitions.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_shipped_definitions_hold_the_features_of_the_shipped_task() -> None:
    definitions, task = load(), load_task()
    assert set(task.features) <= set(definitions.features)
    assert len(set(definitions.features)) == len(definitions.features)
    assert len(definitions.views["labs"].tests) >= 14
    assert "labs_last_day" not in definitions.features and "days_since_labs" in definitions.features


def test_shipped_definitions_are_blinded() -> None:
    check_blinded(load(), SimpleNamespace(blinded=True))


@pytest.mark.parametrize("column", ["EXDOSE", "EXTRT"])
def test_a_feature_from_the_dose_is_refused_by_name(tmp_path: Path, column: str) -> None:
    def dose(content: dict) -> None:
        content["views"]["conduct"]["features"]["regimens"] = {
            "table": "EX",
            "measure": "distinct",
            "columns": [column],
        }

    definitions = load(changed(tmp_path, dose))
    with pytest.raises(TrialOpsError, match=f"regimens is made from {column}"):
        check_blinded(definitions, SimpleNamespace(blinded=True))
    check_blinded(definitions, SimpleNamespace(blinded=False))


def test_arm_is_refused_wherever_it_hides(tmp_path: Path) -> None:
    def arm(content: dict) -> None:
        features = content["views"]["demographics"]["features"]
        features["on_active"] = {
            "column": "ACTARM",
            "as": "indicator",
            "value": "A",
            "known": ["A", "B"],
            "unit": "1",
        }

    with pytest.raises(TrialOpsError, match="on_active is made from ACTARM"):
        check_blinded(load(changed(tmp_path, arm)), SimpleNamespace(blinded=True))

    def filtered(content: dict) -> None:
        content["views"]["events"]["features"]["ae_count"]["where"] = {"ARMCD": ["A"]}

    with pytest.raises(TrialOpsError, match="ae_count is made from ARMCD"):
        check_blinded(load(changed(tmp_path, filtered)), SimpleNamespace(blinded=True))


def test_an_unblinded_argument_is_found_through_a_score(tmp_path: Path) -> None:
    def through(content: dict) -> None:
        content["views"]["demographics"]["features"]["age"]["column"] = "EXDOSE"

    sources = load(changed(tmp_path, through)).sources()
    assert "EXDOSE" in sources["egfr"] and "EXDOSE" not in sources["alt"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["views"]["labs"]["tests"]["creatinine"].update(units=["mg/dL"]),
            "creatinine in umol/L, not mg/dL",
        ),
        (lambda c: c["views"]["vitals"]["tests"]["weight"].update(units=["LB"]), "weight in kg, not LB"),
        (
            lambda c: c["views"]["labs"]["tests"].update(pulse={"code": "X", "units": ["U"], "statistics": ["last"]}),
            "twice",
        ),
        (lambda c: c["ages"].update(days_since_x="nothing"), "name of its own"),
        (lambda c: c["views"]["events"]["features"]["ae_count"].update(measure="sum"), "allowed words"),
        (lambda c: c["views"]["events"]["features"]["ae_count"].update(tabel="AE"), "not known"),
        (
            lambda c: c["views"]["vitals"]["tests"]["pulse"].update(statistics=["uln_ratio"]),
            "cannot be computed",
        ),
        (lambda c: c["views"]["events"]["features"]["ae_count"].update(known="later"), "allowed words"),
        (lambda c: c["views"]["conduct"]["features"]["visits_attended"].update(known="at_end"), "SV has no end"),
        (lambda c: c["views"]["events"]["features"]["ae_ongoing"].update(column="AEDUR"), "not the end of AE"),
        (lambda c: c["tables"]["AE"].update(contact="XX"), "Visits make an end known"),
        (lambda c: c["tables"]["CM"].update(contact="SV"), "Visits make an end known"),
        (
            lambda c: c["views"]["labs"]["scores"]["egfr"]["arguments"].update(age="demographics.years"),
            "a score can use",
        ),
    ],
)
def test_bad_definitions_are_refused(tmp_path: Path, change, says: str) -> None:
    with pytest.raises(TrialOpsError, match=says):
        load(changed(tmp_path, change))
