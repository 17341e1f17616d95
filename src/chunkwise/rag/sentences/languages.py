"""What the rules know of each language: abbreviations, frequent words, whether `3.` is an ordinal.

Abbreviations are written without their last period, in lower case. Languages of other scripts
than Latin and Cyrillic need little: their terminators are unambiguous or their letters have no
case, so that only abbreviations count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Language:
    """Word lists of one language.

    Attributes:
        titles: Abbreviations that never end a sentence: a name or a text follows.
        numbered: Abbreviations that do not end a sentence before a number.
        general: Abbreviations that end a sentence only where a frequent word follows in upper case.
        frequent: Commonest words: they identify the language, and begin sentences.
        has_ordinal_period: A period after a number makes an ordinal: `3. Oktober`.
        months: First words after an ordinal that never begin a sentence.
    """

    titles: frozenset[str]
    numbered: frozenset[str]
    general: frozenset[str]
    frequent: frozenset[str]
    has_ordinal_period: bool = False
    months: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _language(
    *,
    titles: str = "",
    numbered: str = "",
    general: str = "",
    frequent: str = "",
    months: str = "",
    ordinal: bool = False,
) -> Language:
    return Language(
        titles=_words(f"{titles} mr mrs ms dr st"),
        numbered=_words(numbered),
        general=_words(general),
        frequent=_words(frequent),
        has_ordinal_period=ordinal,
        months=_words(months),
    )


UNKNOWN = _language()
"""Used where no language is known and the script is neither Latin nor in the table."""

LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        "en": _language(
            titles="vet mr mrs ms mx messrs dr prof st sr rev hon gov sen rep gen col maj capt cpt "
            "lt cmdr sgt cpl adm pres supt asst fr br vs v cf e.g i.e viz ed eds transl "
            "approx esp mt ft pvt atty insp amb mme mlle ph u.s.c f.supp",
            numbered="no nos vol vols p pp fig figs art arts sec secs ch chap eq eqs ref refs par "
            "para paras cl ver tel ext app op cir cit reg supp stat cong jan feb mar apr "
            "jun jul aug sep sept oct nov dec ca c",
            general="etc al inc ltd co corp llc plc bros jr dept univ assn ave blvd rd sq apt est "
            "min max avg misc a.m p.m u.s u.k u.n u.s.a d.c ph.d m.d b.a m.a b.c a.d esq "
            "mon tue tues wed thu thur thurs fri sat sun govt intl natl conn mass calif "
            "fla ill minn wis pa va wash ore ariz mich mo tenn tex colo kan ind okla ark "
            "attn conf info oz lb lbs in hr hrs yr yrs cal fed cert ibid id n.y n.j dist "
            "ct rptr cls l.ed s.ct",
            frequent="the of and to a in is it that he was for on are with as i his they be at one "
            "have this from or had by but what some we can out other were all there when "
            "your how an each she which do their if will up about many then them would so "
            "these her him has could no my than who its now did after our you not also "
            "however although because where why since while before during yes please "
            "thanks thank let here both under more most such only despite according "
            "another",
        ),
        "de": _language(
            titles="hr fr dr prof dipl ing st bzw z.b u.a d.h i.d.r vgl s sog ggf evtl inkl exkl "
            "zzgl insb insbes gem bzgl betr o.g u.u z.t v.a i.a m.e u.ä hl kgl geb gest "
            "verh röm dt engl frz griech lat franz ital span russ österr schweiz ehem "
            "eigtl allg bes hrsg a.d b.d sen rer nat phil med jur hon theol mag univ frhr "
            "gebr vors stellv z v a d u o i b m w e j h k",
            numbered="nr nrn abs art bd bde kap s str tel ziff abb aufl jh jhd jhs par lit rn rz "
            "ca max min mind mio mrd std jan feb mär apr jun jul aug sep sept okt nov dez "
            "no §",
            general="usw etc u.s.w u.v.m bsp ff f v.chr n.chr chr co inc ltd jr al std tel str",
            frequent="der die das und ist von den mit in im zu nicht ein eine auf dem sich auch "
            "für als es an er war sie wird bei aus nach am werden hat dass des wurde so "
            "noch wie einen über einem zum haben nur oder aber vor zur bis mehr durch man "
            "sein wir ich ihr diese dieser dieses sind wenn seit ihre seine sehr hier da "
            "daher jedoch danach dort alle unter während kann was doch",
            months="januar jänner februar märz april mai juni juli august september oktober "
            "november dezember jahrhundert jahrhunderts platz rang klasse auflage "
            "bundesliga lebensjahr liga kapitel staffel etage stock tag mal runde "
            "weltkrieg",
            ordinal=True,
        ),
        "fr": _language(
            titles="m mm mme mmes mlle mlles dr pr me mgr st ste p.ex c.-à-d cf vs env av apr "
            "j.-c hab ex adj dir gén col cap lt",
            numbered="n no nos art arts al p pp vol t chap fig éd l r d ch sect tél janv févr avr "
            "juil sept oct nov déc",
            general="etc inc co ltd jr c.v boul ed éd coll trad",
            frequent="le la les de des et est en un une du que dans qui au pour par il sur pas "
            "plus se ce ne sont avec elle on son aux ses mais nous vous ils cette leur "
            "été a ou comme je tout si fait était peut même aussi lorsque lorsqu après "
            "sans très entre elles ces toutefois ainsi depuis selon toute tous sa lui",
        ),
        "es": _language(
            titles="sr sra srta sres dr dra dn d dª d.ª prof profa lic ing gral cnel sto sta s "
            "ud uds vd vds p.ej mons fco ma ej av avda arq excmo ilmo hno",
            numbered="no nº núm núms art arts pág págs p pp vol cap fig tel tfno c inc",
            general="etc cía ltda s.a ee.uu a.c d.c c.v jr inc co ltd a.m p.m c apdo admón",
            frequent="de la que el en y a los se del las un por con no una su para es al lo como "
            "más o pero sus le ha me si sin sobre este ya entre cuando todo esta ser son "
            "dos también fue había era muy años hasta desde está mi porque qué sólo han "
            "yo hay vez puede todos así nos ni parte tiene él uno donde ella ellos aunque "
            "además según durante tras estos estas ante embargo",
        ),
        "it": _language(
            titles="cod civ proc pen nav disp sig sigg sig.ra sigra dott dott.ssa dr prof avv "
            "ing arch geom on mons ca cfr p.es es s ss d vs rag gen col cap",
            numbered="n nn no art artt pag pagg p pp vol cap fig tel co l lett sez num c att cost",
            general="ecc etc s.p.a s.r.l inc ltd co a.c d.c jr seg segg",
            frequent="di e il la che in un a per è una con non del si da le dei della i al sono "
            "come più o ma alla delle gli lo se nel anche ha nella su dal ai questo "
            "questa era loro quando essere stato tra fra suo sua due solo dopo anni cui "
            "tutti lui lei ci quello dalla può molto prima fu l sulla sul egli ogni chi "
            "nei",
        ),
        "pt": _language(
            titles="sr sra srs sras srta dr dra drs prof profa eng d dom exmo exma ilmo v.exa "
            "v.s.ª st sto sta p.ex ex av gen cel cap ten sgt me des min",
            numbered="n no nº nos nºs art arts pág págs p pp vol cap fig tel inc al séc",
            general="etc ltda cia s.a jr a.c d.c inc ltd co obs r",
            frequent="de a o que e do da em um para é com não uma os no se na por mais as dos como "
            "mas foi ao ele das tem à seu sua ou ser quando muito há nos já está eu "
            "também só pelo pela até isso ela entre era depois sem mesmo aos ter seus "
            "quem nas me esse eles são num pelos elas havia seja qual nós lhe este esta "
            "segundo ainda sobre após desde",
        ),
        "nl": _language(
            titles="dhr mevr mw mej dr drs ir ing prof mr ds st bv b.v d.w.z o.a m.b.t i.p.v "
            "t.o.v i.v.m n.a.v m.n z.g bijv evt incl excl vgl resp jhr sr zgn ca o.l.v "
            "t.a.v h m.b.v t.b.v o.i.v",
            numbered="nr nrs art blz p pp afb fig deel dl par tel hfst jan febr apr aug sept okt "
            "nov dec vol",
            general="enz etc n.v jr sr e.d v.chr n.chr chr co inc ltd e.a u",
            frequent="de het een van en in is dat op te zijn met voor niet aan er om ook als door "
            "werd hij bij maar naar of uit ze dan tot zich nog wordt die deze was heeft "
            "over worden had kan meer geen ik je hun haar we wel na omdat toen waar onder "
            "tussen tegen zo zij dit alle al men sinds",
        ),
        "ru": _language(
            titles="г гг гр тов им св проф акад доц инж ген полк кап лейт т.е т.к т.н т.о см ср "
            "напр ул пр пер наб пл просп бул д кв корп стр с пос дер обл р оз о-в п ред "
            "сост лат греч англ нем фр итал исп кит яп рус сокр род а.с к м е и о н",
            numbered="гл ст рис табл стр с п пп ч т тт вып вв в № разд тел кн изд",
            general="др пр т.д т.п тыс млн млрд трлн руб коп долл мин сек час см мм км кг га гг г "
            "в вв н.э экз ед чел шт",
            frequent="и в не на я что он с как это а то все она так его но да ты к у же вы за бы "
            "по только ее мне было вот от меня еще нет о из ему теперь когда даже ну "
            "вдруг ли если уже или ни быть был него до вас нибудь опять уж вам для мы их "
            "чем была сам чтоб без также однако при после этот эта эти который были во со "
            "под между",
        ),
        "uk": _language(
            titles="р рр ст ім проф акад доц ген вул пр бул м с смт обл т.з т.ч ред див напр",
            numbered="гл ст рис табл стор с п пп ч т вип №",
            general="ін т.д т.п тис млн млрд грн хв год см км кг н.е",
            frequent="і в не на я що він з як це а то все вона так його але та ти до у ж ви за б "
            "по тільки її мені було від ще ні про із йому коли навіть чи якщо вже або "
            "бути був для ми їх також який були під між",
        ),
        "tr": _language(
            titles="dr prof doç yrd av sn hz st vs örn bkz mah cad sok alb gen yzb müh mim uzm "
            "öğr gör op ecz dz tuğg korg org",
            numbered="no s ss sf cilt md c tel nu",
            general="vb vd a.ş ltd şti m.ö m.s inc co t.c b.a.e",
            frequent="ve bir bu da de için ile çok o ne gibi daha var olarak ama en kadar sonra "
            "olan ben her ya diye ki değil mi biz iki yok şey onun sen önce olduğu bunu "
            "zaman böyle hiç ise şimdi kendi hem onu bana bütün ancak göre bile onlar "
            "nasıl çünkü",
            months="ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık "
            "yüzyıl yüzyılda yüzyılın kat sınıf dünya",
            ordinal=True,
        ),
        "fi": _language(
            titles="esim ks vrt ym mm ns nk tri prof toht dr st hra rva so t.s huom k o mr ts "
            "siht os päätoim",
            numbered="n nro s ss luku kpl puh klo art noin §",
            general="jne yms ym tms oy ab jr eaa ekr jkr ap ip mrd milj",
            frequent="ja on ei se että oli joka hän mutta ovat kun niin myös kuin sen ole hänen "
            "mukaan jos tai vain nyt sitä olla jo siitä minä mitä sekä tämä olen vielä "
            "ollut kanssa siellä voi siis koska ne sitten me he tässä tämän kaikki jotka "
            "eivät kuitenkin noin lisäksi näin itse oma",
            months="tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta "
            "elokuuta syyskuuta lokakuuta marraskuuta joulukuuta",
            ordinal=True,
        ),
        "pl": _language(
            titles="dr prof mgr inż hab gen płk kpt por ppłk ks bp abp św im ul al pl os np tj "
            "tzn tzw m.in ww wg ok zob red pt ob jw dot godz lek adw sz",
            numbered="nr str s rys tab t poz art ust pkt par rozdz tel r w wyd zm",
            general="itd itp in tys mln mld zł gr r w ha km cm n.e p.n.e sp z o.o dn",
            frequent="i w na z nie się do to że jest o jak po za co od ale przez dla był tak tym "
            "ten jego czy są już tylko by może jej oraz być lub gdy także ich więc przy "
            "było została który która które ze ma pod nad przed roku został jednak",
            months="stycznia lutego marca kwietnia maja czerwca lipca sierpnia września "
            "października listopada grudnia",
            ordinal=True,
        ),
        "cs": _language(
            titles="dr mgr ing prof doc mudr judr rndr phdr bc sv např tj tzv resp mj ul nám tř "
            "p arch gen plk kpt por",
            numbered="č str s obr tab odst čl sv roč tel r §",
            general="atd apod tis mil mld kč n.l př.n.l a.s s.r.o",
            frequent="a se v na je že o s z do i to k ve pro za by ale si po jako jsem od jeho "
            "nebo bylo byl jsou která který které jen už při také jak před však byla aby "
            "má podle",
            months="ledna února března dubna května června července srpna září října listopadu "
            "prosince století",
            ordinal=True,
        ),
        "sv": _language(
            titles="t.ex bl.a d.v.s dvs m.fl s.k dr prof st bl f.d e.d resp inkl exkl ca fr hr",
            numbered="nr s kap art fig vol tel kl jan feb apr aug sept okt nov dec",
            general="osv m.m etc o.s.v f.kr e.kr kr ab jr mfl mm",
            frequent="och i att det som en på är av för med till den har de inte om ett han men "
            "var jag sig från vi så kan när år under också efter eller nu sin där vid mot "
            "ska skulle kommer ut får finns vara hade alla hon dem mycket än här då över "
            "bara in blir",
        ),
        "da": _language(
            titles="f.eks bl.a dvs d.v.s hr fr dr prof skt st evt inkl ekskl ca jf pga mht vedr",
            numbered="nr s kap art stk fig bd tlf kl jan feb mar apr jun jul aug sep sept okt nov "
            "dec pkt",
            general="osv m.m m.v etc kr mio mia jr aps a/s",
            frequent="og i at det er en til af på den for de med der ikke som et han var har jeg "
            "men om vi sig så kan fra ved efter nu når også hun eller havde skal ud over "
            "da være blev under mod hvor sin meget dem end denne",
            months="januar februar marts april maj juni juli august september oktober november "
            "december",
            ordinal=True,
        ),
        "no": _language(
            titles="f.eks bl.a dvs d.v.s hr fr dr prof st evt inkl ekskl ca jf pga mht",
            numbered="nr s kap art fig bd tlf kl jan feb mar apr jun jul aug sep sept okt nov des",
            general="osv m.m m.v etc kr mill mrd jr",
            frequent="og i det er på som en til å han av for at med var de ikke den har jeg om et "
            "men så seg hun hadde fra vi du kan da ble ut skal vil ham etter over ved "
            "også bare eller sa nå dette noe være meg mot opp der når inn dem kunne andre",
            months="januar februar mars april mai juni juli august september oktober november "
            "desember",
            ordinal=True,
        ),
        "ro": _language(
            titles="dl dna dra dr prof ing sf gen col str bd nr ex cf av jud",
            numbered="nr art alin p pag vol cap fig lit tel",
            general="etc s.a s.r.l ș.a ş.a î.hr d.hr",
            frequent="și în de la a cu pe nu din că este un o să pentru care mai se au ce prin sau "
            "fost lui ca al dar sunt după fi cele până fără aceasta acest această când "
            "într",
        ),
        "hu": _language(
            titles="dr prof ifj id özv pl ún kb stb ill szt gr br vö ld",
            numbered="sz old kb art kr tel",
            general="stb kft rt zrt bt i.e i.sz",
            frequent="a az és hogy nem is egy ez de volt meg csak már van el mint ha még ki aki "
            "fel azt be le vagy lehet után pedig voltak minden között szerint majd által "
            "ezt ezek",
            months="január február március április május június július augusztus szeptember "
            "október november december század században",
            ordinal=True,
        ),
        "el": _language(
            titles="κ κα κος δρ καθ αγ π.χ δηλ βλ σελ χλμ αρ λ",
            numbered="αρ σελ τηλ παρ άρθρο άρθρ",
            general="κ.λπ κλπ κ.ά μ.μ π.μ π.χ μ.χ α.ε",
            frequent="και το να η του ο της την με που για στο από είναι τα τον οι των σε θα ότι "
            "στην μια δεν ένα στη τη ή αλλά κατά ως είχε μας",
        ),
        "ar": _language(
            titles="د أ م أ.د ص.ب ت ج ه ق.م السيد",
            numbered="ص رقم ج",
            general="الخ إلخ",
            frequent="في من على أن إلى التي عن هذا مع الذي كان هذه لا ما كما لم بعد قد بين كانت",
        ),
        "fa": _language(
            frequent="و در به از که این را با است برای آن یک خود تا بر هم نیز شد می ها",
            titles="ر.ک",
        ),
        "ur": _language(frequent="کے میں کی ہے اور سے کا کو اس نے پر کہ ہیں یہ تھا بھی ایک"),
        "he": _language(
            titles="פרופ גב מס עמ ר", frequent="של את על לא הוא זה עם כי גם היא אל אם או היה יש"
        ),
        "hi": _language(titles="डॉ श्री प्रो पं सं रु कि.मी कु ई ए बी सी डी", numbered="नं पृ"),
    }
)
"""By ISO 639-1 code."""

THAI_OPENERS: Final = _words(
    "แต่ และ เมื่อ หลังจาก ก่อน อย่างไรก็ตาม นอกจากนี้ ดังนั้น เพราะ ถ้า หาก แม้ ทั้งนี้ โดย "
    "ต่อมา ในขณะที่ ใน เขา เธอ พวกเขา เรา ผม ฉัน มัน นี่ นั่น มี การ ความ ผู้ นาย นาง ตอน ทุก "
    "จาก ตาม สำหรับ จน ด้วย"
)
"""Words that begin a clause or sentence in Thai."""

THAI_FINALS: Final = _words("ครับ ค่ะ คะ นะ จ้ะ กล่าว แล้ว ด้วย เลย ก็ตาม")
"""Words that end a sentence in Thai."""

WORDS_TOO: Final = _words(
    "a al am apt art as c cl col d da dat de do dr e ed est et fig fr fri gen hab hr i ill in "
    "ind is jul l m mar max may med min mo mon n no o ok om on op or os pa par pol r s sat "
    "sec so st str sun t tel us van vet vol von vor wed y"
)
"""Abbreviations that are words as well: before upper case they are read as words."""
