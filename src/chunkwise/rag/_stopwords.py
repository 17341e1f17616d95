"""Words too common to tell documents apart, for questions in a few languages.

They are left out of a question while other words remain. The lists are short: a word that only
looks common costs little when kept, and much when dropped.
"""

from __future__ import annotations

_LISTS = {
    "de": "aber als am an auch auf aus bei bin bis da das dass dem den der des die dies diese "
    "dieser dieses du ein eine einem einen einer eines er es für hat haben hatte ich ihr im in ist "
    "ja kann mit nach nicht noch nur oder sich sie sind so über um und uns von vor war waren warum "
    "was welche welcher welches wenn wer werden wie wieviel wird wir wo wurde zu zum zur",
    "en": "a about am an and any are as at be been but by can could did do does for from had has "
    "have he her his how i if in into is it its me my no nor not of on or our s shall she should "
    "so such t than that the their them then there these they this those to too was we were what "
    "when where which while who whom whose why will with would you your",
    "es": "a al como con cual cuando cuál de del desde donde dónde e el ella en entre era es esta "
    "este esto está fue ha han hasta la las le lo los más no o para pero por qué que quien quién "
    "se ser si sin sobre son su sus también un una unos y ya",
    "fr": "à au aux avec ce ces cette comme comment d dans de des du elle en est et eu il ils je "
    "l la le les leur lui mais n ne nous on ou où par pas plus pour pourquoi qu quand que quel "
    "quelle quels qui s sa se ses si son sont sur un une vous y été",
    "it": "a ad al alla anche che chi ci come con cosa da dal del della delle di e ed è gli i il "
    "in io l la le lo ma nel nella non o per perché più quale quando quanto se si sono su sul un "
    "una uno",
    "pt": "a ao aos as com como da das de do dos e ela ele em entre era é foi mais mas na nas não "
    "no nos o onde os ou para pela pelo por qual quando que quem se sem ser seu são sua também "
    "um uma",
}

STOPWORDS = frozenset(word for words in _LISTS.values() for word in words.split())
