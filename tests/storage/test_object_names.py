"""Names of clips: readable, safe everywhere, never shared by two identities."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import UsageError
from reelsheet.storage import object_names

ONE = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*[A-Za-z0-9_]|[A-Za-z0-9_]")
RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}

identities = st.binary(max_size=4).map(lambda seed: hashlib.sha256(seed).hexdigest())
PATHS = ("../../etc/passwd", "..\\..\\x", "/abs", "C:\\x", "CON", "nul.txt", "_nul.txt", "a/b", ".", "..", "-rf", "\0")
LETTERS = (
    " .hidden. ",
    "платье",
    "連衣裙",
    "a\u202eb",
    "ﬁne",
    "=cmd'/C calc'!A0",
    "%2e%2f",
    "{sku}",
    "é" * 300,
    "x" * 5000,
)
nasty = st.one_of(st.text(max_size=200), st.sampled_from(PATHS + LETTERS))


def assert_safe(name: str) -> None:
    assert len(name) <= 700
    for segment in name.split("/"):
        assert SAFE.fullmatch(segment), segment
        assert ".." not in segment
        assert segment.partition(".")[0].lower() not in RESERVED
        assert len(segment) <= 120


def test_a_clip_is_named_after_the_rows_id_with_eight_characters_of_the_identity():
    assert object_names.default_name("Summer dress 12", "walks", ONE, 1, 0) == f"Summer-dress-12-{ONE[:8]}"


def test_without_an_id_the_prompt_names_the_clip():
    name = object_names.default_name(
        "", "The camera pushes in slowly, golden light on the water and the hills", ONE, 1, 0
    )
    assert name == f"The-camera-pushes-in-slowly-golden-light-on-the-{ONE[:8]}"


@pytest.mark.parametrize(("row_id", "prompt"), [("", None), ("  ", ""), ("👗", None), ("***", "!!!")])
def test_where_nothing_is_readable_it_is_a_clip(row_id, prompt):
    assert object_names.default_name(row_id, prompt, ONE, 1, 0) == f"clip-{ONE[:8]}"


def test_a_further_attempt_has_its_number_and_a_further_output_too():
    made = [
        object_names.default_name("a", None, ONE, attempt, output) for attempt in (1, 2, 12) for output in (0, 1, 2)
    ]
    tails = [name.removeprefix(f"a-{ONE[:8]}") for name in made]
    assert tails == ["", "-out2", "-out3", "-2", "-2-out2", "-2-out3", "-12", "-12-out2", "-12-out3"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Crème brûlée", "Creme-brulee"),
        ("Straße & Übermut", "Strasse-Ubermut"),
        ("Łódź smørrebrød", "Lodz-smorrebrod"),
        ("it's", "its"),
        ("\uff11\uff12\uff13 ﬁne", "123-fine"),
        ("a - b -- c", "a-b-c"),
        ("v1.2_final", "v1.2_final"),
        ("a. . .b", "a.b"),
        (".hidden", "hidden"),
        ("trailing. ", "trailing"),
        ("CON", "_CON"),
        ("lpt1.old", "_lpt1.old"),
        ("Conrad", "Conrad"),
        ("платье 12", "plate-12"),
        ("連衣裙", "Lian-Yi-Qun"),
        ("ドレス ピンク", "doresu-pinku"),
        ("드레스", "deureseu"),
        ("فستان", "fstn"),
        ("12,5 cm", "12-5-cm"),
        ("👗", ""),
    ],
)
def test_a_slug_is_ascii_that_every_system_can_store(text, slug):
    assert object_names.slug(text) == slug


def test_a_long_slug_ends_at_a_word():
    assert object_names.slug("one two three four", 10) == "one-two"
    assert object_names.slug("x" * 50, 10) == "x" * 10


@given(nasty, st.one_of(st.none(), nasty), identities, st.integers(1, 99), st.integers(0, 9))
def test_a_default_name_is_always_one_safe_segment(row_id, prompt, identity, attempt, output):
    name = object_names.default_name(row_id, prompt, identity, attempt, output)
    assert "/" not in name
    assert identity[:8] in name
    assert_safe(name)


clips = st.tuples(nasty, identities, st.integers(1, 9), st.integers(0, 3))


@given(clips, clips)
def test_two_clips_never_share_a_default_name(one, other):
    """Whatever the cells hold, the name tells identity, attempt and output apart, without regard to case."""
    first, second = (object_names.default_name(cell, None, *clip) for cell, *clip in (one, other))
    if (one[1][:8], *one[2:]) != (other[1][:8], *other[2:]):
        assert first.lower() != second.lower()


# Templates

COLUMNS = ("SKU", "Campaign Name", "image", "Notes", "notes")


def render(text: str, cells: dict[str, str], identity: str = ONE, **more: int) -> str:
    return object_names.Template.parse(text, COLUMNS).render(cells, identity=identity, **more)


def test_a_template_takes_columns_without_regard_to_case_spaces_and_dashes():
    assert render("{sku}", {"SKU": "d 1"}) == f"d-1-{ONE[:8]}"
    assert render("{campaign_name}/{Sku}", {"SKU": "d1", "Campaign Name": "Spring"}) == f"Spring/d1-{ONE[:8]}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{sku}-{identity}", "d1-{}"),
        ("{sku}_{id8}", "d1_{}"),
        ("{sku}{id8}", "d1-{}"),
        ("{id8}-{sku}", "{}-d1"),
        ("{id8}", "{}"),
        ("{identity}/{sku}", "{}/d1"),
        ("{sku}-{id8}-x", "d1-{0}-x-{0}"),
        ("{sku}.mp4", "d1-{}"),
        ("2026/{sku}", "2026/d1-{}"),
        ("clip {sku} final", "clip-d1-final-{}"),
    ],
)
def test_the_identity_is_always_part_of_a_template_s_name(text, name):
    assert render(text, {"SKU": "d1"}) == name.format(ONE[:8])


def test_the_number_of_an_attempt_comes_last():
    assert render("{id8}/{sku}", {"SKU": "d1"}, attempt=3, output=1) == f"{ONE[:8]}/d1-3-out2"


def test_a_cell_makes_no_folders_and_leaves_none():
    assert render("{sku}", {"SKU": "../../etc/passwd"}) == f"etc-passwd-{ONE[:8]}"
    assert render("{campaign name}/{sku}", {"SKU": "a/b", "Campaign Name": ".."}) == f"none/a-b-{ONE[:8]}"
    assert render("{campaign name}/{sku}", {"SKU": "", "Campaign Name": "\\\\host"}) == f"host/clip-{ONE[:8]}"


def test_a_role_is_a_field_where_no_column_has_its_name():
    template = object_names.Template.parse("{id}", ("SKU", "image"), {"id": 0, "image": 1})
    assert template.render({"SKU": "d1"}, identity=ONE) == f"d1-{ONE[:8]}"


@pytest.mark.parametrize(
    "text",
    ["", "/x", "x/", "a//b", "../x", "{sku}/..", "./x", "a\\b", "{sku", "sku}", "{{sku}}", "a/b/c/d/e/f/{sku}"],
)
def test_a_template_that_leads_astray_is_refused(text):
    with pytest.raises(UsageError):
        object_names.Template.parse(text, COLUMNS)


def test_an_unknown_column_is_refused_with_the_columns_there_are():
    with pytest.raises(UsageError, match=r"\{colour\}.*it has: \{SKU\}, \{Campaign Name\}"):
        object_names.Template.parse("{colour}", COLUMNS)


def test_a_column_that_is_there_twice_is_refused():
    with pytest.raises(UsageError, match="2 times"):
        object_names.Template.parse("{notes}", COLUMNS)


fields = st.lists(st.sampled_from(["{sku}", "{campaign name}", "{id8}", "-", "_", ".", "x", " ", "é"]), min_size=1)
templates = st.lists(
    fields.map("".join).filter(lambda part: part.strip(" ") not in ("", ".", "..")), min_size=1, max_size=4
)


rows = st.tuples(st.fixed_dictionaries({"SKU": nasty, "Campaign Name": nasty}), identities)


@given(templates.map("/".join), rows, rows)
def test_a_template_s_names_are_safe_and_distinct(text, one, other):
    template = object_names.Template.parse(text, COLUMNS)
    first, second = (template.render(cells, identity=identity) for cells, identity in (one, other))
    assert one[1][:8] in first
    assert first.count("/") == text.count("/")
    assert_safe(first)
    if one[1][:8] != other[1][:8]:
        assert first.lower() != second.lower()


def test_identities_that_share_eight_characters_and_a_name_are_told_apart():
    near, nearer = "3fa91c02" + "a" * 56, "3fa91c02" + "b" * 56
    pairs = [(near, object_names.default_name("x", None, near)), (nearer, object_names.default_name("X", None, nearer))]
    pairs.append((ONE, object_names.default_name("x", None, ONE)))
    assert object_names.check_collisions(pairs) == {near, nearer}
    wide = [(one, object_names.default_name("x", None, one, width=object_names.WIDE)) for one in (near, nearer)]
    assert object_names.check_collisions(wide) == frozenset()


def test_duplicates_of_one_identity_collide_with_nobody():
    assert object_names.check_collisions([(ONE, "a"), (ONE, "a"), (OTHER, "b")]) == frozenset()


def test_an_identity_too_short_to_tell_clips_apart_is_refused():
    with pytest.raises(ValueError, match="identity"):
        object_names.default_name("x", None, "abc")
