"""Laboratory analytes and vital signs: names, codes, units, ranges, variation.

US units are those in which the laboratory reports; SI values follow from the molar mass. Within- and
between-subject variation are coefficients of variation near those of the EFLM biological variation database.
"""

from __future__ import annotations

from dataclasses import dataclass

#: US unit as written in SDTM -> UCUM code.
UCUM = {
    "U/L": "U/L",
    "mg/dL": "mg/dL",
    "g/dL": "g/dL",
    "mEq/L": "meq/L",
    "THOU/uL": "10*3/uL",
    "mmHg": "mm[Hg]",
    "BEATS/MIN": "/min",
    "F": "[degF]",
    "LB": "[lb_av]",
    "IN": "[in_i]",
}


@dataclass(frozen=True)
class Analyte:
    """A laboratory test.

    Attributes:
        code, name, category: LBTESTCD, LBTEST, LBCAT.
        loinc: LOINC code of the test in the US unit.
        unit, si_unit: LBORRESU, LBSTRESU.
        molar_mass: g/mol, for mg/dL or g/dL to mmol/L or umol/L; 0 where the units differ by a power of ten.
        power: Factor from US to SI unit when there is no molar mass.
        decimals: Decimals reported in the US unit.
        low, high: Reference range of women, in the US unit.
        male: Reference range of men, if it differs.
        centre: Median of women of 75.
        between, within: Coefficients of variation.
        men, decade: Multipliers of the median for men and per 10 years of age.
        drug: Change of the log value in each arm at full effect.
    """

    code: str
    name: str
    category: str
    loinc: str
    unit: str
    si_unit: str
    molar_mass: float
    power: float
    decimals: int
    low: float
    high: float
    centre: float
    between: float
    within: float
    male: tuple[float, float] | None = None
    men: float = 1.0
    decade: float = 1.0
    drug: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def factor(self) -> float:
        """SI value = US value x factor."""
        if not self.molar_mass:
            return self.power
        grams_per_litre = {"mg/dL": 0.01, "g/dL": 10.0}[self.unit]
        return grams_per_litre / self.molar_mass * {"mmol/L": 1e3, "umol/L": 1e6}[self.si_unit]

    def limits(self, female: bool) -> tuple[float, float]:
        """Reference range in the US unit."""
        return (self.low, self.high) if female or self.male is None else self.male


CHEM, HEMA = "CHEMISTRY", "HEMATOLOGY"

# BUN is reported as nitrogen (N2, 28.014 g/mol); haemoglobin in mmol/L is per iron atom (16114.5 g/mol).
# fmt: off
ANALYTES = (
    Analyte("ALB", "Albumin", CHEM, "1751-7", "g/dL", "g/L", 0, 10, 1, 3.3, 4.9, 4.1, 0.05, 0.032,
        decade=0.98),
    Analyte("ALP", "Alkaline Phosphatase", CHEM, "6768-6", "U/L", "U/L", 0, 1, 0, 35, 115, 72, 0.24, 0.06),
    Analyte("ALT", "Alanine Aminotransferase", CHEM, "1742-6", "U/L", "U/L", 0, 1, 0, 6, 34, 17, 0.30, 0.11,
            male=(6, 43), men=1.22, decade=0.94),
    Analyte("AST", "Aspartate Aminotransferase", CHEM, "1920-8", "U/L", "U/L", 0, 1, 0, 9, 34, 21, 0.22, 0.10,
            male=(11, 36), men=1.08),
    Analyte("BILI", "Bilirubin", CHEM, "1975-2", "mg/dL", "umol/L", 584.66, 0, 1, 0.2, 1.2, 0.5, 0.30, 0.17,
        men=1.15),
    Analyte("BUN", "Blood Urea Nitrogen", CHEM, "3094-0", "mg/dL", "mmol/L", 28.014, 0, 0, 4, 24, 15, 0.22,
        0.13,
            decade=1.07),
    Analyte("CA", "Calcium", CHEM, "17861-6", "mg/dL", "mmol/L", 40.078, 0, 1, 8.4, 10.3, 9.3, 0.03, 0.019),
    Analyte("CHOL", "Cholesterol", CHEM, "2093-3", "mg/dL", "mmol/L", 386.65, 0, 0, 156, 300, 212, 0.15, 0.06,
            men=0.92),
    Analyte("CREAT", "Creatinine", CHEM, "2160-0", "mg/dL", "umol/L", 113.12, 0, 1, 0.7, 1.4, 0.9, 0.15, 0.05,
            male=(0.8, 1.5), men=1.25, decade=1.04),
    Analyte("GGT", "Gamma Glutamyl Transferase", CHEM, "2324-2", "U/L", "U/L", 0, 1, 0, 5, 50, 18, 0.42, 0.10,
            male=(9, 61), men=1.25),
    Analyte("GLUC", "Glucose", CHEM, "2345-7", "mg/dL", "mmol/L", 180.156, 0, 0, 50, 250, 98, 0.17, 0.09),
    Analyte("HGB", "Hemoglobin", HEMA, "718-7", "g/dL", "mmol/L", 16114.5, 0, 1, 11.5, 15.8, 13.4, 0.06,
        0.027,
            male=(12.7, 17.2), men=1.09, decade=0.985, drug=(0.0, -0.01, -0.015)),
    Analyte("K", "Potassium", CHEM, "2823-3", "mEq/L", "mmol/L", 0, 1, 1, 3.4, 5.4, 4.3, 0.055, 0.042),
    Analyte("PLAT", "Platelet", HEMA, "777-3", "THOU/uL", "GI/L", 0, 1, 0, 130, 394, 238, 0.20, 0.07,
        men=0.93),
    Analyte("SODIUM", "Sodium", CHEM, "2951-2", "mEq/L", "mmol/L", 0, 1, 0, 135, 145, 140.3, 0.010, 0.008),
    Analyte("WBC", "Leukocytes", HEMA, "6690-2", "THOU/uL", "GI/L", 0, 1, 2, 3.8, 10.7, 6.3, 0.21, 0.11),
)
# fmt: on


@dataclass(frozen=True)
class Vital:
    """A vital sign: SDTM names, LOINC, units, decimals in the original and the standard unit."""

    code: str
    name: str
    loinc: str
    unit: str
    si_unit: str
    decimals: int
    si_decimals: int
    position: str = ""
    location: str = ""

    def standard(self, value: float) -> float:
        """Value in the standard unit (mmHg, beats/min, C, kg, cm)."""
        if self.unit == "F":
            value = (value - 32) / 1.8
        elif self.unit == "LB":
            value = value * 0.45359237
        elif self.unit == "IN":
            value = value * 2.54
        return round(value, self.si_decimals)


VITALS = (
    Vital("DIABP", "Diastolic Blood Pressure", "8462-4", "mmHg", "mmHg", 0, 0, "SUPINE"),
    Vital("HEIGHT", "Height", "8302-2", "IN", "cm", 1, 2),
    Vital("PULSE", "Pulse Rate", "8867-4", "BEATS/MIN", "BEATS/MIN", 0, 0, "SUPINE"),
    Vital("SYSBP", "Systolic Blood Pressure", "8480-6", "mmHg", "mmHg", 0, 0, "SUPINE"),
    Vital("TEMP", "Temperature", "8310-5", "F", "C", 1, 2, location="ORAL CAVITY"),
    Vital("WEIGHT", "Weight", "29463-7", "LB", "kg", 1, 2),
)
