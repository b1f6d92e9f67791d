"""Loading a vocabulary download: checked, kept once, and refused when it is damaged."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.support.athena import VERSION, Athena
from trialops.errors import TrialOpsError
from trialops.standards import vocabulary


def athena() -> Athena:
    made = Athena()
    made.concept("LOINC", "1-8", "First", "Measurement")
    made.relate(
        made.concept("ICD10CM", "A00", "Cholera", "Condition", standard=False),
        "Maps to",
        made.concept("SNOMED", "63650001", "Cholera", "Condition"),
    )
    made.relate(
        made.concept("ICD10CM", "Z80", "Family history", "Observation", standard=False),
        "Maps to value",
        made.concept("SNOMED", "363346000", "Cancer", "Condition"),
    )
    return made


def test_load_and_resolve(tmp_path: Path) -> None:
    said: list[str] = []
    words = vocabulary.load(
        athena().write(tmp_path / "in"), tmp_path / "store", progress=lambda text, _: said.append(text)
    )
    assert words.version == VERSION
    assert "reading CONCEPT.csv" in said
    codes = pl.DataFrame(
        {"vocabulary_id": ["ICD10CM", "LOINC", "ICD10CM", "ICD10CM"], "concept_code": ["A00", "1-8", "Z80", "none"]}
    )
    found = {row["concept_code"]: row for row in words.resolve(codes).iter_rows(named=True)}
    assert found["A00"]["domain_id"] == "Condition"
    assert found["A00"]["concept_id"] not in (0, found["A00"]["source_concept_id"])
    assert found["1-8"]["concept_id"] == found["1-8"]["source_concept_id"]
    assert (found["Z80"]["concept_id"], found["Z80"]["value_concept_id"] is not None) == (0, True)
    assert (found["none"]["concept_id"], found["none"]["source_concept_id"]) == (0, 0)


def test_the_same_download_is_read_once(tmp_path: Path) -> None:
    source = athena().write(tmp_path / "in")
    first = vocabulary.load(source, tmp_path / "store")
    said: list[str] = []
    again = vocabulary.load(source, tmp_path / "store", progress=lambda text, _: said.append(text))
    assert (again, said) == (first, [])
    assert vocabulary.open_vocabulary(tmp_path / "store" / first.digest[:16]) == first
    changed = athena()
    changed.concept("LOINC", "2-6", "Second", "Measurement")
    assert vocabulary.load(changed.write(tmp_path / "other"), tmp_path / "store").digest != first.digest


def test_the_built_in_concepts_give_way_to_the_download(tmp_path: Path) -> None:
    made = athena()
    made.rows["concept"].append({**made.rows["concept"][0], "concept_id": 8507, "concept_name": "Male, from Athena"})
    words = vocabulary.load(made.write(tmp_path / "in"), tmp_path / "store")
    names = dict(words.concepts(pl.Series([8507, 8532])).select("concept_id", "concept_name").iter_rows())
    assert names == {8507: "Male, from Athena", 8532: "FEMALE"}


def test_related_tables_hold_every_key() -> None:
    made = vocabulary.none().related(pl.Series([8507, 8840]))
    concepts = made["concept"]
    assert set(concepts["concept_id"]) == {0, 8507, 8840}
    for name in ("domain", "vocabulary", "concept_class"):
        assert set(concepts[f"{name}_id"]) == set(made[name][f"{name}_id"])
        assert set(made[name][f"{name}_concept_id"]) <= set(concepts["concept_id"])


def _drop_file(folder: Path) -> None:
    (folder / "CONCEPT_ANCESTOR.csv").unlink()


def _commas(folder: Path) -> None:
    path = folder / "CONCEPT.csv"
    path.write_text(path.read_text().replace("\t", ","))


def _bad_date(folder: Path) -> None:
    path = folder / "CONCEPT.csv"
    path.write_text(path.read_text().replace("19700101", "1970-13-01", 1))


def _twice(folder: Path) -> None:
    path = folder / "CONCEPT.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")


def _mixed(folder: Path) -> None:
    path = folder / "CONCEPT.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    relations = folder / "CONCEPT_RELATIONSHIP.csv"
    relations.write_text(relations.read_text().replace("Maps to value", "Maps to"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_file, "lacks CONCEPT_ANCESTOR.csv"),
        (_commas, "lacks the columns"),
        (_bad_date, "1 rows have no usable valid_start_date"),
        (_twice, "2 rows share their concept_id"),
        (_mixed, "'Maps to' relations lead to concepts that are not in CONCEPT.csv"),
    ],
)
def test_a_damaged_download_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    folder = athena().write(tmp_path / "in")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(TrialOpsError, match=message):
        vocabulary.load(folder, tmp_path / "store")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="lacks CONCEPT.csv"):
        vocabulary.load(tmp_path / "nowhere", tmp_path)
    with pytest.raises(TrialOpsError, match="no loaded vocabulary"):
        vocabulary.open_vocabulary(tmp_path)
