"""Rules of context: words that announce an identifier, and forms that give one away.

A rule is a pattern whose named groups are kinds of span; what stands in the group is the identifier. Rules about people and
ages are here, about places and organisations in `context_places`, about numbers in `context_numbers`.
"""

from __future__ import annotations

import re
from functools import cache

from trialops.privacy.context_numbers import NUMBER_RULES
from trialops.privacy.context_places import PLACE_RULES
from trialops.privacy.rule_words import CAP, CAPWORD, LASTFIRST, LOW, LOWER_STOP, NAME, PARTICLE, STOP, UP
from trialops.privacy.spans import Span

_TITLE = (
    r"(?:Drs?|DRS?|dr|Doctor|doctor|DOCTOR|Prof|PROF|Professor|professor|Mr|MR|Mrs|MRS|Ms|MS|Miss|MISS|Mx|Sir|Dame|Madam|Nurse|nurse|Sister|Rev|Reverend|Fr|"
    r"Pastor|Rabbi|Imam|Judge|Captain|Capt|Lieutenant|Lt|Sergeant|Sgt|Colonel|Col|Major|Herr|Frau|Señora?|Sra?|Srta|Monsieur|Madame|Mme|Mlle|"
    r"Signora?|Sig|Sig\.ra|Dott|Dra?|Mevr|Dhr|Pan|Pani|Hon|Officer|President|Senator|Coach|Aunt|Uncle|Auntie|Grandma|Grandpa|Lord|Lady)"
)
_POST = r"(?:M\.?D\.?|D\.?O\.?|RN|R\.N\.|BSN|NP|FNP|ARNP|CRNP|PA-?C|PA|LPN|CNA|LCSW|MSW|Ph\.?D\.?|PharmD|Pharm\.D\.|DDS|DMD|DPM|DPT|PT|OT|MBBS|MBChB|FRCP|FACP|FACS|MPH|Esq\.?|Jr\.?|Sr\.?)"
_RELATIVE = (
    r"(?:wife|husband|spouse|partner|daughter|son|mother|father|mom|mum|dad|sister|brother|niece|nephew|aunt|uncle|cousin|grand(?:mother|father|son|"
    r"daughter|child|ma|pa)|(?:step|half-?)(?:mother|father|son|daughter|sister|brother)|(?:mother|father|son|daughter|sister|brother)-in-law|caregiver|"
    r"carer|caretaker|guardian|friend|neighbou?r|fianc[ée]e?|girlfriend|boyfriend|roommate|housemate|boss|manager|colleague|coworker|co-worker|"
    r"employer|landlord|interpreter|pharmacist|social worker|chaplain|nurse|physician|doctor|surgeon|cardiologist|neurologist|oncologist|"
    r"psychiatrist|therapist|dentist|investigator|coordinator|midwife|counsel+or|teacher|lawyer|attorney|agent|assistant|representative|twin|widow|widower)"
)
_LABEL = (
    r"(?:(?:Patient|Pt|Client|Subject|Full|First|Last|Middle|Given|Family|Maiden|Preferred|Legal|Mother'?s|Father'?s|Parent|Guardian|Contact|Cardholder|"
    r"Account|Customer|Employee|Student|Physician|Provider|Doctor|Caller|Sender)(?:'s)?[ ]?(?:name|Name|NAME)|Name|NAME|Surname|SURNAME|Forename|Alias|AKA|a\.?k\.?a\.?|"
    r"PATIENT(?: NAME)?|Patient|PT|Pt|Subject|Client|Customer|Participant|Resident|Mother|Father|Parent|Spouse|Guardian|Caregiver|NOK|Next of [Kk]in|NEXT OF KIN|"
    r"Emergency [Cc]ontact|EMERGENCY CONTACT|Contact(?: [Pp]erson)?|Attending(?: [Pp]hysician)?|ATTENDING|Physician|PHYSICIAN|Provider|PROVIDER|PCP|GP|"
    r"Primary [Cc]are(?: [Pp]hysician| [Pp]rovider)?|Referring(?: [Pp]hysician| MD| [Pp]rovider)?|REFERRING|Ordering(?: [Pp]hysician| [Pp]rovider)?|Consultant|Surgeon|SURGEON|"
    r"Assistant|Anesthesiologist|Anaesthetist|Radiologist|Pathologist|Investigator|Principal [Ii]nvestigator|PI|Sub-[Ii]nvestigator|Coordinator|Nurse|"
    r"Author|Authored [Bb]y|Dictated [Bb]y|DICTATED BY|D|Transcribed [Bb]y|Verified [Bb]y|Approved [Bb]y|Witness(?:ed [Bb]y)?|Interpreter|Collected [Bb]y|Drawn [Bb]y|"
    r"Prepared [Bb]y|Reviewed [Bb]y|Signed(?: [Bb]y)?|SIGNED(?: BY)?|Electronically [Ss]igned(?: [Bb]y)?|E-signed [Bb]y|Signature|Cc|CC|cc|Attn|ATTN|Attention|To|TO|From|FROM|"
    r"Sender|Recipient|Bill [Tt]o|Ship [Tt]o|Payee|Beneficiary|Holder|Owner|Driver|Passenger|Insured|Policy ?[Hh]older|Subscriber|Employer|Re|RE|Regarding)"
)
_ACT = (
    r"(?:[Ss]een|[Ee]xamined|[Rr]eviewed|[Ss]igned|[Dd]ictated|[Rr]eferred|[Cc]onsented|[Aa]ccompanied|[Bb]rought in|[Aa]ssessed|[Tt]reated|[Pp]erformed|[Oo]rdered|"
    r"[Pp]rescribed|[Aa]pproved|[Ww]itnessed|[Cc]ollected|[Aa]ssisted|[Ii]nterpreted|[Aa]dministered|[Vv]erified|[Cc]ountersigned|[Ww]ritten|[Ss]ent|[Ff]ollowed|[Oo]wned|[Dd]irected) by"
    r"|(?:[Ss]poke|[Ss]poken|[Dd]iscussed|[Tt]alked|[Mm]et|[Cc]onfirmed|[Cc]hecked|[Ss]peaking|[Cc]onsulted|[Ff]ollow(?:s|ed)?[- ]up|[Ll]ives|[Ll]iving|[Aa]ppointment|[Mm]arried) (?:with|to)"
    r"|(?:[Rr]eferred|[Pp]aged|[Hh]anded over|[Gg]iven|[Ee]-?mailed|[Ww]rote|[Tt]ransferred|[Aa]ddressed|[Dd]elivered|[Ff]orwarded) to"
    r"|(?:[Cc]all(?:ed)?|[Pp]age|[Pp]aged|[Cc]ontact(?:ed)?|[Nn]otified|[Ii]nformed|[Tt]exted|[Ee]-?mailed|[Tt]hank(?:ed)?|[Aa]sked|[Pp]hone[d]?|[Rr]ing|[Rr]ang|[Tt]ell|[Aa]sk|[Pp]er|[Vv]ia|c/o|C/O|[Cc]are of|[Aa]ttn)"
    r"|(?:[Mm]y|[Hh]is|[Hh]er|[Tt]heir|[Pp]atient'?s|[Tt]he) (?:full |first |last |maiden |real |legal |given )?name(?:'s| is| was)"
    r"|(?:[Nn]amed|[Cc]alled|[Kk]nown as|[Gg]oes by|[Nn]icknamed|[Ii]dentified as|[Nn]ée|[Ff]ormerly|a\.?k\.?a\.?|AKA)"
    r"|(?:[Tt]his is|[Ii] am|[Ii]'m|[Ii]t's|[Oo]n behalf of)"
)
_AGE = r"(?:9\d|1[01]\d|12[0-5])"
_TEN = r"(?:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:a |one )hundred(?:[- ](?:and[- ])?(?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
PEOPLE_RULES = (
    rf"(?<![\w-]){_TITLE}(?:\.[ \u00a0]?|[ \u00a0]+)(?:and[ ](?:Mrs|Ms|Dr)\.?[ ])?(?P<NAME>(?:{PARTICLE} )?{NAME})",
    rf"(?<![\w-])(?:dr|mr|mrs|ms|prof)\.?[ ](?P<NAME>{LOWER_STOP}[{LOW}]{{3,}}(?:['\u2019-][{LOW}]+)?)(?![\w])",
    rf"(?<!\w)(?P<NAME>{NAME}),?[ ](?:{_POST})(?!\w)",
    rf"(?<!\w){_LABEL}[ ]?[:=][ \t]*(?:{_TITLE}\.?[ ])?(?P<NAME>{LASTFIRST}|{NAME}|[{UP}]{{2,}}(?:[ ,]+[{UP}]{{2,}}){{0,2}})",
    rf"(?i:(?<!\w)(?:patient|pt|full|first|last|client|subject|customer|cardholder)(?:'s)? name[ ]?[:=-][ \t]*)(?P<NAME>[^\W\d_][\w'\u2019.-]*(?:[ ,]+[^\W\d_][\w'\u2019.-]*){{0,2}})",
    rf"(?<!\w)(?:[Pp]atient|PATIENT|[Pp]t|PT|[Ss]ubject|[Cc]lient|[Pp]articipant|[Rr]esident|[Cc]ustomer|[Mm]ember)\.?[ ,]{{1,2}}(?:{_TITLE}\.?[ ])?(?P<NAME>{LASTFIRST}|{NAME})",
    rf"(?<!\w)(?:[Pp]atient|[Pp]t|[Ss]ubject)\.?[ ](?P<NAME>[{UP}]\.?[{UP}]\.?(?:[{UP}]\.?)?)(?=[ ,;]|$)",
    rf"(?<!\w)(?i:{_RELATIVE})(?:'s name is| is)?[ ,:]{{1,2}}\(?(?:{_TITLE}\.?[ ])?(?P<NAME>{NAME})",
    rf"(?<!\w)(?i:signed|sincerely|regards|best|thanks|thank you|yours(?: truly| sincerely| faithfully)?|cheers|love|respectfully|cordially|warmly|truly)[,.!]?[ ]?\n*[ ]*[-\u2013\u2014]?[ ]?(?:{_TITLE}\.?[ ])?(?P<NAME>{NAME}|[{UP}]\.[ ]?{CAPWORD})",
    rf"(?<!\w)(?:[Dd]ear|DEAR|[Hh]i|[Hh]ello|[Hh]ey|[Hh]iya|[Gg]ood (?:[Mm]orning|[Aa]fternoon|[Ee]vening)|[Gg]reetings|[Hh]allo|[Bb]onjour|[Hh]ola|[Ww]elcome|[Cc]ongratulations)[, ]{{1,2}}(?:{_TITLE}\.?[ ])?(?P<NAME>{NAME})",
    rf"(?<!\w)(?:{_ACT})[ ](?:the[ ])?(?:(?:{_RELATIVE}|patient),?[ ])?(?:{_TITLE}\.?[ ])?(?P<NAME>[{UP}]\.[ ]?{CAPWORD}|{NAME})",
    rf"(?<!\w)(?P<NAME>{NAME})[ ,(]{{1,2}}(?:is|was)?[ ]?(?:an?[ ])?(?:aged[ ])?\d{{1,3}}[ -]?(?:years?[ -]old|yo\b|y/o|y\.o\.|yrs?\b|-year)",
    rf"(?<!\w)(?P<NAME>{NAME}|{LASTFIRST})[ ,(]{{1,3}}(?:MRN|DOB|D\.O\.B\.|SSN|born|date of birth|d\.o\.b\.|dob|mrn|NHS|hosp(?:ital)? no)\b",
    rf"(?:[-\u2013\u2014]{{1,2}}|//|/s/)[ ]?(?:{_TITLE}\.?[ ])?(?P<NAME>{STOP}{CAPWORD} {STOP}{CAPWORD}(?:-{CAPWORD})?)[ ]*(?:$|\n)",
    rf"(?<![\w.])(?P<NAME>(?:[{UP}]\.[ ]?){{1,2}}{STOP}[{UP}][{LOW}]{{2,}}(?:[-'\u2019]{CAPWORD})?)(?!\w)(?<!S\. aureus)",
    rf"(?<!\w)(?P<NAME>(?:Mac|Mc|O['\u2019]|D['\u2019])[{UP}][{LOW}]{{2,}}(?:-{CAPWORD})?)(?!\w)(?!['\u2019]?s? (?:sign|test|point|disease|maneuver|law|murmur))",
    rf"(?<!\w)(?P<NAME>{STOP}{CAPWORD})[ ](?:and|&)[ ](?P<NAME2>{STOP}{CAPWORD})[ ](?:are|were|have|live|got|both|came)\b",
    rf"(?<!\w)(?P<NAME>{STOP}[{UP}][{LOW}]+[ ][{UP}]\.[ ]{STOP}{CAP}(?:-{CAPWORD})?)",
    rf"(?:^|(?<=\n)|(?<=[.!?][ ]))(?P<NAME>{STOP}[{UP}][{LOW}]+(?:[ ]{STOP}[{UP}][{LOW}]+)?)[ ](?:said|says|called|asked|wrote|phoned|emailed|lives|works|moved|arrived|telephoned|replied|told|mentioned|married|died|thinks|wants|went|came)\b",
)
AGE_RULES = (
    rf"(?<![\w.])(?P<AGE>{_AGE})(?:th)?[ -]?(?:years?|yrs?|y)(?:[ -]?(?:old|o\b)|[ ]of[ ]age|/o|\.o\.)",
    rf"(?<![\w.])(?P<AGE>{_AGE})[ -]?(?:y/?o|yo|y\.o\.?|yr|[MFmf](?=[ ,;.]|$))(?!\w)",
    rf"(?i:(?<!\w)(?:aged?|age is|age of|turn(?:ed|s|ing)|at the age of))[ :=]{{1,3}}(?P<AGE>{_AGE})(?![\w%./])",
    rf"(?i:(?<!\w)(?P<AGE>{_TEN})[- ](?:years?[- ]old|years? of age))",
    rf"(?<![\w.])(?P<AGE>{_AGE})(?:st|nd|rd|th)[ ]birthday",
    r"(?i:(?<!\w)(?P<AGE>(?:(?:early|mid|late)[- ])?(?:nineties|90['\u2019]?s)|nonagenarian|centenarian|supercentenarian)(?!\w))",
    r"(?i:(?<!\w)(?:born(?: in| c\.| circa)?|b\.|birth year|year of birth|yob|dob)[ :]{1,2})(?P<DATE>(?:18|19|20)\d{2})(?![\w/.-]?\d)",
)


@cache
def _rules() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rule) for rule in (*PEOPLE_RULES, *AGE_RULES, *PLACE_RULES, *NUMBER_RULES))


def find_context(text: str) -> list[Span]:
    """Identifiers that the words around them announce.

    Args:
        text: Any text.

    Returns:
        Spans with source "context"; they can overlap.
    """
    spans = []
    for rule in _rules():
        for match in rule.finditer(text):
            for group, value in match.groupdict().items():
                if value:
                    start, end = match.span(group)
                    spans.append(Span(start, end, group.rstrip("0123456789"), "context"))
    return spans
