"""A sheet that holds the API key: its cells would be copied into the results, where the key must never be."""

import pytest
from pydantic import SecretStr

from reelsheet.errors import ManifestError

KEY = "vd-live-0123456789abcdef"


@pytest.mark.parametrize(
    ("sheet", "line"),
    [
        (f"image,prompt,note\nhttps://a.test/1.jpg,a,\nhttps://a.test/2.jpg,b,key {KEY}\n", 3),
        (f"image,prompt\nhttps://a.test/1.jpg?k={KEY},a\n", 2),
        (f"image,prompt,{KEY}\nhttps://a.test/1.jpg,a,b\n", 1),
    ],
)
def test_a_sheet_with_the_key_in_it_is_refused(desk, sheet, line):
    desk.settings = desk.settings.model_copy(update={"api_key": SecretStr(KEY)})
    with pytest.raises(ManifestError, match=f"Line {line} of .* holds the API key") as caught:
        desk.prepare(sheet)
    assert KEY not in str(caught.value)


def test_a_file_of_settings_is_no_sheet_whatever_its_column_is_called(desk):
    desk.settings = desk.settings.model_copy(update={"api_key": SecretStr(KEY)})
    settings = f"VIBEDREAM_BASE_URL=https://api.vibedream.ai\nVIBEDREAM_API_KEY={KEY}\n"
    with pytest.raises(ManifestError, match="holds the API key"):
        desk.prepare(settings, image_column="VIBEDREAM_BASE_URL=https://api.vibedream.ai")


def test_a_short_key_of_a_sandbox_may_be_a_word_of_the_sheet(desk):
    desk.settings = desk.settings.model_copy(update={"api_key": SecretStr("turn")})
    assert len(desk.prepare("image,prompt\nhttps://a.test/1.jpg,turn\n").manifest.rows) == 1
