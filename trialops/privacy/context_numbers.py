"""Rules about numbers: telephone, record, account, device and vehicle numbers, and what only an identifier looks like."""

from __future__ import annotations

_NUMBER_WORD = r"(?:[ ]?(?:number|no\.?|nr\.?|num\.?|#|id|code))?"
_ISSUED = (
    r"(?:mrn|m\.r\.n\.|medical record|med rec|record|chart|case|account|acct|a/c|policy|member(?:ship)?|group|insurance|medicare|medicaid|hicn|mbi|beneficiary|health plan|nhs|chi|"
    r"ssn|social security|soc sec|passport|driver'?s?[ -]licen[cs]e|driving licen[cs]e|licen[cs]e|permit|dl|plate|licen[cs]e plate|number plate|vehicle(?: registration)?|registration|tag|vin|"
    r"serial|s/n|sn|device|implant|pacemaker|udi|accession|acc|specimen|sample|claim|invoice|order|encounter|csn|fin|har|admission|"
    r"hospital|hosp|certificate|npi|dea|imei|imsi|iccid|pin|ref(?:erence)?|confirmation|ticket|booking|badge|employee|staff|student|tax|tin|ein|vat|nino|"
    r"sin|iban|bic|swift|routing|sort code|card|credit card|debit card|customer|client|user|username|login|identification|identity(?: card)?|id card|national id|"
    r"subject|participant|patient|screening|randomi[sz]ation|rand|site|centre|center|investigator|study id|trial id|kit|pager|tracking|transaction|contract|fingerprint|dni|nie|nif|bsn|pesel|cpf|curp|rfc)"
)
_VALUE = r"[A-Za-z]{0,6}[-/# ]?(?=[A-Za-z0-9./-]*\d)[A-Za-z0-9]+(?:[-/.][A-Za-z0-9]+)*"
_UNIT = r"(?![ -]?(?:mg|mcg|µg|g|kg|ml|mL|dL|L|mmol|mmHg|mm|cm|IU|units?|U|cells|x|×|%|days?|weeks?|months?|years?|hours?|hrs?|min|bpm|times|kcal|cal|steps|feet|meters|miles|km)\b)"
NUMBER_RULES = (
    r"(?i:(?<!\w)(?P<URL>(?:https?://|ftp://|www\.)[^\s<>\"')\]]*[\w/]))",
    rf"(?i:(?<![\w-])(?:{_ISSUED}){_NUMBER_WORD}[ ]?(?:[:#=]|is|was|-)[ #:]*)(?P<ID>{_VALUE}(?:[ ]\d{{2,}})*)",
    rf"(?i:(?<![\w-])(?:{_ISSUED})[ ]?(?:number|no\.?|nr\.?|num\.?|#|id|code)[ :#.=-]*(?:is[ ]|was[ ]|of[ ])?)(?P<ID>{_VALUE}(?:[ ]\d{{2,}})*)",
    rf"(?i:(?<![\w-])(?:mrn|ssn|npi|dea|vin|imei|s/n|passport|acct|account|subject|participant|nhs|medicare|medicaid|policy|accession|serial|badge|plate|dl|license|licence|chart|claim|routing|pin)[ ])(?P<ID>(?=[\w/-]*\d)[A-Za-z0-9][\w/-]{{2,}})",
    r"(?i:(?<![\w-])(?:site|subject|patient|participant|pt)[ ]?(?:#|no\.?|number)?[ ]?)(?P<ID>\d{2,}(?:-\d+)*)(?![\w%./]|[ ]?(?:mg|ml|years?|y/?o|yo|days?|weeks?|of|out))",
    r"(?i:(?<!\w)(?:tel|telephone|phone|ph|fax|cell|mobile|mob|pager|beeper|call|contact|text|whatsapp|hotline|dial|handy|telefon|tél|extension|ext|home|work|office|number)(?:\.|[ ](?:no\.?|number|#))?(?:[ ](?:is|at|on|me at|us at|him at|her at|them at|back at))?[ ]?[:#=-]?[ ]{0,2})(?P<PHONE>[+(]?\d[\d ().\u00a0/–-]{3,}\d(?:[ ]?(?:x|ext\.?|extension)[ ]?\d{1,6})?)(?![\w%])"
    + _UNIT,
    r"(?i:(?<!\w)(?:reach|reached|reachable|call(?:ed|back)?|phone[d]?|contact(?:ed)?|ring)[ ](?:\w+[ ]){0,3}(?:at|on|via|under)[ ])(?P<PHONE>[+(]?\d[\d ().\u00a0/–-]{4,}\d)(?![\w%])",
    r"(?<![\w.+-])(?P<PHONE>(?:\+?1[ .-]?)?\(?\d{3}\)?[ .-]{0,2}\d{3}[ .-]\d{4}(?:[ ,]{0,2}(?:x|ext\.?|extension|#)[ ]?\d{1,6})?)(?![\w-])",
    r"(?<![\w.])(?P<PHONE>(?:\+|\b00)\d{1,3}[ ().-]{0,3}\d[\d ().\u00a0-]{5,15}\d(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?)(?![\w])",
    r"(?<![\w.+-])(?P<PHONE>\(?0\d{1,4}\)?[ /.-]\d{2,4}(?:[ .-]?\d{2,4}){1,3})(?![\w-])",
    r"(?<![\w.+-])(?P<PHONE>\d{3}-\d{4}(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?)(?![\w.-])" + _UNIT,
    r"(?i:(?<!\w)(?:x|ext\.?|extension)[ ]?)(?P<PHONE>\d{3,6})(?!\w)",
    r"(?<![\w-])(?P<ID>\d{3}[- ]\d{2}[- ]\d{4})(?![\w-])",
    r"(?<![\w.])(?P<ID>(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2})(?!\w)",
    r"(?<!\w)(?P<ID>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})(?!\w)",
    r"(?<![\w.,-])(?P<ID>\d{8,})(?![\w,]|\.\d)" + _UNIT,
    r"(?<![\w.-])(?P<ID>(?=(?:-?\d){7})\d{1,6}(?:-\d{1,8}){2,})(?![\w-])",
    r"(?<![\w.-])(?P<ID>\d{3,4}(?:[ -]\d{4}){2,4}(?:[ -]\d{1,4})?)(?![\w-])",
    r"(?<![\w.-])(?P<ID>(?!NCT\d|rs\d|ENS[GT]|GCST)(?=[A-Z0-9-]*[A-Z])(?=(?:[A-Z-]*\d){4})[A-Z0-9](?:[A-Z0-9]|-(?=[A-Z0-9])){6,23})(?![\w-])",
    r"(?<![\w.@/])(?P<ID>@[A-Za-z_][\w.]{2,30}\w)",
    r"(?i:(?<!\w)(?:username|user name|login|handle|screen name|skype|twitter|instagram|facebook|password)[ ]?(?:is|:|=)[ ]?)(?P<ID>[^\s,;]{3,40})",
    r"(?i:(?<!\w)(?:license plate|licence plate|number plate|plates?|vehicle reg(?:istration)?|car reg(?:istration)?|registration)[ ]?(?:number|no\.?|#)?[ ]?(?:is|was|:|=|reads?)?[ ]?)(?P<ID>(?-i:[A-Z0-9]{1,4}(?:[ -][A-Z0-9]{1,5}){0,2}))(?![\w-])",
)
