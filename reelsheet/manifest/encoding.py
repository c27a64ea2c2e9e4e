"""The bytes of a CSV file as text: UTF-8 and UTF-16 with their marks, else what spreadsheet programs write.

Excel's "CSV" is in the code page of its system, and nothing in it says which. Guessing libraries find scripts, but are
confidently wrong among Latin code pages, where one byte is a letter in all of them. So each candidate must decode every
byte, and is judged by what its language looks like: letters where words have letters, and the characters that its texts
are mostly made of. What remains open, the caller compares: it may not matter for the cells that count.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from reelsheet.errors import ManifestError, UsageError
from reelsheet.redaction import clean

SAVE_AS_UTF8: Final = "save it with File > Save As > 'CSV UTF-8', or name its encoding with --encoding"
# Codec → what people call it.
NAMES: Final = {
    "cp1252": "Windows-1252 (cp1252, Western European)",
    "cp1250": "Windows-1250 (cp1250, Central European)",
    "cp1254": "Windows-1254 (cp1254, Turkish)",
    "mac_roman": "Mac Roman (mac_roman)",
    "cp1251": "Windows-1251 (cp1251, Cyrillic)",
    "cp1253": "Windows-1253 (cp1253, Greek)",
    "cp932": "Shift-JIS (cp932, Japanese)",
    "gb18030": "GB18030 (gb18030, Chinese)",
    "big5": "Big5 (big5, traditional Chinese)",
    "cp949": "EUC-KR (cp949, Korean)",
}
_LATIN: Final = ("cp1252", "cp1250", "cp1254", "mac_roman")
# What the programs write under these names has more characters than the standards of these names.
_SUPERSETS: Final = {
    "big5": "cp950", "shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030",
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "ascii": "cp1252",
}  # fmt: skip

_MARKS: Final = {  # the longer ones first
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BOM: Final = codecs.BOM_UTF8
_SAMPLE: Final = 1 << 20  # bytes of lines that are judged

# The letters beside a to z that a language writes, and what it never writes with them.
_WESTERN: Final = (
    ("äöüßéèàêâçñ", ""),
    ("àâæçèéêëîïôœùûü", r"è(?:\b|[aeiouyéèàœ])(?<!oè[mt])"),
    ("áéíñóúüçªº", ""),
    ("àèéìîòóùº", r"[àìòù]\B"),
    ("áâãàçéêíóôõúüªº", r"ã(?![oes]|\b)|õ(?!e)"),
    ("éëïóöüèêáç", ""),
    ("æøåéêóòôöäü", ""),
    ("åäöéàšžü", ""),
    ("àçèéíïòóúü", ""),
    ("áéíóú", ""),
    ("äõöüšž", ""),
    ("áðéíóúýþæö", ""),
)
_LANGUAGES: Final = {
    "cp1252": _WESTERN,
    "cp1250": (
        ("ąćęłńóśźż", ""), ("áčďéěíňóřšťúůýžöü", ""), ("áäčďéíĺľňóôŕšťúýž", ""), ("áéíóöőúüű", ""), ("čćđšž", ""),
        ("ăâîşţ", ""),
    ),
    "cp1254": (("çğıöşüâîûi\u0307", ""),),
    "mac_roman": _WESTERN,
}  # fmt: skip
_ICELANDIC: Final = frozenset("áðéíóúýþæö")  # where Turkish has other letters
_LEAST_SHARE: Final = 0.5  # of words that one language could have
_MARGIN: Final = 0.05

# The characters that texts of a script are mostly made of.
_COMMON: Final = {
    "cp932": (  # beside kana
        "動画回転雨雪花光風水火夜朝空海山川森木雲月日星人手顔目足女男子猫犬赤青白黒金銀緑大小上下左右前後中近遠高低速遅静音"
        "色影夏春秋冬柔美新古商品鏡瓶箱靴服布石皿茶酒食料理背景"
    ),
    "gb18030": (
        "的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么心多天而能好都然没"
        "日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长光色红白黑蓝绿黄金银镜推拉转旋慢速缓移远近影"
        "画视频特写产品杯瓶鞋包衣水花木桌背景柔和温暖明亮细节质感拍摄像机运左右环绕升降高低全身模走路风吹飘轻向随热气阳照，。、：；"
    ),
    "big5": (
        "的一是不了在人有我他這中大來上個國到說們為子和你地出道也時年得就那要下以生會自著去之過家學對可裡後小麼心多天而能好都然沒"
        "日於起還發成事只作當想看文無開手十用主行方又如前所本見經頭面公同三已老從動兩長光色紅白黑藍綠黃金銀鏡推拉轉旋慢速緩移遠近影"
        "畫視頻特寫產品杯瓶鞋包衣水花木桌背景柔和溫暖明亮細節質感拍攝像機運左右環繞升降高低全身模走路風吹飄輕向隨熱氣陽照，。、：；"
    ),
    "cp949": (
        "이다가는을에의한고로하지도를사기어서리나대정자시아인해그들수과만부일보장스전상제있라구것면주요여으원안동은니게선성비화무트위"
        "연되천회카메빛배경색느품컵병신발드럽줌확왼오른쪽따뜻피드돌움직모델미소걸물방울흐자광심테블흔꽃잎뒤앞"
    ),
    "cp1251": "оеаинтсрвлОЕАИНТСРВЛі",
    "cp1253": "αοιετσνρηυςΑΟΙΕΤΣΝάέίόήύ",
}


# What share of a text in a script is of its common characters at least.
_LEAST_COMMON: Final = {"cp932": 0.2, "gb18030": 0.25, "big5": 0.25, "cp949": 0.25, "cp1251": 0.4, "cp1253": 0.4}
# Bytes of a character → fewer of them are no evidence, unless all are common two-byte ones: Latin words never are.
_LEAST_CHARACTERS: Final = {2: 4, 1: 6}
_LEAST_GOOD: Final = 0.9  # share of characters that are ordinary in a script
_TOLERANCE: Final = 0.02  # share of words that may look wrong

_SIGNS: Final = "«»‹›„“”‚‘’–—…·•№°©®™§±×÷¹²³¼½¾€£¥¢µªº¿¡\xa0\xad"
_LETTER: Final = "A-Za-zÀ-ÖØ-öø-ňŊ-ž"
_CAPITAL: Final = "A-ZÀ-ÖØ-ÞŒŠŽŸĄĆĘŁŃŚŹŻČĎĚŇŘŤŮŐŰĂŞŢĞİ"
_LATIN_WORD: Final = re.compile(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*")
_EVIDENCE: Final = re.compile(r"[A-Za-z](?:[À-ÖØ-öø-ňŊ-ž]|’[A-Za-z])|[À-ÖØ-öø-ňŊ-ž][A-Za-z]")
_STANDING_ALONE: Final = frozenset("«»„“”‘’–—…•°©®™§±×÷½€£¥")
_VOWEL: Final = re.compile(r"[aeiouyà-æè-ïò-öøù-ýÿăąęěıőœůű]", re.IGNORECASE)
# What no Latin word looks like, in any of the code pages.
_NOT_LATIN: Final = re.compile(
    "|".join(
        (
            rf"[{_LETTER}][^\x00-\x7f{_LETTER}’·´…–—\xa0\xad][{_LETTER}]",  # a sign inside
            rf"(?<![{_LETTER}])[{_LETTER}][–—][{_LETTER}]|[{_LETTER}][–—][{_LETTER}](?![{_LETTER}])",
            rf"(?<=[^\W\d_{_CAPITAL}])(?![A-Z])[{_CAPITAL}](?![{_CAPITAL}])",  # a capital inside
            r"[^\x00-\x7f]{4}",  # nothing plain for so long
            rf"[¹²³¼½¾][{_LETTER}]|[{_LETTER}][¿¡§¼½¾]|[ˆ˜ƒŸ]|ß[A-Z]",
            rf"[^\x00-\x7f{_LETTER}{_SIGNS}´][{_LETTER}]|[{_LETTER}][^\x00-\x7f{_LETTER}{_SIGNS}´]",
        )
    )
)
_CONSONANT: Final = "bcdfgjklmnpqrstvwxzßçñ"
# What hardly stands in a text of Western Europe, though each sign of it does.
_NOT_WESTERN: Final = re.compile(
    "|".join(
        (
            rf"(?<=[{_LETTER}])(?<!\b[ODMN])’(?!(?:s|t|d|m|n|nt|re|ll|ve|em)\b)[{_CONSONANT}]",  # no elision
            r"œ(?![uidnsctle])|\Bœ(?![ut])",
            rf"[{_CONSONANT}]š[{_CONSONANT}]",
            r"\b[œšž]\b",
        )
    ),
    re.IGNORECASE,
)
_MAC_SPANISH: Final = re.compile(r"[aeiou]–[aeiou]|i—n\b")  # ñ and ó, read as Windows-1252
_MIXED_SCRIPTS: Final = re.compile(r"[A-Za-z][\u0370-\u04ff]|[\u0370-\u04ff][A-Za-z]")
_NOT_INSIDE: Final = re.compile(
    r"[\u03ac-\u03ce\u0430-\u044f][\u0386-\u03ab\u0410-\u042f]"  # a capital
    r"|[\u0386-\u044f][^\x00-\x7f\u0386-\u0491’–—…\xa0\xad][\u0386-\u044f]"  # a sign
)
_NOT_GREEK: Final = re.compile(r"ς(?=[\u0386-\u03ce])|[ΰϋ]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """`text` in UTF-8 without a mark. `others`: encodings that may be right as well, where it had to be guessed."""

    text: bytes
    encoding: str = "utf-8"
    is_guessed: bool = False
    others: tuple[str, ...] = ()
    warning: str = ""


def decode(content: bytes, name: str, encoding: str | None = None) -> Decoded:
    """The text of a CSV file; `encoding` is what its user says. Raises ManifestError or UsageError."""
    marked = next((known for mark, known in _MARKS.items() if content.startswith(mark)), "")
    if encoding is not None and not marked and not content.startswith(_BOM):
        return Decoded(_unmarked(_decoded_as(content, name, encoding)), encoding)
    warning = "--encoding was ignored: the file says itself that it is Unicode." if encoding is not None else ""
    try:
        return Decoded(_unmarked(content.decode(marked or "utf-8")), marked or "utf-8", warning=warning)
    except UnicodeDecodeError:
        if marked:
            raise ManifestError(
                f"{name} begins like {marked.upper()} text but is cut or damaged; {SAVE_AS_UTF8}."
            ) from None
    if damaged := _damaged_utf8(content):
        return damaged
    best, *others = _candidates(content)
    warning = (
        f"The file is not UTF-8, so it was read as {NAMES[best]}, a guessed encoding: check the text in the plan, or"
        f" {SAVE_AS_UTF8}."
    )
    return Decoded(_unmarked(content.decode(_codec(best))), best, True, tuple(others), warning)


def refuse_ambiguous(cells: Iterable[str], decoded: Decoded, name: str) -> None:
    """Raise ManifestError where one of these cells of a decoded file would read otherwise in one of `others`."""
    for text in (text for text in cells if not text.isascii()):
        for other in decoded.others:
            otherwise = _as(text, decoded.encoding, other)
            if otherwise != text:
                raise ManifestError(
                    f"{name} is not UTF-8, and reelsheet cannot tell what it is: '{clean(text, limit=60)}' in"
                    f" {NAMES[decoded.encoding]} would be '{clean(otherwise, limit=60)}' in {NAMES[other]}. Open the"
                    f" sheet and {SAVE_AS_UTF8}; nothing was spent."
                )


def _as(text: str, encoding: str, other: str) -> str:
    """The text that these bytes are in another encoding."""
    return text.encode(_codec(encoding), "replace").decode(_codec(other), "replace")


def _unmarked(text: str) -> bytes:
    return text.lstrip("\ufeff").encode("utf-8", "replace")


def _codec(encoding: str) -> str:
    return _SUPERSETS.get(codecs.lookup(encoding).name, encoding)


def _decoded_as(content: bytes, name: str, encoding: str) -> str:
    try:
        return content.decode(_codec(encoding.replace("\0", "?")))
    except LookupError:
        known = ", ".join(NAMES)
        raise UsageError(
            f"There is no encoding '{clean(encoding, limit=40)}' for --encoding; use utf-8 or one of {known}."
        ) from None
    except UnicodeError as error:
        line = content.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else 1
        raise ManifestError(
            f"{name} is not {clean(encoding, limit=40)} text (see its line {line}); leave --encoding out, and reelsheet"
            " says what it finds."
        ) from None


def _damaged_utf8(content: bytes) -> Decoded | None:
    """UTF-8 with a few other bytes in it, each of which becomes U+FFFD; None for anything else."""
    text = content.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text)))
    if not content.startswith(_BOM) and good < 4 * bad:
        return None
    warning = (
        "The file is UTF-8 except for a few bytes; rows with such bytes in the picture or the prompt are not sent."
    )
    return Decoded(_unmarked(text), warning=warning)


def _candidates(content: bytes) -> list[str]:
    """The encodings that the bytes may be in, the best first; there is always one."""
    lines = b"\n".join(line for line in content.splitlines() if not line.isascii())[:_SAMPLE]
    possible = [encoding for encoding in NAMES if _decodes(content, encoding)]
    plausible = _plausible_scripts(lines, possible) + _plausible_latin(lines, possible)
    return plausible or possible


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(_codec(encoding))
    except UnicodeDecodeError:
        return False
    return True


def _plausible_scripts(lines: bytes, possible: Iterable[str]) -> list[str]:
    """Those of the encodings of other scripts that the text looks like."""
    found: list[tuple[float, str]] = []
    for encoding in possible:
        if encoding not in _LEAST_COMMON:
            continue
        text = lines.decode(_codec(encoding), "ignore")
        characters = Counter(sign for sign in text if sign > "\x7f")
        count = characters.total()
        good = sum(number for sign, number in characters.items() if _is_ordinary(sign, encoding))
        common = sum(number for sign, number in characters.items() if _is_common(sign, encoding))
        faults = len(_MIXED_SCRIPTS.findall(text)) + len(_NOT_INSIDE.findall(text))
        faults += len(_NOT_GREEK.findall(text)) if encoding == "cp1253" else 0
        width = 1 if encoding in {"cp1251", "cp1253"} else 2
        if (
            (count >= _LEAST_CHARACTERS[width] or (width == 2 and common == count > 0))
            and good >= _LEAST_GOOD * count
            and common >= max(_LEAST_COMMON[encoding] * count, min(4, 0.4 * count))
            and faults <= _TOLERANCE * count
        ):
            found.append((common / count, encoding))
    found.sort(reverse=True)
    return [encoding for share, encoding in found if 2 * share > found[0][0]]


def _is_ordinary(sign: str, encoding: str) -> bool:
    """Whether a text in this encoding's script may well hold the character: rare ones speak of a wrong encoding."""
    if encoding == "cp1251":
        return "А" <= sign <= "я" or sign in "ЁёІіЇїЄєҐґЎў" or sign in _SIGNS
    if encoding == "cp1253":
        return "Ά" <= sign <= "ώ" or sign in _SIGNS
    code = sign.encode(_codec(encoding), "replace")
    if len(code) != 2:
        return False
    lead, trail = code
    if encoding == "cp932":
        return 0x81 <= lead <= 0x83 or 0x88 <= lead <= 0x97 or (lead == 0x98 and trail <= 0x72)
    if encoding == "big5":
        return 0xA1 <= lead <= 0xC5 or (lead == 0xC6 and trail <= 0x7E)
    return trail >= 0xA1 and (0xA1 <= lead <= 0xA3 or 0xB0 <= lead <= (0xC8 if encoding == "cp949" else 0xD7))


def _is_common(sign: str, encoding: str) -> bool:
    return sign in _COMMON[encoding] or (encoding == "cp932" and "\u3041" <= sign <= "\u30ff")


def _plausible_latin(lines: bytes, possible: Iterable[str]) -> list[str]:
    """Those of the Latin code pages that the text looks like: Windows-1252 alone where little speaks against it."""
    shares: dict[str, float] = {}  # of the words that one language could have
    western: list[str] = []
    for encoding in (encoding for encoding in possible if encoding in _LATIN):
        words = _LATIN_WORD.findall(lines.decode(_codec(encoding)))
        is_evident = any(map(_EVIDENCE.search, words)) or all(map(_stands_alone, words))
        if is_evident and sum(map(_is_no_word, words)) <= _TOLERANCE * len(words):
            share = max(_share(words, *language) for language in _LANGUAGES[encoding])
            if encoding == "cp1252" or share >= _LEAST_SHARE:
                shares[encoding] = share
            western = words if encoding == "cp1252" else western
    ranked = sorted(shares, key=lambda encoding: -shares[encoding])
    if "cp1252" not in shares:
        return [encoding for encoding in ranked if shares[encoding] >= shares[ranked[0]] - _MARGIN]
    own = shares["cp1252"]
    strange = (1 - own) * len(western)
    found = [encoding for encoding in ranked if shares[encoding] > max(own, 1 - _MARGIN)]
    if found and ((strange >= 3 and own <= 0.65) or (strange >= 8 and own <= 0.9)):
        return found
    is_doubtful = strange > 1 or own <= _LEAST_SHARE
    rivals = [encoding for encoding in ranked if shares[encoding] == 1 > own and (is_doubtful or encoding == "cp1254")]
    if (
        shares.get("cp1254") == 1
        and _letters("".join(western)) <= _ICELANDIC
        and _letters("".join(western)) & set("ðþý")
    ):
        rivals.append("cp1254")
    if shares.get("mac_roman") == 1 and any(map(_MAC_SPANISH.search, western)):
        rivals.append("mac_roman")
    if sum(1 for word in western if _NOT_WESTERN.search(word)) > _TOLERANCE * len(western):
        rivals += [encoding for encoding in ranked if encoding not in {*rivals, "cp1252"}]
    return ["cp1252", *rivals]


def _share(words: Sequence[str], letters: str, never: str) -> float:
    excluded = re.compile(never) if never else None
    fit = sum(_letters(word) <= set(letters) and not (excluded and excluded.search(word.casefold())) for word in words)
    return fit / len(words) if words else 1.0


def _letters(text: str) -> set[str]:
    return {sign for sign in text.casefold() if sign > "\x7f" and (sign.isalpha() or sign == "\u0307")}


def _stands_alone(word: str) -> bool:
    signs = [sign for sign in word if sign > "\x7f"]
    return len(signs) == 1 or _STANDING_ALONE.issuperset(signs)


def _is_no_word(word: str) -> bool:
    if _NOT_LATIN.search(word):
        return True
    letters = "".join(sign for sign in word if sign.isalpha())
    if len(letters) < 2 or letters.isascii():
        return False
    if not any(map(str.isascii, letters)):
        return len(letters) > 2 or not letters.islower()
    return len(letters) > 3 and not _VOWEL.search(letters)


# Text that was decoded wrongly before it came into the sheet


LOST: Final = re.compile(r"[\x80-\x9f\ufffd]")
# What a text may well be once its UTF-8 bytes are read as such.
_PLAIN: Final = re.compile(
    r"[\x00-\x7f\u00a0-\u017f\u0386-\u03ce\u0400-\u045f\u2010-\u2044\u20ac\u2122\u2190-\u21ff\u2600-\u27bf"
    r"\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\ufe0f\uff01-\uff5e\U0001f300-\U0001faff]*"
)


def is_garbled(text: str) -> bool:
    """True for text that surely went through a wrong encoding: C1 controls, U+FFFD, UTF-8 read as something else."""
    if text.isascii():
        return False
    if LOST.search(text):
        return True
    for encoding in ("cp1252", "mac_roman", "cp1251"):
        try:
            original = text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        others = [sign for sign in original if sign > "\x7f"]
        is_sure = len(others) > 1 or max(others) > "\u07ff" or re.search("[ÃÂ√]", text)  # else it may be chance
        if _PLAIN.fullmatch(original) and is_sure:
            return True
    return False
