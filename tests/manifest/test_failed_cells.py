"""Cells that nobody wrote, in the languages of spreadsheet programs."""

import pytest

from reelsheet.manifest.failed_cells import failure, leftover

ERRORS = {
    "English": "#REF #VALUE #N/A #NAME? #REF! #VALUE! #DIV/0! #NULL! #NUM! #SPILL! #CALC! #FIELD! #BLOCKED! #CONNECT! #BUSY! #PYTHON!",
    "Google": "#ERROR! #FEHLER! #ERREUR! #GETTING_DATA",
    "German": "#NV #BEZUG! #WERT! #ZAHL! #ÜBERLAUF! #KALK! #FELD!",
    "French": "#NOM? #VALEUR! #NUL! #NOMBRE! #EPARS! #DEBORDEMENT! #CHAMP!",
    "Spanish": "#N/D #¿NOMBRE? #¡REF! #¡VALOR! #¡DIV/0! #¡NUM! #¡DESBORDAMIENTO!",
    "Italian": "#NOME? #RIF! #VALORE! #NULLO! #ESPANSIONE!",
    "Dutch": "#N/B #NAAM? #VERW! #WAARDE! #DEEL/0! #GETAL!",
    "Polish": "#N/D! #NAZWA? #ADR! #ARG! #DZIEL/0! #LICZBA!",
    "Nordic": "#I/T #SAKNAS! #NAVN? #VÆRDI! #VÄRDEFEL! #PUUTTUU! #ARVO! #JAKO/0!",
    "Czech and Hungarian": "#NENÍ_K_DISPOZICI #NÁZEV? #HODNOTA! #DĚLENÍ_NULOU! #HIÁNYZIK #ÉRTÉK! #ZÉRÓOSZTÓ!",
    "Russian": "#Н/Д #ИМЯ? #ССЫЛКА! #ЗНАЧ! #ДЕЛ/0! #ЧИСЛО!",
    "Greek and Turkish": "#Δ/Υ #ΟΝΟΜΑ? #ΤΙΜΗ! #YOK #DEĞER! #SAYI/0! #BAŞV!",
    "East Asian": "#スピル! #溢出! #분산!",
}


@pytest.mark.parametrize("text", [error for errors in ERRORS.values() for error in errors.split()])
def test_the_errors_of_formulas_are_known_in_many_languages(text):
    assert "formula that failed" in failure(text)
    assert "formula that failed" in failure(f" {text}\n")
    assert not failure(f"{text} and more of a text"), "only as the complete cell"


@pytest.mark.parametrize("text", ["Err:502", "Err:509", "Err :522", "Fehler:508", "Erreur\u00a0:\u00a0502"])
def test_the_numbered_errors_of_libreoffice_are_known(text):
    assert "formula that failed" in failure(text)


@pytest.mark.parametrize(
    "text",
    ["Loading...", "loading…", "Loading data...", "Wird geladen...", "Chargement…", "Cargando...", "読み込み中..."],
)
def test_what_is_shown_while_a_value_is_on_its_way_is_known(text):
    assert "before it has the value" in failure(text)


@pytest.mark.parametrize(
    "text",
    [
        *("{{prompt}}", "{{ product.title }}", "{{}}", "${prompt}", "{prompt}", "{Product name}", "{0}", "{}"),
        *("<%= prompt %>", "{% prompt %}", "[[prompt]]", "<<prompt>>", "<prompt>", "<NA>", "%prompt%", "%(prompt)s"),
        *("*|PROMPT|*", "__PROMPT__", "[object Object]", "[object Promise]", "undefined"),
        *("{{a}} {{b}}", "{product}, {verb}.", "{{#if x}}{{y}}{{/if}}", "<name> - <move>"),
    ],
)
def test_templates_that_nobody_filled_in_are_known(text):
    assert "not filled in" in failure(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "#1",
            "#mug #gift",
            "#WOW",
            "#NEWIN",
            "# turn!",
            "#turn the cup!",
            "(#) slow!",
            "Loading the dishwasher...",
        ),
        *(
            "[Push in]",
            "[Pan left, Tilt up]",
            "(slow:1.2)",
            "50% slower",
            "$5 {on the label} turns",
            "Err",
            "Error: none",
        ),
        *(
            "{slow push in} of a cup",
            "5 < 6 > 4",
            "__init__ like",
            "undefined shapes",
            "Undefined",
            "NA",
            "none",
            "Loading",
        ),
        *("{{a}} cup, {{b}} light", "<b>bold</b>", "3:502", "x" * 500, "#" * 500, "{" * 500, "#N/A!" * 300),
    ],
)
def test_other_text_is_text(text):
    assert failure(text) == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A {{colour}} cup", "{{colour}}"),
        ("${a} and {{b}}", "${a}"),
        ("turns [object Object]", "[object Object]"),
        ("the #N/A cup", "#N/A"),
        ("#NVIDIA green, [Push in], {slow}", ""),
        ("a cup", ""),
    ],
)
def test_what_is_left_over_inside_a_text_is_found(text, left):
    assert leftover(text) == left
