"""Columns of the SDTM data sets: names, lengths and labels (SDTMIG 3.3)."""

from __future__ import annotations

from trialops.intake.xport import Column


def _table(text: str) -> tuple[Column, ...]:
    """Parse lines "NAME length label"; length 0 means a number."""
    columns = []
    for line in filter(None, text.splitlines()):
        name, length, label = line.split(maxsplit=2)
        columns.append(Column(name, "char" if int(length) else "num", int(length) or 8, label.strip()))
    return tuple(columns)


_KEYS = """
STUDYID 12 Study Identifier
DOMAIN 2 Domain Abbreviation
USUBJID 18 Unique Subject Identifier
"""
_VISIT = """
VISITNUM 0 Visit Number
VISIT 17 Visit Name
VISITDY 0 Planned Study Day of Visit
"""

LABELS = {
    "DM": "Demographics",
    "AE": "Adverse Events",
    "DS": "Disposition",
    "EX": "Exposure",
    "LB": "Laboratory Test Results",
    "VS": "Vital Signs",
    "CM": "Concomitant Medications",
    "MH": "Medical History",
    "SV": "Subject Visits",
    "SUPPDM": "Supplemental Qualifiers for DM",
}

COLUMNS = {
    "DM": _table(
        _KEYS
        + """
SUBJID 6 Subject Identifier for the Study
RFSTDTC 10 Subject Reference Start Date/Time
RFENDTC 10 Subject Reference End Date/Time
RFXSTDTC 10 Date/Time of First Study Treatment
RFXENDTC 10 Date/Time of Last Study Treatment
RFICDTC 10 Date/Time of Informed Consent
RFPENDTC 10 Date/Time of End of Participation
DTHDTC 10 Date/Time of Death
DTHFL 1 Subject Death Flag
SITEID 4 Study Site Identifier
BRTHDTC 10 Date/Time of Birth
AGE 0 Age
AGEU 5 Age Units
SEX 1 Sex
RACE 32 Race
ETHNIC 22 Ethnicity
ARMCD 8 Planned Arm Code
ARM 20 Description of Planned Arm
ACTARMCD 8 Actual Arm Code
ACTARM 20 Description of Actual Arm
COUNTRY 3 Country
DMDTC 10 Date/Time of Collection
DMDY 0 Study Day of Collection
ARMNRS 14 Reason Arm and/or Actual Arm is Null
"""
    ),
    "AE": _table(
        _KEYS
        + """
AESEQ 0 Sequence Number
AESPID 3 Sponsor-Defined Identifier
AETERM 46 Reported Term for the Adverse Event
AEDECOD 46 Dictionary-Derived Term
AEBODSYS 67 Body System or Organ Class
AESOC 67 Primary System Organ Class
AESEV 8 Severity/Intensity
AESER 1 Serious Event
AEACN 16 Action Taken with Study Treatment
AEREL 8 Causality
AEOUT 26 Outcome of Adverse Event
AESCAN 1 Involves Cancer
AESCONG 1 Congenital Anomaly or Birth Defect
AESDISAB 1 Persist or Signif Disability/Incapacity
AESDTH 1 Results in Death
AESHOSP 1 Requires or Prolongs Hospitalization
AESLIFE 1 Is Life Threatening
AEDTC 10 Date/Time of Collection
AESTDTC 10 Start Date/Time of Adverse Event
AEENDTC 10 End Date/Time of Adverse Event
AESTDY 0 Study Day of Start of Adverse Event
AEENDY 0 Study Day of End of Adverse Event
"""
    ),
    "DS": _table(
        _KEYS
        + """
DSSEQ 0 Sequence Number
DSTERM 63 Reported Term for the Disposition Event
DSDECOD 27 Standardized Disposition Term
DSCAT 18 Category for Disposition Event
VISITNUM 0 Visit Number
VISIT 17 Visit Name
DSDTC 10 Date/Time of Collection
DSSTDTC 10 Start Date/Time of Disposition Event
DSSTDY 0 Study Day of Start of Disposition Event
"""
    ),
    "EX": _table(
        _KEYS
        + """
EXSEQ 0 Sequence Number
EXTRT 10 Name of Treatment
EXDOSE 0 Dose
EXDOSU 2 Dose Units
EXDOSFRM 5 Dose Form
EXDOSFRQ 2 Dosing Frequency per Interval
EXROUTE 11 Route of Administration
"""
        + _VISIT
        + """
EXSTDTC 10 Start Date/Time of Treatment
EXENDTC 10 End Date/Time of Treatment
EXSTDY 0 Study Day of Start of Treatment
EXENDY 0 Study Day of End of Treatment
"""
    ),
    "LB": _table(
        _KEYS
        + """
LBSEQ 0 Sequence Number
LBTESTCD 7 Lab Test or Examination Short Name
LBTEST 39 Lab Test or Examination Name
LBCAT 10 Category for Lab Test
LBORRES 8 Result or Finding in Original Units
LBORRESU 8 Original Units
LBORNRLO 5 Reference Range Lower Limit in Orig Unit
LBORNRHI 5 Reference Range Upper Limit in Orig Unit
LBSTRESC 8 Character Result/Finding in Std Format
LBSTRESN 0 Numeric Result/Finding in Standard Units
LBSTRESU 8 Standard Units
LBSTNRLO 0 Reference Range Lower Limit-Std Units
LBSTNRHI 0 Reference Range Upper Limit-Std Units
LBNRIND 8 Reference Range Indicator
LBBLFL 1 Baseline Flag
"""
        + _VISIT
        + """
LBDTC 16 Date/Time of Specimen Collection
LBDY 0 Study Day of Specimen Collection
"""
    ),
    "VS": _table(
        _KEYS
        + """
VSSEQ 0 Sequence Number
VSTESTCD 6 Vital Signs Test Short Name
VSTEST 24 Vital Signs Test Name
VSPOS 8 Vital Signs Position of Subject
VSORRES 8 Result or Finding in Original Units
VSORRESU 9 Original Units
VSSTRESC 8 Character Result/Finding in Std Format
VSSTRESN 0 Numeric Result/Finding in Standard Units
VSSTRESU 9 Standard Units
VSLOC 11 Location of Vital Signs Measurement
VSBLFL 1 Baseline Flag
"""
        + _VISIT
        + """
VSDTC 10 Date/Time of Measurements
VSDY 0 Study Day of Vital Signs
"""
    ),
    "CM": _table(
        _KEYS
        + """
CMSEQ 0 Sequence Number
CMTRT 44 Reported Name of Drug, Med, or Therapy
CMDECOD 24 Standardized Medication Name
CMINDC 46 Indication
CMCLAS 42 Medication Class
CMDOSE 0 Dose per Administration
CMDOSU 7 Dose Units
CMDOSFRQ 13 Dosing Frequency per Interval
CMROUTE 24 Route of Administration
"""
        + _VISIT
        + """
CMDTC 10 Date/Time of Collection
CMSTDTC 10 Start Date/Time of Medication
CMENDTC 10 End Date/Time of Medication
CMSTDY 0 Study Day of Start of Medication
CMENDY 0 Study Day of End of Medication
CMENRTPT 7 End Relative to Reference Time Point
"""
    ),
    "MH": _table(
        _KEYS
        + """
MHSEQ 0 Sequence Number
MHTERM 44 Reported Term for the Medical History
MHDECOD 44 Dictionary-Derived Term
MHCAT 34 Category for Medical History
MHBODSYS 67 Body System or Organ Class
"""
        + _VISIT
        + """
MHDTC 10 Date/Time of History Collection
MHSTDTC 10 Start Date/Time of Medical History Event
MHDY 0 Study Day of History Collection
"""
    ),
    "SV": _table(
        _KEYS
        + _VISIT
        + """
SVSTDTC 10 Start Date/Time of Visit
SVENDTC 10 End Date/Time of Visit
"""
    ),
    "SUPPDM": _table("""
STUDYID 12 Study Identifier
RDOMAIN 2 Related Domain Abbreviation
USUBJID 18 Unique Subject Identifier
IDVAR 8 Identifying Variable
IDVARVAL 8 Identifying Variable Value
QNAM 8 Qualifier Variable Name
QLABEL 40 Qualifier Variable Label
QVAL 1 Data Value
QORIG 7 Origin
QEVAL 22 Evaluator
"""),
}
