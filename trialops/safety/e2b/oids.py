"""OIDs and fixed codes of an E2B(R3) message, by name. Source: the table of elements and FDA's scenarios."""

from __future__ import annotations

_ICH = "2.16.840.1.113883.3.989.2.1"
_FDA = "2.16.840.1.113883.3.989.5.1.2"

INTERACTION = "2.16.840.1.113883.1.6"
TRIGGER = "2.16.840.1.113883.1.18"
ACT_CODE = "2.16.840.1.113883.5.4"
ROLE_CODE = "2.16.840.1.113883.5.111"
INTERPRETATION = "2.16.840.1.113883.5.83"
MEDDRA = "2.16.840.1.113883.6.163"
NDC = "2.16.840.1.113883.6.69"
UNII = "2.16.840.1.113883.4.9"
NCI = "2.16.840.1.113883.3.26.1.1"
COUNTRY = "1.0.3166.1.2.2"
SEX = "1.0.5218"
EDQM_FORM = "0.4.0.127.0.16.1.1.2.1"
EDQM_ROUTE = "0.4.0.127.0.16.1.1.2.6"
# The ICH guide has no OID for PhPID yet and writes this place-holder.
PHPID = "TBD-PhPID"

MESSAGE_TYPE = f"{_ICH}.1.1"
REPORT_TYPE = f"{_ICH}.1.2"
FIRST_SENDER = f"{_ICH}.1.3"
RECORD_SOURCE = f"{_ICH}.1.4"
AMENDMENT = f"{_ICH}.1.5"
QUALIFICATION = f"{_ICH}.1.6"
SENDER_TYPE = f"{_ICH}.1.7"
STUDY_TYPE = f"{_ICH}.1.8"
AGE_GROUP = f"{_ICH}.1.9"
HIGHLIGHTED = f"{_ICH}.1.10"
OUTCOME = f"{_ICH}.1.11"
TEST_RESULT = f"{_ICH}.1.12"
DRUG_ROLE = f"{_ICH}.1.13"
ACTION = f"{_ICH}.1.15"
RECURRENCE = f"{_ICH}.1.16"
DRUG_INFORMATION = f"{_ICH}.1.17"
SUPPLY = f"{_ICH}.1.18"
OBSERVATION = f"{_ICH}.1.19"
ORGANIZER = f"{_ICH}.1.20"
ACTOR = f"{_ICH}.1.21"
INVESTIGATION = f"{_ICH}.1.22"
CHARACTERISTIC = f"{_ICH}.1.23"
DOCUMENT = f"{_ICH}.1.27"

REPORT_ID = f"{_ICH}.3.1"
WORLDWIDE_ID = f"{_ICH}.3.2"
OTHER_ID = f"{_ICH}.3.3"
APPLICATION = f"{_ICH}.3.4"
STUDY_NUMBER = f"{_ICH}.3.5"
REGISTRATION = f"{_ICH}.3.6"
RECORDS = {"1": f"{_ICH}.3.7", "2": f"{_ICH}.3.8", "3": f"{_ICH}.3.9", "4": f"{_ICH}.3.10"}
MESSAGE_SENDER = f"{_ICH}.3.11"
MESSAGE_RECEIVER = f"{_ICH}.3.12"
BATCH_SENDER = f"{_ICH}.3.13"
BATCH_RECEIVER = f"{_ICH}.3.14"
BATCH = f"{_ICH}.3.22"

FDA_CRITERIA = f"{_FDA}.2.1.1.1"
FDA_IND = f"{_FDA}.2.1.2.1"
FDA_PRE_ANDA = f"{_FDA}.2.1.2.2"
FDA_CROSS_REPORTED = f"{_FDA}.2.1.2.3"
FDA_OBSERVATION = f"{_FDA}.2.1.3"
FDA_REMEDIAL_ACTION = f"{_FDA}.1.1.3"
FDA_DEVICE_USAGE = f"{_FDA}.1.1.4"
FDA_FOLLOW_UP = f"{_FDA}.1.1.5"
FDA_OPERATOR = f"{_FDA}.1.1.6"
FDA_DRUG_INFORMATION = f"{_FDA}.1.1.7"
FDA_ROLE = f"{_FDA}.1.1.8"

# Codes of the ICH list of observations (.1.19) with the names the message shows beside them.
OBSERVATIONS = {
    "1": "additionalDocumentsAvailable",
    "2": "additionalInformation",
    "3": "age",
    "4": "ageGroup",
    "5": "autopsy",
    "6": "blinded",
    "7": "bodyWeight",
    "8": "causeOfDeath",
    "9": "codedDrugInformation",
    "10": "comment",
    "11": "concomitantTherapy",
    "12": "congenitalAnomalyBirthDefect",
    "13": "continuing",
    "14": "cumulativeDoseToReaction",
    "15": "diagnosis",
    "16": "gestationPeriod",
    "17": "height",
    "18": "historyAndConcurrentConditionText",
    "19": "indication",
    "20": "interventionCharacterization",
    "21": "isLifeThreatening",
    "22": "lastMenstrualPeriodDate",
    "23": "localCriteriaForExpedited",
    "24": "medicalConfirmationByHealthProfessional",
    "25": "moreInformationAvailable",
    "26": "otherMedicallyImportantCondition",
    "27": "outcome",
    "28": "parentRouteOfAdministration",
    "29": "reaction",
    "30": "reactionForTranslation",
    "31": "recurranceOfReaction",
    "32": "reportedCauseOfDeath",
    "33": "requiresInpatientHospitalization",
    "34": "resultsInDeath",
    "35": "resultsInPersistentOrSignificantDisability",
    "36": "summaryAndComment",
    "37": "termHighlightedByReporter",
    "38": "familyHistory",
    "39": "causality",
}
ORGANIZERS = {
    "1": "relevantMedicalHistoryAndConcurrentConditions",
    "2": "drugHistory",
    "3": "testsAndProceduresRelevantToTheInvestigation",
    "4": "drugInformation",
}
ACTORS = {"1": "sender", "2": "reporter", "3": "sourceReporter"}
