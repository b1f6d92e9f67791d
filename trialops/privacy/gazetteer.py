"""Names of places that need no context: countries, states and the towns of the world.

Countries and states are listed here. Towns come from a file beside the model: the names of telephone areas that the
phonenumbers package (Apache-2.0) has, without those that are also words of medicine or of plain English.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

from trialops.privacy.rule_words import LOW, UP
from trialops.privacy.spans import Span

TOWNS = Path(__file__).parent / "models" / "towns.txt.gz"
COUNTRIES = tuple(
    """Afghanistan|Albania|Algeria|Andorra|Angola|Argentina|Armenia|Aruba|Australia|Austria|Azerbaijan|Bahamas|Bahrain|Bangladesh|Barbados|Belarus|Belgium|Belize|
Benin|Bermuda|Bhutan|Bolivia|Bosnia|Bosnia and Herzegovina|Botswana|Brazil|Brunei|Bulgaria|Burkina Faso|Burma|Burundi|Cambodia|Cameroon|Canada|Cape Verde|Chad|Chile|China|
Colombia|Comoros|Congo|Costa Rica|Croatia|Cuba|Curaçao|Cyprus|Czechia|Czech Republic|Denmark|Djibouti|Dominica|Dominican Republic|East Timor|Ecuador|Egypt|El Salvador|England|
Equatorial Guinea|Eritrea|Estonia|Eswatini|Ethiopia|Faroe Islands|Fiji|Finland|France|French Guiana|French Polynesia|Gabon|Gambia|Germany|Ghana|Gibraltar|Great Britain|Greece|Greenland|
Grenada|Guadeloupe|Guam|Guatemala|Guernsey|Guinea|Guinea-Bissau|Guyana|Haiti|Honduras|Hong Kong|Hungary|Iceland|India|Indonesia|Iran|Iraq|Ireland|Isle of Man|Israel|Italy|Ivory Coast|
Jamaica|Japan|Jordan|Kazakhstan|Kenya|Kiribati|Kosovo|Kuwait|Kyrgyzstan|Laos|Latvia|Lebanon|Lesotho|Liberia|Libya|Liechtenstein|Lithuania|Luxembourg|Macau|Macedonia|North Macedonia|Madagascar|
Malawi|Malaysia|Maldives|Mali|Malta|Marshall Islands|Martinique|Mauritania|Mauritius|Mexico|Micronesia|Moldova|Monaco|Mongolia|Montenegro|Morocco|Mozambique|Myanmar|Namibia|Nauru|Nepal|
Netherlands|The Netherlands|New Caledonia|New Zealand|Nicaragua|Niger|Nigeria|North Korea|Northern Ireland|Norway|Oman|Pakistan|Palau|Palestine|Panama|Papua New Guinea|Paraguay|Peru|Philippines|Poland|
Portugal|Puerto Rico|Qatar|Réunion|Romania|Russia|Russian Federation|Rwanda|Saint Lucia|Samoa|San Marino|Saudi Arabia|Scotland|Senegal|Serbia|Seychelles|Sierra Leone|Singapore|Slovakia|Slovenia|
Solomon Islands|Somalia|South Africa|South Korea|South Sudan|Spain|Sri Lanka|Sudan|Suriname|Svalbard|Sweden|Switzerland|Syria|Taiwan|Tajikistan|Tanzania|Thailand|Tibet|Togo|Tonga|Trinidad and Tobago|
Tunisia|Turkey|Turkmenistan|Tuvalu|Uganda|Ukraine|United Arab Emirates|United Kingdom|United States|United States of America|USA|U.S.A.|U.S.|UK|U.K.|UAE|Uruguay|Uzbekistan|Vanuatu|Vatican City|Venezuela|
Vietnam|Viet Nam|Wales|Western Sahara|Yemen|Zambia|Zimbabwe""".replace("\n", "").split("|")
)
STATES = tuple(
    """Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|
Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|
South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming|District of Columbia|Ontario|Quebec|Québec|Manitoba|Saskatchewan|Alberta|British Columbia|Nova Scotia|
New Brunswick|Newfoundland|New South Wales|Queensland|Tasmania|Victoria|Bavaria|Saxony|Hesse|Brandenburg|Thuringia|Westphalia|Catalonia|Andalusia|Galicia|Normandy|Brittany|Provence|Burgundy|Alsace|
Lombardy|Tuscany|Sicily|Sardinia|Piedmont|Veneto|Yorkshire|Lancashire|Cornwall|Devon|Essex|Sussex|Surrey|Kent|Norfolk|Suffolk|Somerset|Cumbria|Kerala|Punjab|Gujarat|Karnataka|Maharashtra|Tamil Nadu""".replace(
        "\n", ""
    ).split("|")
)
#: Large cities whose names the file could leave out because they are words as well.
CITIES = tuple(
    """London|Paris|Berlin|Madrid|Rome|Milan|Naples|Turin|Vienna|Prague|Warsaw|Budapest|Lisbon|Porto|Dublin|Belfast|Edinburgh|Glasgow|Manchester|Birmingham|Liverpool|Leeds|Bristol|Sheffield|
Cardiff|Oxford|Cambridge|Brussels|Antwerp|Amsterdam|Rotterdam|The Hague|Utrecht|Copenhagen|Aarhus|Stockholm|Gothenburg|Oslo|Bergen|Helsinki|Reykjavik|Tallinn|Riga|Vilnius|Moscow|Saint Petersburg|Kyiv|Kiev|
Minsk|Bucharest|Sofia|Belgrade|Zagreb|Ljubljana|Sarajevo|Athens|Thessaloniki|Istanbul|Ankara|Izmir|Munich|Hamburg|Cologne|Frankfurt|Stuttgart|Leipzig|Dresden|Hanover|Nuremberg|Zurich|Geneva|Basel|Bern|
Lyon|Marseille|Toulouse|Bordeaux|Lille|Strasbourg|Nantes|Montpellier|Barcelona|Valencia|Seville|Bilbao|Malaga|Florence|Venice|Bologna|Genoa|Palermo|New York City|NYC|Los Angeles|Chicago|Houston|Phoenix|
Philadelphia|San Antonio|San Diego|Dallas|San Jose|Austin|Jacksonville|Fort Worth|Columbus|Charlotte|San Francisco|Indianapolis|Seattle|Denver|Boston|Nashville|Detroit|Portland|Las Vegas|Memphis|Louisville|
Baltimore|Milwaukee|Albuquerque|Tucson|Fresno|Sacramento|Kansas City|Atlanta|Omaha|Miami|Oakland|Minneapolis|Tulsa|Tampa|New Orleans|Cleveland|Honolulu|Pittsburgh|Cincinnati|St. Louis|Orlando|Newark|Buffalo|
Rochester|Salt Lake City|Brooklyn|Manhattan|Bronx|Queens|Hollywood|Toronto|Montreal|Vancouver|Calgary|Edmonton|Ottawa|Winnipeg|Halifax|Mexico City|Guadalajara|Monterrey|Tijuana|Bogota|Medellin|Lima|Quito|
Caracas|Santiago|Buenos Aires|Montevideo|Sao Paulo|São Paulo|Rio de Janeiro|Brasilia|Salvador|La Paz|Havana|San Juan|Kingston|Tokyo|Osaka|Kyoto|Yokohama|Sapporo|Seoul|Busan|Beijing|Shanghai|Guangzhou|Shenzhen|
Wuhan|Chengdu|Taipei|Manila|Jakarta|Bangkok|Hanoi|Ho Chi Minh City|Kuala Lumpur|Mumbai|Bombay|Delhi|New Delhi|Kolkata|Calcutta|Chennai|Madras|Bangalore|Bengaluru|Hyderabad|Pune|Ahmedabad|Karachi|Lahore|
Islamabad|Dhaka|Kathmandu|Colombo|Kabul|Tehran|Baghdad|Damascus|Beirut|Amman|Jerusalem|Tel Aviv|Haifa|Riyadh|Jeddah|Mecca|Dubai|Abu Dhabi|Doha|Cairo|Alexandria|Casablanca|Tunis|Algiers|Tripoli|Khartoum|
Addis Ababa|Nairobi|Mombasa|Kampala|Dar es Salaam|Kigali|Kinshasa|Luanda|Lagos|Abuja|Accra|Dakar|Abidjan|Johannesburg|Cape Town|Durban|Pretoria|Harare|Lusaka|Sydney|Melbourne|Brisbane|Perth|Adelaide|
Canberra|Auckland|Wellington|Christchurch|Europe|Scandinavia|Midwest|Silicon Valley|Wall Street|Washington DC|Washington D.C.""".replace(
        "\n", ""
    ).split("|")
)
_WORD = re.compile(rf"(?<![\w@./])[{UP}][\w'\u2019.-]*[{UP}{LOW}](?:\.(?=[{UP}]))?")
_CONNECT = frozenset({" ", "-"})


@cache
def listed_towns() -> tuple[str, ...]:
    """Towns of the file beside the model, in order."""
    return tuple(gzip.decompress(TOWNS.read_bytes()).decode().split("\n"))


@cache
def _names() -> dict[str, list[tuple[str, ...]]]:
    """Names by their first word, as words; longest first."""
    names = {*COUNTRIES, *STATES, *CITIES, *listed_towns()}
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for name in names:
        words = tuple(name.split(" "))
        for form in {words, tuple(w.upper() for w in words)}:
            by_first.setdefault(form[0], []).append(form)
    for forms in by_first.values():
        forms.sort(key=lambda f: (-len(f), f))
    return by_first


def find_places(text: str) -> list[Span]:
    """Places a text names, written with capitals.

    Args:
        text: Any text.

    Returns:
        Spans of kind LOCATION and source "gazetteer".
    """
    names, spans = _names(), []
    for match in _WORD.finditer(text):
        for form in names.get(match[0], ()):
            whole = " ".join(form)
            end = match.start() + len(whole)
            if text.startswith(whole, match.start()) and not text[end : end + 1].isalnum():
                spans.append(Span(match.start(), end, "LOCATION", "gazetteer"))
                break
    return spans
