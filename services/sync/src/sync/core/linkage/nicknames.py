"""Given names that people use for one another: facts of everyday usage, in a table of our own.

A row is one family of names; a name may be in several (Pat is Patrick and Patricia). That two names share a row says
only that one person may bear both.
"""

from __future__ import annotations

from typing import Final

_ROWS: Final = """
abigail abby gail; abraham abe bram; adelaide addie; agnes aggie; albert al bert bertie; alexander alex al sandy
xander sasha alec lex; alexandra alex sandra sasha lexi; alfred al alf fred freddie; alice ali; alison ali allie;
amanda mandy; amelia amy millie; andrew andy drew; angela angie; ann anna anne annie nan nancy hanna hannah; anthony
tony ant antonio; arthur art artie; augustus gus; barbara barb babs bobbie; bartholomew bart; beatrice bea trixie;
benjamin ben benny; bernard bernie barney; bradley brad; bridget bridie biddy; calvin cal; cameron cam; caroline
carrie caro lina; catherine katherine kathryn cathy kathy kate katie kay kit kitty catharina; cecilia celia cissy;
charles charlie chuck chas carlos; charlotte lottie charlie; christina christine chris tina chrissy; christopher chris
kit topher; clarence clare; clifford cliff; constance connie; cornelius neil corny; curtis curt; cynthia cindy; daniel
dan danny; danielle dani; david dave davy; deborah debra deb debbie; dennis denny; diana diane di; dominic dom nick;
donald don donnie; dorothy dot dottie dolly; douglas doug; edith edie; edmund ed eddie ned ted; edward ed eddie ned
ted teddy; edwin ed eddie; eleanor ellie nell nora lena; elizabeth liz lizzie beth betty betsy eliza elsie bess libby
lisa elisabeth; ellen nell ellie helen; emily em emmy millie; emma em emmy; ernest ernie; eugene gene; evelyn eve
evie; ezekiel zeke; florence flo florrie; frances fran frannie francesca; francis frank frankie fran francisco;
frederick fred freddie fritz; gabriel gabe; gabrielle gabby; geoffrey jeffrey geoff jeff; george georgie; gerald gerry
jerry; gertrude gertie trudy; gilbert gil bert; gordon gordie; grace gracie; gregory greg; gwendolyn gwen; harold hal
harry; harriet hattie; henry hank harry hal heinrich; herbert herb bert; howard howie; hubert bert; ignatius iggy
nacho; irene rene; isaac ike; isabel isabella belle izzy bella; jacob jake jack; jacqueline jackie; james jim jimmy
jamie jem; jane janie jenny; janet jan; jason jay; jean jeanie; jennifer jen jenny; jeremiah jerry; jeremy jerry;
jessica jess jessie; joan joanie; john johnny jack jon ian sean ivan juan johann hans; jonathan jon jonny nathan;
joseph joe joey jose giuseppe; josephine jo josie; joshua josh; judith judy; julia julie jill; katrina trina; kenneth
ken kenny; kimberly kim; kristin kris; laura laurie; lawrence laurence larry laurie; leonard leo len lenny; leonardo
leo; leroy roy; lillian lily lil; louis lou louie luis; louise lou; lucille lucy; madeline maddy; magdalena lena
magda; malcolm mal; margaret maggie meg peggy marge margie greta rita daisy; maria marie mary molly mia; marjorie
marge; mark marcus marco; martha marty mattie; martin marty; mary molly polly mamie; matilda tilly; matthew matt
mattie; maurice moe; maximilian max; melissa mel missy; michael mike mick mickey mikey miguel mikhail; michelle
shelly; mildred millie; mohammed mohamed muhammad mohammad mo; nathaniel nathan nat nate; nicholas nick nicky nicolas;
nicole nicky; norman norm; oliver ollie; olivia liv livvy; oscar ozzie; pamela pam; patricia pat patty tricia trish;
patrick pat paddy; paul pablo; paulina polly; penelope penny; peter pete pedro pyotr; philip phil; priscilla cilla;
rachel rae; ralph rafe; randolph randy; raymond ray; rebecca becky becca; reginald reg reggie; richard rick dick rich
ricky richie ricardo; robert bob rob bobby robbie bert roberto; roberta bobbie; roderick rod; rodney rod; roger rodge;
ronald ron ronnie; rosemary rose rosie; russell russ; ruth ruthie; samantha sam; samuel sam sammy; sandra sandy; sarah
sara sally sadie; sebastian seb bastian; sharon shari; shirley shirl; sidney sid; solomon sol; sophia sophie sofia;
stanley stan; stephanie steph stevie; stephen steven steve stevie esteban; stewart stuart stu; susan suzanne susanna
sue suzy susie; sylvia syl; terence terry; teresa theresa terry tess tessa; theodore ted teddy theo; thomas tom tommy
tomas; timothy tim timmy; tobias toby; ursula ursa; valerie val; vanessa nessa; veronica ronnie vera; victor vic;
victoria vicky tori; vincent vince vinny; violet vi; virginia ginny ginger; walter walt wally; wesley wes; wilfred
wilf fred; wilhelmina mina willa; william will bill billy willie liam wilhelm guillermo; winifred winnie; yelizaveta
liza lisa; aleksandr sasha alex; ekaterina katya katia; dmitrii dima mitya; evgenii zhenya; mariia masha; mikhail
misha; nataliia natasha; nikolai kolya; tatiana tanya; vladimir vova volodya; iurii yuri iuri; aleksei alexey alyosha;
guadalupe lupe; jesus chucho chuy; enrique quique; rafael rafa; manuel manolo manny; dolores lola; mercedes merche;
rosario charo; consuelo chelo; concepcion concha; ignacio nacho; alejandro alex ale; fernando nando; eduardo edu lalo;
roberto beto; alberto beto
"""

_NONE: Final[frozenset[int]] = frozenset()


def _families() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, row in enumerate(_ROWS.split(";")):
        for name in row.split():
            found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


FAMILIES: Final = _families()
"""Folded given name → the rows it stands in."""


def same_person_names(one: str, other: str) -> bool:
    """Whether a person may bear both given names (folded)."""
    return not FAMILIES.get(one, _NONE).isdisjoint(FAMILIES.get(other, _NONE))
