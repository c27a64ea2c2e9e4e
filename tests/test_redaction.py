"""Secrets leave nothing behind, and what is no secret stays."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reelsheet.redaction import MASK, SIGNATURES, clean, clean_url, unsigned, visible

PICTURE = "https://cdn.shop.test/a/b.jpg"
SECRET = "S3cr3tVa1ueThatMustNotBeKept"

# What signers append, as they write it. The value stands for every parameter's own.
SIGNED = {
    "aws4": (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={0}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token={0}"
        "&X-Amz-Signature={0}&x-id=GetObject"
    ),
    "aws4 in small letters": "x-amz-credential={0}&x-amz-signature={0}",
    "aws2": "AWSAccessKeyId={0}&Signature={0}&Expires=1767225600",
    "cloudfront": "Expires=1767225600&Signature={0}&Key-Pair-Id={0}",
    "cloudfront with a policy": "Policy={0}&Signature={0}&Key-Pair-Id={0}",
    "gcs4": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={0}&X-Goog-Expires=1&X-Goog-Signature={0}",
    "gcs2": "GoogleAccessId={0}&Expires=1767225600&Signature={0}",
    "azure": (
        "sv=2024-11-04&ss=b&srt=o&sp=r&se=2026-01-01T00%3A00%3A00Z&st=2025-01-01T00%3A00%3A00Z&spr=https&sr=b"
        "&skoid={0}&sktid={0}&skt=2026&ske=2026&sks=b&skv=2024-11-04&sig={0}"
    ),
    "oss1": "OSSAccessKeyId={0}&Expires=1767225600&Signature={0}&security-token={0}",
    "oss4": "x-oss-signature-version=OSS4&x-oss-credential={0}&x-oss-date=1&x-oss-expires=1&x-oss-signature={0}",
    "obs": "AccessKeyId={0}&Expires=1767225600&Signature={0}",
    "cos": "q-sign-algorithm=sha1&q-ak={0}&q-sign-time=1;2&q-key-time=1;2&q-header-list=&q-signature={0}",
    "akamai": "hdnts=exp=1767225600~acl=/*~hmac={0}",
    "akamai edge": "hdnea=st=1~exp=2~hmac={0}",
    "cloudflare": "verify=1767225600-{0}",
    "bunny": "token={0}&expires=1767225600",
    "nginx": "md5={0}&expires=1767225600",
    "many a shop": "expires=1767225600&signature={0}",
    "qiniu": "e=1767225600&token=ak:{0}",
    "volcano": "x-expires=1767225600&x-signature={0}",
}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
@pytest.mark.parametrize("form", ["?{0}", "?v=2&{0}", "?{0}&v=2", "?v=2&{0}&size=large", "?{0}#part"])
def test_one_picture_signed_twice_has_one_address(query, form):
    once = unsigned(PICTURE + form.format(query.format(SECRET)))
    again = unsigned(PICTURE + form.format(query.format("Another" * 4)))
    assert once == again
    assert SECRET not in once
    assert once == (PICTURE + form.format("")).replace("?&", "?").replace("&&", "&").removesuffix("&").replace(
        "?#", "#"
    ).removesuffix("?")


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_an_address_for_people_holds_no_signature(query):
    cleaned = clean_url(f"{PICTURE}?v=2&{query.format(SECRET)}&size=large#top")
    assert cleaned == f"{PICTURE}?v=2&size=large#top"


@pytest.mark.parametrize(
    "url",
    [
        f"{PICTURE}?v=2",
        f"{PICTURE}?size=large&w=800&h=600&fit=crop&fm=jpg&q=80",
        f"{PICTURE}?Expires=1767225600",
        f"{PICTURE}?Signature=abc",
        f"{PICTURE}?Signature=abc&Expires=1",
        f"{PICTURE}?policy=returns&v=1",
        f"{PICTURE}?token=red-dress",
        f"{PICTURE}?sig=abc&sv=large",
        f"{PICTURE}?se=1&sp=2&sr=3&st=4",
        f"{PICTURE}?verify=yes",
        f"{PICTURE}?x-oss-process=image/resize,w_200",
        f"{PICTURE}?versionId=abc",
        f"{PICTURE}?ex=1&is=2&hm=3",
        f"{PICTURE}?oh=1&oe=2",
        f"{PICTURE}?a=%41&b=ü&&c",
        f"{PICTURE}?",
        "https://shop.test/picture?signature=8d7f&expires=1767225600",
        "https://shop.test/picture?token=8d7f&expires=1767225600",  # the token may be what names the picture
        "https://drive.google.com/uc?export=download&id=abc&resourcekey=0-x",
        "https://www.dropbox.com/scl/fi/x/a.jpg?rlkey=abc&dl=1",
        "s3://bucket/key?X-Amz-Signature=part-of-the-key",
        "not an address?X-Amz-Signature=1",
        "",
    ],
)
def test_an_address_that_is_not_surely_signed_stays_as_it_is(url):
    assert unsigned(url) == url


def test_parameters_that_change_the_picture_stay_beside_a_signature():
    query = SIGNED["oss4"].format(SECRET)
    assert unsigned(f"{PICTURE}?x-oss-process=image/resize,w_200&{query}").endswith("?x-oss-process=image/resize,w_200")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"https://shop.test/picture/7?w=9&expires=1767225600&signature={'0a' * 32}", "w=9"),
        ("https://cdn.discordapp.com/attachments/1/2/a.png?ex=6&is=7&hm=8&width=9", "width=9"),
        ("https://scontent-x.fbcdn.net/v/a.jpg?stp=dst&_nc_cat=1&_nc_ohc=2&oh=3&oe=4", "stp=dst"),
        ("https://x.supabase.co/storage/v1/object/sign/shop/a.jpg?token=eyJh.eyJi.c&t=1", "t=1"),
        ("https://f002.backblazeb2.com/file/shop/a.jpg?Authorization=3_x&v=1", "v=1"),
    ],
)
def test_signatures_that_only_one_host_makes_are_known_there(url, kept):
    assert unsigned(url) == f"{url.partition('?')[0]}?{kept}"


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda entry: entry.maker)
def test_every_signature_in_the_table_drops_what_makes_it_one(signature):
    names = (*signature.needs, *signature.extras.split())
    assert all(signature.drops(name.rstrip("*")) for name in names)
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        (f"https://user:{SECRET}@shop.test/a.jpg", "https://shop.test/a.jpg"),
        (f"https://{SECRET}@shop.test/a.jpg", "https://shop.test/a.jpg"),
        (f"https://user:{SECRET}@@shop.test/a.jpg", "https://shop.test/a.jpg"),
        (f"postgresql://user:{SECRET}@db.test:5432/ledger", "postgresql://db.test:5432/ledger"),
        (f"postgresql+psycopg://user:a/{SECRET}@db.test/ledger", "postgresql+psycopg://db.test/ledger"),
        (f"postgresql://db.test/ledger?user=u&password={SECRET}", "postgresql://db.test/ledger?user=u"),
        (f"slack://{SECRET}/B/C", f"slack://{MASK}"),
        (f"mailtos://user:{SECRET}@mail.test", f"mailtos://{MASK}"),
        (f"https://hooks.slack.com/services/T0/B0/{SECRET}", f"https://hooks.slack.com/{MASK}"),
        (f"https://discord.com/api/webhooks/1/{SECRET}", f"https://discord.com/api/webhooks/{MASK}"),
        (f"https://api.telegram.org/bot1:{SECRET}/send", f"https://api.telegram.org/{MASK}"),
        (f"{PICTURE}?access_token={SECRET}&v=2", f"{PICTURE}?v=2"),
        (f"{PICTURE}?v=2&amp;X-Amz-Signature={SECRET}", f"{PICTURE}?v=2"),
        (f"{PICTURE}?v=2&X%2DAmz%2DSignature={SECRET}", f"{PICTURE}?v=2"),
        (f"{PICTURE}?v=2;sig={SECRET}", f"{PICTURE}?v=2"),
        (f"{PICTURE}#access_token={SECRET}", PICTURE),
        (f"{PICTURE}?key={SECRET}", PICTURE),
        (f"{PICTURE}?key=shoes/red.jpg", f"{PICTURE}?key=shoes/red.jpg"),
        (
            f"https://resize.test/?w=9&url={quote(f'{PICTURE}?sig={SECRET}', '')}",
            f"https://resize.test/?w=9&url={MASK}",
        ),
        (f"https://resize.test/{quote(f'{PICTURE}?token={SECRET}', '')}/w", f"https://resize.test/{MASK}/w"),
        (f"https://resize.test/?url=https://u:{SECRET}@shop.test/", f"https://resize.test/?url={MASK}"),
        (
            f"https://resize.test/?url={quote(quote(quote(f'{PICTURE}?X-Amz-Signature={SECRET}', ''), ''), '')}",
            f"https://resize.test/?url={MASK}",
        ),
        ("s3://bucket/a key.jpg", "s3://bucket/a key.jpg"),
        (
            "https://shop.test/sk-sneaker-2024-limited-edition.jpg",
            "https://shop.test/sk-sneaker-2024-limited-edition.jpg",
        ),
        ("/just/a/path.jpg?v=2", "/just/a/path.jpg?v=2"),
    ],
)
def test_passwords_keys_and_hooks_are_cut_from_addresses(url, cleaned):
    assert clean_url(url) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        f"GET {PICTURE}?X-Amz-Credential=x&X-Amz-Signature={SECRET} failed",
        f"GET /a/b.jpg?v=1&X-Amz-Signature={SECRET} HTTP/1.1",
        f"Authorization: Bearer {SECRET}",
        f"authorization: {SECRET}",
        f"'Authorization': 'Bearer {SECRET}'",
        f"Cookie: session={SECRET}; other={SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f'{{"x-session-token": "{SECRET}"}}',
        f"VIBEDREAM_API_KEY={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"password: {SECRET}",
        f"<SignatureProvided>{SECRET}</SignatureProvided>",
        f"<StringToSign>AWS4-HMAC-SHA256\n{SECRET}</StringToSign>",
        f"bad token=%20 or token={SECRET}",
        f"redirected to https://login.test/?continue={quote(f'{PICTURE}?token={SECRET}', '')}",
        f"could not reach postgresql://u:{SECRET}@db.test/ledger",
        f"json://{SECRET}@host/path is no address",
        f"Bear\x00er {SECRET[:9]}\x1b[31m{SECRET[9:]}",
        "key AKIA" + SECRET.upper()[:16],
        f"eyJhbGciOi.{SECRET}.abc",
        f"sk-live-{SECRET}",
    ],
)
def test_secrets_are_masked_in_any_text(text):
    found = clean(text)
    assert SECRET not in found
    assert SECRET.upper()[:16] not in found


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token: < at position 0",
        "Your request was flagged by content moderation. Please modify your prompt.",
        "policy: this picture is refused; expires: never",
        "The key 'prompt' is missing; Key=videos/a.mp4",
        f"{PICTURE}?v=2 answered 404 (not found).",
        "signature look for the basic tee, bearer of good news",
        "schöne Grüße — “ok” 👍🏽",
    ],
)
def test_plain_words_stay(text):
    assert clean(text) == text


def test_a_known_secret_is_masked_wherever_and_however_it_stands():
    odd = "p@ss word/ü"
    assert clean(f"a {odd} b {quote(odd)} c {quote(odd, safe='')}", (odd, "")) == f"a {MASK} b {MASK} c {MASK}"


def test_text_becomes_one_bounded_line():
    assert clean("  a\r\n\tb\u2028c\x07\u202ed\x9b31me ") == "a b cde"
    assert clean("x" * 1000) == "x" * 299 + "…"
    assert clean("word " * 100, limit=20) == "word word word word…"
    assert clean("\udcff") == "\ufffd"


def test_a_long_text_is_not_cut_in_the_middle_of_a_secret():
    assert SECRET[:8] not in clean(" " * 19_990 + SECRET, (SECRET,))


@pytest.mark.parametrize(
    "unit", ["a", "a.", "x-", "http://", "token", "%26", "cookie:; ", "\x1b]", "<Signature", '"api_key": "', ":@"]
)
def test_no_text_takes_long(unit):
    """A pattern that backtracks would take minutes here; the suite's own timeout is the judge."""
    clean(unit * 20_000)
    clean_url(unit * 2_000)


def test_a_terminal_is_shown_control_characters_and_does_not_obey_them():
    assert visible("a\x1b[31m\x00\x7f\r\nb") == "a␛[31m␀␡␍␊b"
    assert visible("\x9b\u202e\u2028") == "\\u009b\\u202e\\u2028"
    assert visible("\udcff") == "\ufffd"
    assert visible("Grüße 👩\u200d👧 नमस्ते") == "Grüße 👩\u200d👧 नमस्ते"


NAMES = st.sampled_from(
    [
        *("X-Amz-Signature", "x-amz-security-token", "X-Goog-Credential", "AWSAccessKeyId", "Signature", "sig"),
        *("token", "access_token", "api_key", "password", "hdnts", "key"),
    ]
)
ORDINARY = st.tuples(st.sampled_from(["v", "w", "size", "url", "q", "id"]), st.text("abc123%/:=?@.", max_size=12))
PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*")
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("/:@?&;=#%.*"), max_size=60)


@given(
    st.lists(ORDINARY, max_size=4),
    NAMES,
    st.lists(ORDINARY, max_size=4),
    st.sampled_from(["", "u:p@", f"{SECRET}@", f"u:{SECRET}@"]),
)
def test_no_secret_survives_whatever_stands_around_it(before, name, after, login):
    pairs = [*before, (name, SECRET), *after]
    url = f"https://{login}shop.test/a.jpg?" + "&".join(f"{key}={value}" for key, value in pairs)
    assert SECRET not in clean_url(url)
    assert SECRET not in clean(f"GET {url} failed")
    nested = f"https://proxy.test/?u={quote(url, safe='')}"
    assert SECRET not in clean_url(nested)


@given(TEXT | st.builds("https://{}/{}?{}#{}".format, TEXT, TEXT, TEXT, TEXT))
@example("http://a:b/c:d/e@f")
@example("https://a/?url=https%3A%2F%2Fu%3Ap%40h%2F")
def test_cleaning_twice_changes_nothing(url):
    once = clean_url(url)
    assert clean_url(once) == once


@given(TEXT | st.builds("https://{}/{}?{}#{}".format, TEXT, TEXT, TEXT, TEXT))
def test_unsigned_twice_changes_nothing(url):
    assert unsigned(unsigned(url)) == unsigned(url)


@given(st.text(max_size=200), st.integers(1, 400))
def test_cleaned_text_is_always_one_printable_line_within_its_limit(text, limit):
    found = clean(text, limit=limit)
    assert len(found) <= limit
    assert found == visible(found)
    assert "\n" not in found


@given(st.text(PRINTABLE, min_size=6, max_size=30), st.text(max_size=50), st.text(max_size=50))
def test_a_known_secret_never_survives(secret, before, after):
    assert secret not in clean(f"{before} {secret} {after}", (secret,))


@pytest.mark.parametrize("sign", "#?/")
def test_a_login_with_an_unescaped_sign_in_its_password_is_cut(sign):
    assert clean_url(f"https://user:hidden{sign}1@host.test/a") == "https://host.test/a"
    assert clean_url(f"https://host.test/a{sign}by=me@x.test").startswith("https://host.test/a")
