"""The first clause of an English sentence in the parts that a question turns round.

By word lists and endings, without a tagger: what it does not recognise is no clause. A wrong base
form ("did it develope") costs a question its spelling, not its sense.
"""

from __future__ import annotations

import re
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BE = _words("is are was were")
_AUXILIARIES = _BE | _words("has have had can could will would shall should may might must")
_PRESENT = _words(
    "allow apply arrive begin belong build carry charge close come connect consist consume "
    "contain cost cover define depend describe determine earn employ end exceed explain fall "
    "follow generate give go grow hold include keep last lead leave lie live make mean measure "
    "need offer open operate own pay produce provide reach receive refer replace require return "
    "rise run sell serve show sit spend stand start store support take use weigh work"
)
_IRREGULAR = (
    "began:begin became:become bore:bear bought:buy broke:break brought:bring built:build "
    "came:come caught:catch chose:choose cut:cut drew:draw fell:fall flew:fly found:find "
    "gave:give went:go grew:grow held:hold kept:keep knew:know lay:lie led:lead left:leave "
    "lost:lose made:make meant:mean met:meet paid:pay put:put ran:run rose:rise said:say "
    "saw:see sent:send set:set sold:sell spent:spend spoke:speak stood:stand struck:strike "
    "swam:swim taught:teach thought:think told:tell took:take won:win wore:wear wrote:write"
)
_PAST = dict(pair.split(":") for pair in _IRREGULAR.split())
_PARTICIPLES = _words(
    "been begun become bought brought built come found given gone grown held kept known led left "
    "lost made met paid put risen run said seen sent set sold spent stood taken told won written"
)
_NO_SUBJECT = _words(
    "it this that these those there he she they we you i his her its their our your my such "
    "both here what who which when where why how if while although though because since after "
    "before until unless as in on at for from by with to of under over during among between "
    "through despite instead and but or nor so yet also however therefore thus then note see "
    "one another others nobody nothing everyone everything someone something whether once"
)
_NOT_INSIDE = _words("that which who whom whose where when if because while although")
_BEFORE_A_NOUN = _words(
    "the a an each every all some any no most many more two three of in on at by for with and or "
    "its their his her our my your very newly to"
)
_LOWERED = _words("the a an each every all some most many no any both several few")
_HELPER_OF_HAVE = {"has": "does", "have": "do", "had": "did"}
_ADVERB = re.compile(r"(?:also|then|now|often|still|already|later|first|usually|\w+ly)\Z")
_CLAUSE_END = re.compile(
    r"[;:—–(]|, (?:which|who|whose|where|and|but|or|so|while|although|as|with|when|because)\b"
    r"|,? (?:because|while|although|whereas|unless|which|when|if|until|where)\b|\.\s|[.!]*\Z"
    r"| and (?=(?:[^\s,]+ ){1,6}(?:is|are|was|were|has|have|had|will|can)\b)"
)
_MOST_WORDS = 10  # of a subject


class Clause(NamedTuple):
    """A statement in three parts: `subject` and `rest` around the verb.

    Attributes:
        subject: As it stands within a sentence: "the pier".
        verb: As written: "was", "opened".
        helper: What a question begins with: "was", "did".
        base: What follows the subject in a question: empty, or "open".
        rest: What follows the verb, up to the end of the clause.
    """

    subject: str
    verb: str
    helper: str
    base: str
    rest: str

    @property
    def is_copula(self) -> bool:
        """Whether the verb is a form of "be"."""
        return self.verb in _BE

    def asked(self, word: str, rest: str) -> str:
        """The question that begins with `word` and ends with `rest`."""
        parts = (word, self.helper, self.subject, self.base, rest)
        text = " ".join(" ".join(parts).split()).rstrip(" ,.;:")
        return re.sub(r"\s+([,.;:])", r"\1", f"{text}?")


def clause_of(sentence: str) -> Clause | None:
    """The first clause, or None: no subject and verb that are recognised, or a negated one.

    Args:
        sentence: On one line, with single blanks.
    """
    end = _CLAUSE_END.search(sentence)
    words = sentence[: end.start() if end else None].split()
    first = re.split(r"['’]", words[0].lower())[0] if words else ""
    if not first or first in _NO_SUBJECT or first.endswith("ing"):
        return None
    for i in range(1, min(len(words), _MOST_WORDS + 2)):
        found = _verb(words, i)
        if found is not None:
            return _clause(words[:i], words[i], found, words[i + 1 :])
    return None


def _clause(
    subject: list[str], verb: str, parts: tuple[str, str], rest: list[str]
) -> Clause | None:
    while len(subject) > 1 and _ADVERB.match(subject[-1]):
        subject = subject[:-1]
    inside = {word.lower() for word in subject}
    is_open = subject[-1].lower() in _BEFORE_A_NOUN or any("," in word for word in subject)
    if is_open or inside & _NOT_INSIDE or len(subject) > _MOST_WORDS or not rest:
        return None
    if rest[0].lower() in ("not", "never", "no") or verb.endswith("n't"):
        return None
    if subject[0].lower() in _LOWERED:
        subject = [subject[0].lower(), *subject[1:]]
    return Clause(" ".join(subject), verb, *parts, " ".join(rest))


def _verb(words: list[str], i: int) -> tuple[str, str] | None:
    """Helper and base form of the word if it is the verb of a clause that begins with `words`."""
    word, before = words[i], words[i - 1].lower()
    after = words[i + 1].lower() if i + 1 < len(words) else ""
    if word in _AUXILIARIES:
        is_main = word in ("has", "have", "had") and not _is_participle(after)
        return (
            ({"has": "does", "have": "do", "had": "did"}[word], "have") if is_main else (word, "")
        )
    if before in _BEFORE_A_NOUN or after == "by":
        return None
    if word in _PAST:
        return "did", _PAST[word]
    if word in _SINGULAR and not (i == 1 and words[0].lower() in _BEFORE_A_NOUN):
        return "does", _SINGULAR[word]
    if re.fullmatch(r"[a-z]{3,}ed", word) and not word.endswith(("eed", "hundred")):
        return "did", _base(word)
    if word in _PRESENT and before.endswith("s") and not before.endswith("ss"):
        return "do", word
    return None


def _is_participle(word: str) -> bool:
    return word in _PARTICIPLES or bool(re.fullmatch(r"\w+(?:ed|en)", word))


def _singular(base: str) -> str:
    if base.endswith(("s", "x", "z", "sh", "ch", "o")):
        return f"{base}es"
    return f"{base[:-1]}ies" if re.search(r"[^aeiou]y\Z", base) else f"{base}s"


_SINGULAR = {_singular(base): base for base in _PRESENT}
_SILENT_E = re.compile(
    r"(?:[cvzu]|[^n]g|[ae]ng|ung|[nrl]s|[aeiou]{2}s|[^aeioulr]l|[^aeiou]rs)\Z"
    r"|(?:[^aeiou]|qu)[aiou][bdgklmnprst]\Z"
)
_NO_E = re.compile(r"(?:it|on|or|op|om|al|an|in[gk]|ur[nt]|ck|ss)\Z")


def _base(word: str) -> str:
    """The base form of a regular past, by its letters."""
    stem = word[:-2]
    if stem.endswith("i"):
        return f"{stem[:-1]}y"
    if re.search(r"([bdgklmnprt])\1\Z", stem) and not stem.endswith("ll"):
        return stem[:-1]
    needs_e = _SILENT_E.search(stem) and not _NO_E.search(stem)
    return f"{stem}e" if needs_e else stem
