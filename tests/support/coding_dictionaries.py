"""Invented dictionaries in the formats of MedDRA and WHODrug; their terms and codes are ours."""

from __future__ import annotations

from pathlib import Path

LLT = [
    # code, name, preferred, current
    ("90000001", "Headache", "80000001", "Y"),
    ("90000002", "Head pain", "80000001", "Y"),
    ("90000003", "Cephalgia old", "80000001", "N"),
    ("90000004", "Nausea", "80000002", "Y"),
    ("90000005", "Queasy feeling", "80000002", "Y"),
    ("90000006", "Skin redness", "80000003", "Y"),
    ("90000007", "Redness of skin", "80000004", "Y"),
]
PT = [
    ("80000001", "Headache"),
    ("80000002", "Nausea"),
    ("80000003", "Erythema"),
    ("80000004", "Flushing"),
]
DRUGS = "code,name,preferred_code,preferred_name\nD1,Aspirin,D0,Acetylsalicylic acid\nD2,Paracetamol,D2,Paracetamol\n"


def write_meddra(folder: Path) -> Path:
    """llt.asc, pt.asc and mdhier.asc in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{code}${name}${pt}$$$$$$${current}$$" for code, name, pt, current in LLT]
    (folder / "llt.asc").write_text("\n".join(lines) + "\n", "latin-1")
    (folder / "pt.asc").write_text("".join(f"{code}${name}$$70000001$$$$$$$$\n" for code, name in PT), "latin-1")
    hierarchy = [f"{code}$6$5$4${name}$High level$Group$Class$Cls$$4$Y$\n" for code, name in PT]
    (folder / "mdhier.asc").write_text("".join(hierarchy), "latin-1")
    return folder


def write_dictionaries(folder: Path) -> Path:
    """A vocabulary folder with MedDRA below it and a medication list."""
    write_meddra(folder / "meddra")
    (folder / "whodrug.csv").write_text(DRUGS)
    return folder
