"""Cells that nobody wrote: the error of a formula that failed, or a template that was not filled in."""

import re
from typing import Final

# Spreadsheet programs translate their errors: #VALUE! is #WERT! in German and #¡VALOR! in Spanish. All are in capitals.
_ERROR: Final = re.compile(r"#[¡¿]?[^\W\d_][\w/. ]{0,40}[!?！？]")
_BARE_ERRORS: Final = frozenset(
    (
        *("#N/A", "#NV", "#N/D", "#N/B", "#I/T", "#Н/Д", "#Δ/Υ", "#YOK", "#SAKNAS", "#PUUTTUU", "#HIÁNYZIK"),
        *("#NENÍ_K_DISPOZICI", "#GETTING_DATA", "#OBTENIENDO_DATOS", "#N.A.", "#N/DISP", "#REF", "#VALUE", "#NAME"),
    )
)
_NUMBERED: Final = re.compile(r"(?:Err|Error|Erreur|Fehler|Errore|Erro|Virhe|Ошибка)\s?:\s?\d{3}", re.IGNORECASE)
_LOADING: Final = re.compile(
    r"(?:loading(?: data)?|(?:wird|daten werden) geladen|laden|chargement(?: en cours)?|cargando|carregando"
    r"|caricamento(?: in corso)?|загрузка|読み込み中|加载中|載入中|로드 중)\s*(?:\.{3}|…)",
    re.IGNORECASE,
)
_TEMPLATE: Final = re.compile(
    r"\{\{[^{}]*\}\}|\{%[^{}]*%\}|\$\{[^{}]*\}|\{(?:[^\W\d][\w .-]{0,40}|\d{0,3})\}|\[\[[^\[\]]*\]\]|<%[^<>]*%>"
    r"|<<[^<>]*>>|<[^\W\d][\w ]{0,40}>|%[^\W\d]\w*%|%\(\w+\)s|\*\|[^|]*\|\*|__[A-Z][A-Z_]*__"
    r"|\[object \w+\]|undefined"
)
_INSIDE: Final = re.compile(
    r"\{\{[^{}]*\}\}|\$\{[^{}]*\}|<%[^<>]*%>|\[object \w+\]"
    r"|#(?:N/A|NV\b|(?:REF|VALUE|WERT|BEZUG|DIV/0|SPILL|ERROR)!|NAME\?)"
)
_MAYBE: Final = re.compile(r"[#{\[<$%*_:…]|\.\.\.|^undefined$")  # most cells have none of these
_LONGEST: Final = 80  # characters of such a cell


def failure(text: str) -> str:
    """What a cell is that nobody wrote, as the object of a sentence; "" for any other text."""
    text = text.strip()
    if len(text) > _LONGEST or not _MAYBE.search(text):
        return ""
    if (text.upper() == text and (_ERROR.fullmatch(text) or text in _BARE_ERRORS)) or _NUMBERED.fullmatch(text):
        return f"'{text}', the error of a formula that failed"
    if _LOADING.fullmatch(text):
        return f"'{text}', which a program shows before it has the value"
    rest, templates = _TEMPLATE.subn("", text)
    if templates and not any(map(str.isalnum, rest)):
        return f"'{text}', a template that was not filled in"
    return ""


def leftover(text: str) -> str:
    """The first failed formula or unfilled template inside a longer text; "" where there is none."""
    found = _INSIDE.search(text)
    return found[0][:_LONGEST] if found else ""
