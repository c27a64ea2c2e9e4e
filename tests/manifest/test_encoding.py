"""CSV files as programs save them on systems of many languages: read right, or refused; never sent as mojibake."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import ManifestError, UsageError
from reelsheet.manifest import rows
from reelsheet.manifest.encoding import NAMES, decode, is_garbled

TEXTS = {
    "cp932": [
        *("ゆっくりとカメラが左に回転する", "湯気が立ちのぼるコーヒーカップ", "白い背景の前で商品がゆっくり回る", "猫が尻尾を振る"),
        *("彼女は微笑んで髪を風になびかせる", "夕日の海辺を歩くモデル", "水滴がボトルを伝う", "柔らかい自然光、浅い被写界深度", "ズームイン"),
    ],
    "gb18030": [
        *("镜头缓慢向左旋转", "白色背景前产品缓缓转动", "模特微笑着走向镜头，头发随风飘动", "水滴沿瓶身滑落", "猫摇尾巴"),
        *("红色连衣裙的裙摆轻轻摆动", "特写镜头，浅景深，柔和的自然光", "海边日落时分，海浪轻拍沙滩", "推近"),
    ],
    "big5": [
        *("鏡頭緩緩向左旋轉", "白色背景前產品慢慢轉動", "模特兒微笑走向鏡頭，頭髮隨風飄動", "水滴沿著瓶身滑落", "貓咪搖尾巴"),
        *("紅色洋裝的裙襬輕輕擺動", "特寫鏡頭，淺景深，柔和的自然光", "海邊日落，海浪輕拍沙灘", "推近"),
    ],
    "cp949": [
        *("카메라가 천천히 왼쪽으로 회전한다", "흰 배경 앞에서 제품이 천천히 돌아간다", "모델이 미소 지으며 걸어온다", "줌 인"),
        *("물방울이 병을 타고 흐른다", "부드러운 자연광, 얕은 심도", "고양이가 꼬리를 흔든다", "해질녘 바닷가에 파도가 밀려온다"),
    ],
    "cp1251": [
        *("Чашка медленно вращается на столе", "мягкий свет, тёплый тон", "капли воды стекают по бутылке", "крупный план", "кот"),
        *("Плаття повільно рухається на вітрі", "бавна ротация на продукта", "РЕЗКИЙ ЗУМ", "лепестки падают"),
    ],
    "cp1253": [
        *("το φλιτζάνι περιστρέφεται στο τραπέζι", "απαλό φως, ζεστός τόνος", "σταγόνες νερού κυλούν στο μπουκάλι"),
        *("κοντινό πλάνο", "ηλιοβασίλεμα στη θάλασσα", "Η ΚΑΜΕΡΑ ΠΛΗΣΙΑΖΕΙ", "αργό ζουμ"),
    ],
    "cp1252": [
        *("Langsamer Schwenk über die Küche", "Größe und Wärme, “golden hour”", "café crème, lumière dorée – zoom", "à gauche"),
        *("Caméra qui s’approche lentement, l’été à la mer", "La cámara gira lentamente, niño en el jardín"),
        *("Uma câmera lenta, emoção, pão quente", "La luce è calda, perché il caffè fuma", "Kameran zoomar in långsamt på bordet"),
        *("Kamera panorerer langsomt mod højre, røg fra kaffen", "Myndavélin færist hægt að bollanum, gufan stígur"),
        *("it’s a slow push in… wait", "5° tilt, ½ speed, 20 €", "cœur rouge, sœur", "hitaasti pyörivä kuppi, lämmin valo"),
        *("S’ha obert la finestra, l’aigua és clara", "¿Qué pasa? ¡Rápido!", "ÜBER DEN WOLKEN", "foto’s van de zeeën", "Škoda"),
    ],
    "cp1250": [
        *("Powolne zbliżenie kamery, ciepłe światło", "Filiżanka obraca się na stole, gęsta para", "Żółw idzie ścieżką"),
        *("Šálek se pomalu otáčí na stole, teplý tón", "Příliš žluťoučký kůň", "délután, őszi erdő, tűz"),
        *("pomalé priblíženie, mäkké svetlo, šálka sa otáča", "kameră lentă, lumină caldă, ceaşca se roteşte"),
    ],
    "cp1254": [
        *("kamera yavaşça yaklaşıyor, sıcak ışık", "Fincan masada yavaşça dönüyor", "altın yıldız"),
        *("İstanbul'da gün batımı, yumuşak gölgeler", "güneş doğuyor, çiçekler açıyor", "kırmızı elbise rüzgârda dalgalanıyor"),
    ],
    "mac_roman": [
        *("café crème, lumière dorée – zoom", "Langsamer Schwenk über die Küche", "Größe und Wärme", "crème brûlée", "Müsli"),
        *("La cámara gira lentamente, niño en el jardín", "Uma câmera lenta, emoção", "garçon", "El coche avanza rápido"),
    ],
}  # fmt: skip


def sheet(texts) -> str:
    return "sku,image,prompt\r\n" + "".join(
        f'A{n},https://cdn.shop.example/{n}.jpg,"{text}"\r\n' for n, text in enumerate(texts)
    )


def saved(texts, encoding: str) -> bytes:
    return sheet(texts).encode("cp950" if encoding == "big5" else encoding)


def prompts(content: bytes, **flags) -> list[str | None]:
    return [row.prompt for row in rows.parse(content, "shop.csv", **flags).rows]


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_sheet_of_some_rows_is_read_right_and_the_guess_is_named(encoding):
    texts = TEXTS[encoding][:3] if encoding == "cp1250" else TEXTS[encoding]  # nobody writes in so many languages
    found = rows.parse(saved(texts, encoding), "shop.csv")
    assert [row.prompt for row in found.rows] == texts
    assert f"read as {NAMES[encoding]}, a guessed encoding" in found.warnings[0]
    assert "--encoding" in found.warnings[0]
    assert all("(guessed encoding)" in " ".join(row.warnings) for row in found.rows)


@pytest.mark.parametrize("encoding", TEXTS)
def test_few_rows_are_read_right_or_refused(encoding):
    """Among Latin code pages, Windows-1252 is taken where its letters are possible, and the warning says so."""
    few = [[text] for text in TEXTS[encoding]] + [list(pair) for pair in combinations(TEXTS[encoding], 2)][::3]
    refused = western = 0
    for texts in few:
        assert prompts(saved(texts, encoding), encoding=encoding) == texts
        try:
            found = rows.parse(saved(texts, encoding), "shop.csv")
        except ManifestError as error:
            refused += 1
            assert "CSV UTF-8" in str(error)  # noqa: PT017 - or the right text
            assert "--encoding" in str(error)  # noqa: PT017 - or the right text
        else:
            if [row.prompt for row in found.rows] != texts:
                western += 1
                assert encoding in {"cp1250", "cp1254", "mac_roman"}
                assert "read as Windows-1252" in found.warnings[0]
    assert refused <= {"cp1252": 0.02}.get(encoding, 0.6) * len(few)
    assert western <= 0.1 * len(few)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("雨", "cp932"), ("ズーム", "cp932"), ("回転", "cp932"), ("雷", "cp932"), ("鏡頭", "big5"), ("慢", "big5"), ("推近", "big5"),
     ("慢", "gb18030"), ("旋转", "gb18030"), ("눈", "cp949"), ("회전", "cp949"),
     ("mañana", "mac_roman"), ("español", "mac_roman"), ("niño pequeño", "mac_roman"), ("acción", "mac_roman")],
)  # fmt: skip
def test_one_short_word_is_read_right_or_refused(text, encoding):
    try:
        assert prompts(saved([text], encoding)) == [text]
    except ManifestError as error:
        assert "CSV UTF-8" in str(error)  # noqa: PT017 - or the right text


@pytest.mark.parametrize(
    "text",
    [
        "café",
        "20 °C",
        "it’s slow",
        "Ärmel",
        "“Slow”",
        "pan—golden light",
        "slow–fast",
        "AÇÃO",
        "«Élan»",
        "½ turn",
        "Übung",
    ],
)
def test_one_western_word_is_not_taken_for_another_script(text):
    assert prompts(saved([text], "cp1252")) == [text]


def test_words_of_many_western_languages_in_one_sheet_are_windows_1252():
    texts = ["Größe", "café", "niño", "São Paulo", "Ærø", "naïve façade", "Húsavík", "þú", "cœur", "Øresund", "più"]
    assert prompts(saved(texts, "cp1252")) == texts


def test_letters_that_do_not_reach_picture_or_prompt_do_not_matter():
    """The name is Hungarian or Portuguese; the clip is the same."""
    content = "naam,image,prompt\r\nerdő,https://cdn.shop.example/1.jpg,turn\r\n猫,,\r\n"
    for encoding in ("gb18030", "cp932"):
        found = rows.parse(content.replace("ő", "").encode(encoding), "shop.csv")
        assert found.rows[0].prompt == "turn"
    for junk in (b"\x81", b"\xff\xfe\xfd", b"\x8d\x9d", "ёж".encode("cp1251"), "кот".encode("cp1251")):
        content = b"id,image,prompt\r\n" + junk + b",https://cdn.shop.example/1.jpg,turn\r\n"
        assert prompts(content) == ["turn"]


@pytest.mark.parametrize(
    "junk", [b"\x81\x8d\x8f", b"\xff\xff\xff", b"\xfe\xfd\xfc\xfb", "кот".encode("cp1251"), b"\x80\x81"]
)
def test_what_no_language_writes_is_refused(junk):
    with pytest.raises(ManifestError, match="CSV UTF-8"):
        prompts(b"image,prompt\r\nhttps://cdn.shop.example/1.jpg," + junk + b"\r\n")


def test_no_byte_becomes_a_control_character():
    for code in range(0x80, 0x100):
        content = b"image,prompt\r\nhttps://cdn.shop.example/1.jpg,a" + bytes([code]) + b"b\r\n"
        try:
            (found,) = rows.parse(content, "shop.csv").rows
        except ManifestError:
            continue
        assert not is_garbled(found.prompt)


# What its user says


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("cp1251", "cp1251"), ("Windows-1251", "cp1251"), ("shift_jis", "cp932"), ("GBK", "gb18030"), ("latin-1", "cp1252"),
     ("EUC-KR", "cp949"), ("Big5", "cp950"), ("macintosh", "mac_roman"), ("koi8-r", "koi8-r"), ("utf-16-le", "utf-16-le")],
)  # fmt: skip
def test_the_encoding_that_is_named_is_used_without_a_warning(name, encoding):
    text = {"cp932": "髙い山①", "gb18030": "镕", "cp949": "똠", "cp950": "碁", "cp1252": "“é”"}.get(encoding, "Kot")
    content = sheet([text]).encode(encoding)
    found = rows.parse(content, "shop.csv", encoding=name)
    assert (found.rows[0].prompt, found.warnings) == (text, ())


def test_an_encoding_that_does_not_exist_or_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="no encoding 'klingon' for --encoding; use utf-8 or one of cp1252"):
        prompts(saved(["x"], "cp1252"), encoding="klingon")
    for name in ("base64", "rot13", "hex", "kling\0n", "", "../x"):
        with pytest.raises(UsageError, match="no encoding"):
            prompts(saved(["x"], "cp1252"), encoding=name)
    with pytest.raises(ManifestError, match=r"is not utf-8 text \(see its line 3\)"):
        prompts(saved(["x", "Größe"], "cp1252"), encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_says_more_than_a_flag(encoding):
    found = rows.parse(sheet(["Größe"]).encode(encoding), "shop.csv", encoding="cp1250")
    assert found.rows[0].prompt == "Größe"
    assert "--encoding was ignored" in found.warnings[0]


# UTF-8 with other bytes in it


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rows_with_bytes_that_are_not_utf_8_are_not_sent_and_the_others_are(mark):
    content = (
        mark + sheet(["Größe und Wärme", "Küche, café, niño"])
    ).encode() + b"B,https://cdn.shop.example/b.jpg,Caf\xe9\r\n"
    found = rows.parse(content, "shop.csv")
    assert [bool(row.problems) for row in found.rows] == [False, False, True]
    assert "is garbled" in found.rows[2].problems[0]
    assert "UTF-8 except for a few bytes" in found.warnings[0]


# Text that was garbled before it came into the sheet


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Café au lait",
            "Größe",
            "Don’t “stop”",
            "naïve – façade",
            "Привет, мир",
            "ゆっくり回る",
            "慢慢推近",
            "커피잔",
            "5 €",
        ),
        *("Żółw", "¡Rápido!", "½ Liter 90°", "turn 🎥 slowly"),
    ],
)
@pytest.mark.parametrize("wrong", ["cp1252", "mac_roman", "cp1251"])
def test_utf_8_that_was_read_as_something_else_is_known(text, wrong):
    try:
        garbled = text.encode().decode(wrong)
    except UnicodeDecodeError:
        garbled = text.encode().decode(wrong, "replace")
    assert is_garbled(garbled) or (wrong == "cp1251" and text == "Café au lait"), "one pair of letters may be chance"
    assert not is_garbled(text)


@pytest.mark.parametrize("text", ["it\u0092s", "\u0085 and", "Gr\ufffd\ufffde"])
def test_letters_that_were_lost_are_known(text):
    assert is_garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "„Spaß“",
            "Gruß…",
            "“CAFÉ”",
            "«À LA MER»",
            "AMANHÃ",
            "MAÇÃ…",
            "Âme",
            "l’âme",
            "noir—été",
            "90° ±5",
            "São",
            "ÑU",
        ),
        *(
            "Øresund – Ærø",
            "É»",
            "Ï",
            "Ð",
            "àéî",
            "ÀÉÎ",
            "СССР»",
            "«СССР»",
            "Я…",
            "Ἀθῆναι",
            "日本",
            "한국",
            "naïve",
            "",
        ),
    ],
)
def test_text_that_is_merely_unusual_is_not_garbled(text):
    assert not is_garbled(text)


@given(st.binary(max_size=120))
def test_any_bytes_are_text_in_an_encoding_that_has_them(content):
    try:
        found = decode(content, "x.csv")
    except ManifestError as error:
        assert "CSV UTF-8" in str(error)  # noqa: PT017 - or text, either is right
        return
    found.text.decode()
    if found.is_guessed:
        assert {found.encoding, *found.others} <= set(NAMES)
