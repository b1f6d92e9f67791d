"""FHIR R4 resources that are made by the thousand, as JSON text with <COLUMN> marks."""

from __future__ import annotations

from trialops.synthetic.protocol import STUDY

BASE = "https://trialops.example/fhir"
TERMS = "http://terminology.hl7.org/CodeSystem"


def coding(system: str, code: str) -> str:
    """JSON of a Coding."""
    return f'{{"system":"{system}","code":"{code}"}}'


OBSERVATION = (
    '{"resourceType":"Observation","id":"<ID>",<META>"status":"<STATUS>","category":[{"coding":['
    + coding(f"{TERMS}/observation-category", "<CATEGORY>")
    + ']}],"code":{"coding":[{"system":"http://loinc.org","code":"<LOINC>","display":"<NAME>"}],"text":"<CODE>"},'
    '"subject":{"reference":"Patient/<P>"},"encounter":{"reference":"Encounter/<P>-visit-<V>"},'
    '"effectiveDateTime":"<WHEN>","valueQuantity":{"value":<VALUE>,"unit":"<UNIT>",'
    '"system":"http://unitsofmeasure.org","code":"<UCUM>"}<MORE>}'
)
LAB_MORE = (
    ',"interpretation":[{"coding":[' + coding(f"{TERMS}/v3-ObservationInterpretation", "<FLAG>") + "]}],"
    '"referenceRange":[{"low":{"value":<LBORNRLO>,"unit":"<UNIT>"},"high":{"value":<LBORNRHI>,"unit":"<UNIT>"}}]'
)
ENCOUNTER = (
    '{"resourceType":"Encounter","id":"<ID>","status":"finished","class":'
    + coding(f"{TERMS}/v3-ActCode", "AMB")
    + ',"type":[{"text":"<VISIT>"}],"subject":{"reference":"Patient/<P>"},'
    '"period":{"start":"<SVSTDTC>","end":"<SVENDTC>"},"serviceProvider":{"reference":"Organization/site-<SITE>"}}'
)
EVENT = (
    '{"resourceType":"AdverseEvent","id":"<ID>",<META>"actuality":"actual","event":{"text":"<AEDECOD>"},'
    '"subject":{"reference":"Patient/<P>"},"date":"<AESTDTC>","detected":"<AESTDTC>","recordedDate":"<AEDTC>",'
    '"seriousness":{"coding":[' + coding(f"{TERMS}/adverse-event-seriousness", "<SERIOUS>") + "]},"
    '"severity":{"coding":[' + coding(f"{TERMS}/adverse-event-severity", "<SEVERITY>") + "]},"
    '"outcome":{"coding":[' + coding(f"{TERMS}/adverse-event-outcome", "<OUTCOME>") + "]},"
    f'"study":[{{"reference":"ResearchStudy/{STUDY}"}}]}}'
)
ADMINISTRATION = (
    '{"resourceType":"MedicationAdministration","id":"<ID>","status":"completed",'
    '"medicationCodeableConcept":{"text":"TRX-101 or placebo, transdermal patch (blinded)"},'
    '"subject":{"reference":"Patient/<P>"},"effectivePeriod":{"start":"<EXSTDTC>","end":"<EXENDTC>"},'
    '"dosage":{"text":"one patch daily","route":{"text":"transdermal"}}}'
)
CONDITION = (
    '{"resourceType":"Condition","id":"<ID>","clinicalStatus":{"coding":['
    + coding(f"{TERMS}/condition-clinical", "<CLINICAL>")
    + ']},"verificationStatus":{"coding":['
    + coding(f"{TERMS}/condition-ver-status", "confirmed")
    + ']},"code":{"coding":[{"system":'
    '"http://hl7.org/fhir/sid/icd-10-cm","code":"<ICD10>"}],"text":"<MHDECOD>"},'
    '"subject":{"reference":"Patient/<P>"},"onsetDateTime":"<MHSTDTC>","recordedDate":"<MHDTC>"}'
)
