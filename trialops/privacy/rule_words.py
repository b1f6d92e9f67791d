"""Pieces that the context rules share: what a capital is, what a proper name looks like, words that no name has."""

from __future__ import annotations

UP = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĻŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŲŸŹŻŽȘȚΑ-ΩА-Я"
LOW = "a-zß-öø-ÿāăąćčďđēėęěğģīįıķļłńņňōőœŕřśşšţťūůűųźżžșțα-ωа-яё"
#: A word with a capital: Lee, O'Neil, McKay, Smith-Jones, LEE.
CAP = rf"[{UP}][{UP}{LOW}]*(?:['\u2019-][{UP}{LOW}]+)*"
#: The same, of two letters at least.
CAPWORD = rf"[{UP}](?:['\u2019][{UP}])?[{UP}{LOW}]+(?:['\u2019-][{UP}{LOW}]+)*"
PARTICLE = r"(?:van der|van den|van de|van|von der|von|de la|de los|del|della|de|di|da|dos|du|den|der|ter|ten|la|le|el|al|bin|ibn|ben|abu|st\.?|y)"
#: Words that start with a capital beside a name and belong to none.
STOP = (
    r"(?!(?:The|A|An|And|Or|But|He|She|It|They|We|You|I|His|Her|Their|This|That|These|In|On|At|To|For|From|With|By|As|If|Is|Was|Has|Had|"
    r"Will|Can|No|Not|Yes|Please|Patient|Pt|Subject|Phone|Tel|Fax|Email|Address|Date|Dob|DOB|MRN|SSN|Age|Sex|Gender|Male|Female|Plan|Assessment|"
    r"History|Note|Notes|Seen|Signed|Visit|Blood|Denies|Reports|Complains|Reason|Diagnosis|Ward|Room|Bed|Clinic|Hospital|Department|Unit|"
    r"Unknown|None|Not|Deceased|Alive|Present|Absent|Today|Tomorrow|Yesterday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|"
    r"January|February|March|April|June|July|August|September|October|November|December|NAME|LOCATION|ORGANIZATION|DATE|AGE|PHONE|EMAIL|URL|ID)\b)"
)
NAME = rf"{STOP}{CAPWORD}(?:(?:[ \u00a0]+(?:{PARTICLE} )?{STOP}(?:{CAP})\.?){{0,3}}(?<![.])|(?:[ ]{STOP}{CAP}\.?){{0,3}}(?=[ ,\n.]|$)(?<![.]))"
LASTFIRST = rf"{STOP}{CAPWORD}(?:[ -]{CAPWORD})?, ?{STOP}{CAPWORD}(?: [{UP}]\b\.?| {STOP}{CAPWORD})?"
#: Lower-case words after "dr" or "pt" that are no name.
LOWER_STOP = (
    r"(?!(?:a|an|and|or|the|to|in|on|at|of|for|with|by|as|is|was|will|would|has|had|have|who|that|said|says|says?|advised|called|recommended?|"
    r"notified|aware|informed|visit|appointment|office|orders?|note|notes|did|does|not|came|went|denies|denied|reports?|states?|stated|"
    r"complains?|presents?|presented|feels|tolerated|remains|reviewed|may|can|could|should|wants?|continues|started|stopped|seen|lives|also|still|"
    r"re|about|today|tomorrow|yesterday|please|if|when|then|but|there|here|alert|oriented|care|education|safety|history|information|number|name|"
    r"is|are|were|been|being|no|yes|self|id|mrn|dob|agrees?|understands?|verbalized|educated|discharged|admitted|transferred|able|unable)\b)"
)
