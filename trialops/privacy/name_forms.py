"""Nicknames, street words in their written forms, and words that are names as well as plain words."""

from __future__ import annotations

_NICKNAMES = """
william bill billy will willy liam|robert bob bobby rob robbie bert|richard dick rick ricky rich|james jim jimmy jamie|john jack johnny
|edward ed eddie ted ned|margaret maggie meg peggy marge greta rita|elizabeth liz lizzie beth betty betsy eliza libby lisa elsie
|katherine catherine kathryn kate katie kathy cathy kitty kay|thomas tom tommy|charles charlie chuck|joseph joe joey|michael mike mickey mick
|christopher chris kit topher|daniel dan danny|david dave davy|anthony tony|andrew andy drew|alexander alex sandy sasha xander
|alexandra alex sandra sasha lexi|benjamin ben benny benji|samuel sam sammy|samantha sam sammy|matthew matt matty|nicholas nick nicky klaus
|patrick pat paddy|patricia pat patty trish tricia|stephen steven steve stevie|timothy tim timmy|gregory greg|jeffrey geoffrey jeff geoff
|kenneth ken kenny|ronald ron ronnie|donald don donnie|lawrence laurence larry lars|leonard leo len lenny|frederick frederic fred freddie fritz
|francis frank frankie|frances fran fanny frankie|henry hank harry hal|harold harry hal|albert al bert bertie|arthur art artie|walter walt wally
|raymond ray|gerald jerry gerry|eugene gene|peter pete|philip phil pip|vincent vince vinny|victoria vicky tori|virginia ginny ginger
|dorothy dot dottie dolly|barbara barb barbie babs|susan susanna suzanne sue susie suzy|deborah debra deb debbie|jennifer jen jenny
|jessica jess jessie|rebecca becky becca|rachel rae|abigail abby gail|amanda mandy|angela angie|christina christine tina chris chrissy
|cynthia cindy|diana diane di|eleanor elinor ellie nell nora lenore|emily em emmy millie|evelyn eve evie|florence flo flossie|helen nell nellie lena
|isabella isabel bella izzy belle|jacqueline jackie|janet jan|joanna joanne jo|josephine jo josie|judith judy jude|julia julie jules
|kimberly kim|linda lindy|lillian lily lil|louise lou lulu|louis lewis lou louie|lucille lucy lucinda lou|martha marty mattie|mary molly polly mamie
|matilda tilda tillie mattie|mildred millie|nancy nan|natalie nat|nathaniel nathan nate nat|pamela pam|penelope penny|priscilla cilla
|roberta bobbie|rosemary rose rosie|rosa rose rosie|ruth ruthie|sarah sara sally sadie|stephanie steph|teresa theresa terry tess tessa|theodore ted teddy theo
|ursula ulla|valerie val|veronica ronnie vera|wilhelmina mina billie willa|zachary zach zack|winona winnie|winifred winnie freda|jolene jo|agnes aggie nessa
|bertha bertie berta|clara claire|delia dee|edith edie|hazel haze|irma emma|mabel mae|pearl pearlie|selma sel|abel abe|abraham abe bram|barnaby barney|darius dar
|elmer el|emil em|felix fee|gustav gus|augustus gus augie|harlan harl|jasper jas|lionel leo|percy perce|quentin quinn|rufus rufe|silas si|tobias toby|vernon vern
|ezekiel zeke|giovanni gianni vanni|giuseppe beppe peppe|francisco paco pancho francis|jose pepe|ignacio nacho|guadalupe lupe|dolores lola|johannes hans jan
|aleksandr sasha alex|dmitri dima mitya|ekaterina katya|mikhail misha|nikolai kolya|vladimir vova volodya|ivan vanya|maria mary masha mia|anastasia nastya ana
|heinrich heinz|friedrich fritz|margarete gretel grete|anna annie ann anne anya|anne annie nan|ann annie nan|gabriel gabe|gabriella gabby ella|isaac ike|jacob jake
|jonathan jon johnny|joshua josh|maximilian max|oliver ollie|olivia liv livvy|sebastian seb bastian|solomon sol|sylvester sly|wallace wally|wesley wes|clifford cliff
|clinton clint|curtis curt|dennis denny|douglas doug|ernest ernie|herbert herb bert|irving irv|jerome jerry|melvin mel|mitchell mitch|norman norm|oscar ozzie
|randolph randy|reginald reggie reg|roderick rod|rodney rod|russell russ|sidney sid|stanley stan|stuart stu|terrence terry|tyler ty|bartholomew bart
"""
_STREETS = """
street st str|avenue ave av|road rd|boulevard blvd boul|lane ln|drive dr drv|court ct|place pl|square sq|terrace ter terr|circle cir|highway hwy
|parkway pkwy|trail trl|crescent cres cr|close cl|north n|south s|east e|west w|northeast ne|northwest nw|southeast se|southwest sw|apartment apt
|suite ste|floor fl|building bldg|unit un|saint st|mount mt|fort ft|point pt|heights hts|junction jct|center centre ctr|expressway expy|freeway fwy
|strasse str|platz pl|calle c|avenida av avda|via v|rue r|route rte|post pob po
"""
_COMMON = """
the and for with was his her him has had not but are can may will who how all any she they them this that from art bill mark frank grant
may june april august summer autumn dawn eve joy hope grace faith rose lily iris ivy daisy violet olive hazel ruby pearl amber jade sky star
rich jack pat sue bob rob gene ray earl duke king prince guy dean major miles chase cash drew dale glen cliff reed heath forest brook lane
west north south east young old long short small little strong white black brown green gray grey red gold silver stone wood woods field fields
hill hills ford lake bush park parks rivers banks bridges church bell cook baker carter mason potter miller taylor turner walker fisher hunter
shepherd gardener porter butler page sharp wise swift noble bright day week may early late moon love loving nice good best better sweet low high
head hand foot bone blood heart back skin waters water rain snow frost winter spring fall post street road drive court place main center centre
park city town village union mill mills general hospital clinic medical health home house farm beach bay port harbor harbour valley view ridge
read reading mobile bath nice cork split tours orange lincoln can do an in on at to be is it if or so up us we my me no as of by go
ann lee see bus max sam dan don ken pam jan ben ted ned tom tim jim joe val kit gus art lou ira abel victor victoria christian constant
opal fern ada bruce charity chance clay colt crystal destiny ginger harmony holly honor ivy jewel melody mercy misty patience penny
price rice bean berry cherry parsley sage basil rosemary coffee sugar salt pepper fish lamb wolf fox bird crane drake finch swan
pain cough fever nausea rash positive negative normal stable acute chronic severe mild moderate patient subject doctor nurse visit note
"""


def _groups(text: str) -> dict[str, tuple[str, ...]]:
    others: dict[str, set[str]] = {}
    for group in text.split("|"):
        words = group.split()
        for word in words:
            others.setdefault(word, set()).update(w for w in words if w != word)
    return {word: tuple(sorted(rest)) for word, rest in sorted(others.items())}


#: A given name in lower case and the others it goes by.
NICKNAMES = _groups(_NICKNAMES)
#: A word of an address in lower case and its other written forms.
STREET_FORMS = _groups(_STREETS)
#: Words that, in lower case, are more often plain words than somebody's name or town.
COMMON_WORDS = frozenset(_COMMON.split())
