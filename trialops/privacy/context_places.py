"""Rules about places and organisations: addresses of several countries, postal codes, hospitals, firms, rooms."""

from __future__ import annotations

from trialops.privacy.rule_words import CAP, CAPWORD, LOW, STOP, UP

_WAY = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Circle|Cir|Highway|Hwy|Parkway|Pkwy|"
    r"Way|Trail|Trl|Crescent|Cres|Close|Alley|Row|Loop|Plaza|Pike|Turnpike|Walk|Gardens|Grove|Mews|Hill|Heights|Ridge|Run|Path|Crossing|Bend|Point|Green|"
    r"Parade|Esplanade|Quay|Wharf|Common|Commons|Estate|Expressway|Freeway|Broadway|Mall|Bypass|Causeway|Cove|Glen|Hollow|Island|Key|Landing|Meadow|Meadows|Oval|Pass|Spur|View|Villas|Vista)"
)
_WAYS = rf"(?:{_WAY}|(?i:street|avenue|road|boulevard|blvd|lane|drive|court|place|highway|parkway|crescent|terrace|rd|ave|st|ln))"
_FLAT = r"(?:[ ,]{1,2}(?i:apt|apartment|suite|ste|unit|flat|floor|fl|bldg|building|room|rm|#)\.?[ ]?#?[ ]?[A-Za-z]?\d*[A-Za-z]?\d*)"
_STATE = (
    r"(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|PR|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]|"
    r"ON|QC|BC|AB|MB|SK|NS|NB|NSW|VIC|QLD|TAS|ACT)"
)
_PIECE = rf"[{UP}][\w'\u2019.-]*(?:[ ](?:{CAP}|de|la|le|du|of|the|upon|on|sur|am|an|der|del|los|las|di|do|da)){{0,4}}"
_TAIL = rf"(?:(?:[,]?[ ]*\n[ ]*|[ ]*,[ ]*){_PIECE}){{0,3}}(?:[ ,\n]{{1,3}}{_STATE}\b)?(?:[ ,\n]{{1,3}}(?:[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[A-Z]{{2}}|\d{{5}}(?:-\d{{4}})?|\d{{3}}[ ]\d{{2}}|\d{{4,6}}))?"
_EURO = (
    rf"(?:(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Bb]d|[Aa]llée|[Cc]hemin|[Qq]uai|[Ii]mpasse|[Pp]lace|[Rr]oute|[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|[Vv]icolo|[Cc]alle|[Aa]venida|[Aa]vda|[Pp]aseo|[Pp]laza|"
    rf"[Cc]arrera|[Cc]arrer|[Rr]ua|[Tt]ravessa|[Ee]strada|[Pp]raça|[Aa]lameda|ul|[Uu]lica|al|[Nn]ábřeží|[Ss]okak)\.?[ ](?:(?:de la|de l['\u2019]|de los|del|de|des|du|della|dei|di|da|do|dos|la|le|al)[ ]?)?[{UP}][\w'\u2019.-]*(?:[ ](?:de|la|du|del|di|{CAP})){{0,4}}"
    rf"|[{UP}][{LOW}]+(?:[ -][{UP}][{LOW}]+)?(?:[ -]?(?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|[Ww]eg|[Pp]latz|[Aa]llee|[Gg]asse|[Uu]fer|[Dd]amm|[Rr]ing|[Ss]traat|[Ll]aan|[Gg]racht|[Pp]lein|[Dd]ijk|[Vv]ej|[Gg]ade|[Gg]ata|[Gg]atan|[Vv]ägen|[Vv]ei|[Vv]eien|[Kk]atu|[Tt]ie|[Uu]tca|[Úú]t)))"
)
_ORG = (
    r"(?:Hospital|HOSPITAL|Hospitals|Medical (?:Center|Centre|Group|Clinic|School|Associates)|MEDICAL CENTER|Clinic|CLINIC|Clinics|Infirmary|Hospice|Nursing Home|Care (?:Home|Center|Centre)|"
    r"Rehabilitation(?: Center| Centre)?|Rehab|Health(?:care)?(?: (?:System|Center|Centre|Services|Network|Group|Partners))?|Pharmacy|Pharmaceuticals|Pharma|Therapeutics|Biotech|Surgery Center|Sanatorium|"
    r"University|College|High School|Elementary(?: School)?|School|Academy|Institute|Foundation|Trust|Church|Cathedral|Synagogue|Mosque|Laborator(?:y|ies)|Labs|Diagnostics|Imaging(?: Center)?|"
    r"Inc|Incorporated|LLC|L\.L\.C|LLP|LP|Ltd|LTD|Limited|GmbH|AG|KG|Corp|Corporation|Company|Co|PLC|Plc|plc|S\.A|SA|SARL|S\.p\.A|SpA|S\.r\.l|Srl|B\.?V|N\.?V|Oy|AB|A/S|ApS|Pty|KK|Bank|Bancorp|Credit Union|"
    r"Insurance|Assurance|Associates|Partners|Holdings?|Industries|Enterprises|Solutions|Systems|Technologies|Consulting|Logistics|Airlines|Airways|Motors|Studios?|Records|Stores|Supermarket|Hotel|Inn|Resort|"
    r"Restaurant|Cafe|Café|Bakery|Library|Museum|Theat(?:er|re)|Stadium|Airport|Police(?: Department)?|Fire Department|Ministry|Council|Commission|Agency|Authority|Society|Association|Federation|Union|Club|Group|and Sons|& Sons|& Co)"
)
PLACE_RULES = (
    rf"(?<![\w.-])(?P<LOCATION>\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?[ ,]{{1,2}}(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West|Old|New|St|Mt|Saint|\d{{1,3}}(?:st|nd|rd|th))\.?[ ])?(?:[{UP}][\w'\u2019.-]*[ ]){{0,4}}{_WAY}\b\.?(?:[ ](?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\b\.?)?{_FLAT}?{_TAIL})",
    rf"(?i:(?<![\w.-])(?P<LOCATION>\d{{1,5}}[ ](?:[a-z'\u2019-]+[ ]){{1,3}}(?:street|avenue|road|boulevard|blvd|lane|drive|court|highway|parkway|crescent|terrace)\b(?:[ ,]+(?:apt|suite|unit|flat)\.?[ ]?#?\w+)?))",
    rf"(?<![\w.-])(?P<LOCATION>(?:\d{{1,5}}[ ]?(?:bis|ter|[A-Za-z])?,?[ ])?{_EURO}(?:,?[ ](?:n[°º]?[ ]?|nr\.?[ ]?)?\d{{1,5}}(?:[ ]?[A-Za-z]\b)?(?:/\d+)?){_FLAT}?{_TAIL})",
    rf"(?<![\w.-])(?P<LOCATION>\d{{1,5}}[ ]?(?:bis|ter)?,?[ ]{_EURO}{_TAIL})",
    rf"(?i:(?<!\w)(?P<LOCATION>(?:p\.?[ ]?o\.?[ ]?box|post office box|postfach|boîte postale|apartado|casilla|rr[ ]?\d+,?[ ]box|gpo box|locked bag)[ ]?#?[ ]?\d+[a-z]?))",
    rf"(?<!\w)(?P<LOCATION>{_PIECE},?[ ]{_STATE},?[ ]\d{{5}}(?:-\d{{4}})?)(?!\d)",
    rf"(?<!\w)(?P<LOCATION>{CAPWORD}(?:[ ]{CAPWORD}){{0,2}},[ ](?!MD\b)(?:{_STATE}))(?![\w'\u2019])",
    rf"(?<![\w-])(?P<LOCATION>(?:{_STATE},?[ ]|(?i:zip(?:[ -]?code)?|postal code|postcode|post code|plz|cap)[ :#]{{1,3}}(?:is[ ])?)\d{{5}}(?:-\d{{4}})?)(?![\w-])",
    r"(?<![\w-])(?P<LOCATION>\d{5}-\d{4})(?![\w-])",
    r"(?i:(?<!\w)(?:zip(?:[ -]?code)?|postal code|postcode|post code)[ :#]{1,3}(?:is[ ])?)(?P<LOCATION>[A-Z0-9][A-Z0-9 -]{1,8}[A-Z0-9])(?!\w)",
    r"(?<!\w)(?P<LOCATION>(?:GIR 0AA|[A-PR-UWYZ][A-HK-Y]?\d[A-HJKPS-UW\d]?[ ]\d[ABD-HJLNP-UW-Z]{2}))(?!\w)",
    r"(?<!\w)(?P<LOCATION>[ABCEGHJ-NPRSTVXY]\d[A-CEGHJ-NPRSTV-Z][ -]?\d[A-CEGHJ-NPRSTV-Z]\d)(?!\w)",
    rf"(?<!\w)(?P<LOCATION>(?:[A-Z]{{1,2}}-)?\d{{4,5}}[ ]{STOP}[{UP}][{LOW}]{{2,}}(?:[ -](?:am|an|der|la|le|sur|{CAPWORD})){{0,3}})(?=[,.\n]|$)(?<![ ]Steps)",
    rf"(?i:(?<!\w)(?:address|addr|home address|mailing address|residence|adresse|dirección|indirizzo)[ ]?(?:is|:|=|-)[ ]?)(?P<LOCATION>[^\n;|]{{4,90}}?)(?=\.[ ](?-i:[{UP}])|\.?$|\.?\n|;|\||[ ](?:and|but|phone|tel)\b|,[ ]?(?:phone|tel|mrn|dob))",
    rf"(?<!\w)(?i:(?:lives?|living|lived|resid(?:es?|ed|ing)|stay(?:s|ed|ing)|moved|moving|relocat(?:ed|ing)|born|raised|grew up|travel+(?:s|ed|ing)|trip|flew|fl(?:y|ies|ying)|dr[io]ve[sn]?|returned|comes?|came|native|hails|visit(?:s|ed|ing)?|vacation(?:ed|ing)?|retired|emigrated|immigrated|transferred|located|based|headquartered|situated|arriv(?:ed|es|ing)|deliver(?:ed|y)?|ship(?:ped)?|works?|worked|working|employed|hometown|welcome|went|going|office|branch|headquarters|store|weather|flights?|hotels?)[ ](?:back[ ]|home[ ]|out[ ]|down[ ]|over[ ]|alone[ ]|independently[ ])?(?:in|at|to|from|near|of|outside|around|is)[ ](?:the[ ])?)(?P<LOCATION>{STOP}{CAPWORD}(?:[ -](?:de|la|le|du|of|del|los|am|upon|{STOP}{CAPWORD})){{0,3}}(?:,[ ]{STOP}{CAP}(?:[ ]{CAPWORD})?)?)",
    rf"(?i:(?<!\w)(?:city|town|county|state|country|hometown|birthplace|place of birth|ward|location|region|province|village|district|suburb)[ ]?[:=][ ]?)(?P<LOCATION>[{UP}{LOW}][\w'\u2019 -]{{1,40}}?)(?=[,;|\n]|\.[ ]|\.?$|[ ]{{2}})",
    rf"(?<!\w)(?i:city|town|county|village|district|suburb|province)[ ]of[ ](?P<LOCATION>{CAPWORD}(?:[ ]{CAPWORD}){{0,2}})",
    rf"(?<!\w)(?P<LOCATION>{STOP}{CAPWORD}(?:[ ]{CAPWORD})?[ ](?:County|Township|Parish|Borough|Province|Prefecture|Oblast|District|Village))(?!\w)",
    r"(?<!\w)(?i:room|rm|ward|bed|bay)[ ]?(?:no\.?|#|number)?[ ]?(?P<LOCATION>\d{1,4}[A-Za-z]?(?:-\d{1,3})?|[A-Z]\d{1,3})(?![\w%./])",
    rf"(?<!\w)(?:Ward|Wing|Pavilion|Tower|Building)[ ](?P<LOCATION>{STOP}{CAPWORD})",
    rf"(?<!\w)(?P<ORGANIZATION>(?:{STOP}(?:{CAP}|St\.)(?:,?[ ](?:(?:of|and|&|de|the|for|del|della|-)[ ]){{0,2}}|[ ])){{1,4}}{_ORG}\b\.?(?:[ ](?:of|at|in|for)[ ]{CAPWORD}(?:[ ]{CAPWORD}){{0,2}})?)",
    rf"(?<!\w)(?P<ORGANIZATION>(?:(?:Children['\u2019]?s |General |Royal |Regional |Community |Memorial |National |Medical )?(?:Hospital|University|College|Bank|Institute|Church|School|Clinic|Museum|Society)|Universit[àéy]t?|Universidad|Université|Klinikum|Uniklinik|Krankenhaus|H[ôo]pital|Hospital|Ospedale|Policlinico|Clinique|Cl[íi]nica|Centre Hospitalier|CHU|Azienda Ospedaliera|Szpital|Sjukhus)[ ](?:(?:of|for|de|du|des|della|di|do|da|St\.|San|Santa)[ ])?(?:the[ ])?{STOP}{CAPWORD}(?:[ ](?:{CAPWORD}|de|la)){{0,3}})",
    rf"(?:^|(?<=\n)|(?<=[;:(,] )|(?<=\bat )|(?<=\bto )|(?<=\bof )|(?<=\bin )|(?<=\bby )|(?<=from )|(?<=the ))(?P<ORGANIZATION>(?:St|Saint|Ste|Sainte|San|Santa|Our Lady of|Mount|Mt)\.?[ ]{CAPWORD}(?:['\u2019]s?)?(?:[ ]{CAPWORD}){{0,2}})(?!\w)",
    rf"(?<!\w)(?P<ORGANIZATION>{STOP}{CAPWORD}(?:[ ]{CAPWORD})?(?:,[ ]{CAPWORD})?[ ](?:&|and)[ ](?:{CAPWORD}[ ])?(?:Sons?|Daughters|Brothers|Bros|Co|Company|Partners|Associates))(?!\w)",
    rf"(?<!\w)(?i:(?:works?|worked|working|employed|job|position|career|employee|ceo|cto|founder|manager|director|president|interview|intern|joined|retired)[ ](?:(?:as|an?|the|full-time|part-time)[ ](?:\w+[ ]){{0,3}})?(?:at|for|by|with|of|from)[ ](?:the[ ])?)(?P<ORGANIZATION>{STOP}{CAPWORD}(?:[ ,&-]{{1,2}}(?:and[ ])?{STOP}{CAPWORD}){{0,3}})",
    rf"(?i:(?<!\w)(?:company|employer|organi[sz]ation|firm|business|hospital|facility|clinic|site name|institution|pharmacy|insurer|insurance|payer|bank)(?: name)?[ ]?[:=][ ]?)(?P<ORGANIZATION>[{UP}][\w'\u2019&., -]{{1,50}}?)(?=[;|\n]|\.[ ]|\.?$|[ ]{{2}}|,[ ])",
)
