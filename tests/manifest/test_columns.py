"""Which column is what, and the sentences for sheets where that cannot be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import ManifestError
from reelsheet.manifest.columns import assign_roles, is_usable, result_block, result_columns, unused_warnings
from reelsheet.outcomes import RESULT_COLUMNS


@pytest.mark.parametrize(
    ("header", "role"),
    [
        *((name, "image") for name in ("image", "IMAGE", "Image URL", "image_link", "Image-Src")),
        *((name, "image") for name in ("images", "Img", "PHOTO", "Image Address", "photo_url", "Picture")),
        *((name, "image") for name in ("PictureURL", "pictures")),
        *((name, "image") for name in ("\ufeffimage", " image ", "Image\u00a0Url", "image\nurl")),
        *((name, "prompt") for name in ("Prompt", "text", "Motion", "Caption")),
        *((name, "prompt") for name in ("Motion Prompt", "Prompt (English)", "video_prompt", "PROMPTS", "motionprompt")),
        *((name, "prompt") for name in ("promptText", "Prompt v2", "IMAGEPrompt", "Prompt/Text", "3. Prompt")),
        *((name, "enable_prompt_expansion") for name in ("Enable Prompt Expansion", "enablePromptExpansion")),
        *((name, "enable_prompt_expansion") for name in ("prompt_expansion", "PROMPT-EXPANSION")),
        *((name, "id") for name in ("ID", "sku", "Handle", "name")),
        ("Take", "take"),
    ],
)  # fmt: skip
def test_columns_are_found_without_regard_to_case_spaces_and_dashes(header, role):
    columns = [header] if role == "image" else ["image", header]
    assert assign_roles(columns, {}, "x.csv")[role] == len(columns) - 1


def test_the_id_is_the_first_there_is_of_id_sku_handle_name():
    assert assign_roles(["Name", "Handle", "SKU", "image"], {}, "x.csv")["id"] == 2
    assert assign_roles(["Name", "Handle", "image"], {}, "x.csv")["id"] == 1
    assert assign_roles(["Name", "image", "ID"], {}, "x.csv")["id"] == 2
    assert "id" not in assign_roles(["image", "title"], {}, "x.csv")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (["image", "Photo"], ("'image'", "'Photo'")),
        (["image", "image"], ("'image' and 'image'",)),
        (["image", "text", "Caption"], ("'text'", "'Caption'")),
        (["image", "take", "Take"], ("'take'", "'Take'")),
        (["image", "prompt expansion", "enable_prompt_expansion"], ("'prompt expansion'", "'enable_prompt_expansion'")),
    ],
)
def test_two_columns_that_claim_one_role_are_named_in_the_refusal(header, named):
    with pytest.raises(ManifestError) as refusal:
        assign_roles(header, {}, "x.csv")
    assert all(name in str(refusal.value) for name in named)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (["image", "Motion Prompt", "caption"], "Motion Prompt"),
        (["image", "caption", "text", "Prompt (EN)"], "Prompt (EN)"),
        (["image", "Video Prompt", "prompt", "text"], "prompt"),
        (["image", "PROMPT", "Prompt notes"], "PROMPT"),
        (["image", "prompt_expansion", "Negative Prompt", "prompt id", "PromptStatus", "motion"], "motion"),
        (["image", "prompt_date", "prompt-version", "promptNotes", "Clip prompt"], "Clip prompt"),
        (["image", "Teleprompter", "prompted by", "caption"], "caption"),
    ],
)
def test_the_word_prompt_wins_over_caption_text_and_motion(header, taken):
    assert header[assign_roles(header, {}, "x.csv")["prompt"]] == taken


@pytest.mark.parametrize("aside", ["prompt id", "Prompt_Date", "negative prompt", "promptVersion", "Prompt-Status"])
def test_what_only_speaks_of_prompts_is_no_prompt_but_is_named(aside):
    for header in (["image", aside], ["image", "caption", aside]):
        roles = assign_roles(header, {}, "x.csv")
        assert roles.get("prompt") == (1 if "caption" in header else None)
        assert f"Column '{aside}' is not used" in unused_warnings(header, roles)[0]


def test_several_columns_with_the_word_prompt_are_named_in_the_refusal():
    header = ["image", "Motion Prompt", "caption", "Prompt (DE)"]
    with pytest.raises(ManifestError, match=r"'Motion Prompt' and 'Prompt \(DE\)' .* name one with --prompt-column"):
        assign_roles(header, {}, "x.csv")
    assert assign_roles(header, {}, "x.csv", is_empty=lambda place: place == 3)["prompt"] == 1
    assert assign_roles(header, {"prompt": "Prompt (DE)"}, "x.csv", is_empty=lambda place: place == 3)["prompt"] == 3


def test_a_typing_error_is_pointed_out_where_a_weaker_column_is_taken():
    header = ["image", "caption", "Promt"]
    assert "Column 'Promt' is not used" in unused_warnings(header, assign_roles(header, {}, "x.csv"))[0]


def test_a_flag_decides_between_two_claims():
    header = ["Image Src", "Photo", "Text", "Caption"]
    found = assign_roles(header, {"image": "photo", "prompt": "Caption"}, "x.csv")
    assert (found["image"], found["prompt"]) == (1, 3)


def test_a_flag_is_matched_exactly_first_and_loosely_after():
    assert assign_roles(["pic", "PIC"], {"image": "PIC"}, "x.csv")["image"] == 1
    assert assign_roles(["My Picture"], {"image": "my_picture"}, "x.csv")["image"] == 0
    with pytest.raises(ManifestError, match="'my-picture' and 'My Picture'"):
        assign_roles(["my-picture", "My Picture"], {"image": "mypicture"}, "x.csv")


def test_a_column_that_a_flag_takes_claims_nothing_else():
    found = assign_roles(["Text", "Motion"], {"image": "Text"}, "x.csv")
    assert found == {"image": 0, "prompt": 1}


def test_one_column_cannot_be_picture_and_prompt():
    with pytest.raises(ManifestError, match="one and the same column, 'image'"):
        assign_roles(["image"], {"prompt": "image"}, "x.csv")


def test_a_flag_that_names_no_column_is_told_what_there_is_and_what_is_near():
    with pytest.raises(ManifestError) as refusal:
        assign_roles(["image", "Promt text", "sku"], {"prompt": "prompt text"}, "x.csv")
    assert "--prompt-column" in str(refusal.value)
    assert "'image', 'Promt text', 'sku'" in str(refusal.value)
    assert "Did you mean 'Promt text'?" in str(refusal.value)


def test_a_sheet_without_pictures_is_told_what_there_is_and_what_is_needed():
    with pytest.raises(ManifestError) as refusal:
        assign_roles(["Imgae", "prompt", ""], {}, "x.csv")
    told = str(refusal.value)
    assert "'Imgae', 'prompt', number 3 (which has no name)" in told
    assert "image link" in told
    assert "--image-column 'Imgae'" in told


def test_a_row_in_the_place_of_the_header_is_recognised():
    with pytest.raises(ManifestError, match="a row and not the column names"):
        assign_roles(["https://cdn.shop.example/1.jpg", "A cup"], {}, "x.csv")


def test_thousands_of_columns_make_no_endless_sentence():
    with pytest.raises(ManifestError) as refusal:
        assign_roles([f"column {number} " + "x" * 500 for number in range(5_000)], {}, "x.csv")
    assert "4,970 more" in str(refusal.value)
    assert len(str(refusal.value)) < 4_000


@pytest.mark.parametrize(
    ("header", "image", "name"),
    [
        (["Handle", "Title", "Variant SKU", "Image Src", "Image Position", "Variant Image"], "Image Src", "Handle"),
        (["ID", "Type", "SKU", "Name", "Short description", "Images", "Parent"], "Images", "ID"),
        (["id", "title", "description", "link", "image link", "additional image link", "price"], "image link", "id"),
        (["id", "title", "image_link", "additional_image_link"], "image_link", "id"),
    ],
    ids=["Shopify", "WooCommerce", "Google Merchant", "Google Merchant feed"],
)  # fmt: skip
def test_the_exports_of_shops_are_understood(header, image, name):
    found = assign_roles(header, {}, "x.csv")
    assert header[found["image"]] == image
    assert header[found["id"]] == name
    assert "prompt" not in found


def test_a_column_with_a_typing_error_is_pointed_out():
    header = ["image", "promt", "prompt expnsion"]
    told = unused_warnings(header, assign_roles(header, {}, "x.csv"))
    assert "'promt'" in told[0]
    assert "--prompt-column" in told[0]
    assert "'prompt expnsion'" in told[1]


def test_a_missing_prompt_column_is_pointed_out():
    assert unused_warnings(["image"], {"image": 0}) == [
        "There is no prompt column: the clips are made from the pictures alone (see --prompt-column)."
    ]
    assert unused_warnings(["image", "prompt"], {"image": 0, "prompt": 1}) == []


def test_the_block_of_results_is_found_wherever_it_stands():
    header = ["image", *RESULT_COLUMNS, "notes"]
    assert result_block(header) == {name: 1 + at for at, name in enumerate(RESULT_COLUMNS)}
    assert result_block([name.upper() for name in header])


IDENTITY = "0123456789abcdef" * 4


def record(header, **cells):
    return [(2, [cells.get(name, "") for name in header])]


def test_a_block_with_a_column_missing_is_still_a_block():
    for name in RESULT_COLUMNS:
        header = ["image", *(other for other in RESULT_COLUMNS if other != name)]
        assert result_block(header, record(header, identity=IDENTITY)).keys() == {*RESULT_COLUMNS} - {name}


@pytest.mark.parametrize(
    "left",
    [
        ["status", "identity", "review"],
        ["status", "review", "identity", "attempt"],
        ["identity", "prediction_id", "run_id"],
        ["status", "error", "cost_usd", "total_cost_usd", "video_uri", "at_risk_usd", "review"],
        [name for name in RESULT_COLUMNS if name not in {"identity", "run_id", "video_sha256"}],
        [name for name in RESULT_COLUMNS if name != "status"] + ["my status"],
    ],
)
def test_what_people_leave_of_a_block_is_recognised(left):
    header = ["sku", "image", *left, "notes"]
    block = result_block(header, record(header, identity=IDENTITY, status="succeeded"))
    assert block == {name: place for place, name in enumerate(header) if name in RESULT_COLUMNS}


@pytest.mark.parametrize(
    "own",
    [
        ["status", "error", "warnings", "review", "width", "height", "attempt"],
        ["status", "identity", "review", "attempt", "run_id"],
        ["identity"],
        ["video_uri", "prediction_id", "error_code", "status"],
        ["cost_usd", "duration_s", "video_bytes", "video_uri"],
    ],
)
def test_a_sheet_of_somebody_else_s_that_has_some_of_our_names_has_no_block(own):
    header = ["sku", "image", *own]
    assert result_block(header, record(header, identity="Nordic", status="on sale")) == {}


def test_an_input_column_is_not_taken_for_ours_when_ours_was_deleted():
    header = ["image", "Status", "notes", *(name for name in RESULT_COLUMNS if name != "status")]
    assert "status" not in result_block(header, record(header, Status="on sale"))
    assert result_block(header, record(header, Status="Failed"))["status"] == 1


def test_a_block_whose_columns_were_moved_about_is_still_a_block():
    moved = ["review", "image", *(name for name in reversed(RESULT_COLUMNS) if name != "review")]
    assert result_block(moved)["review"] == 0
    own = [
        "reelsheet_status",
        "review",
        "status",
        *(name for name in RESULT_COLUMNS if name not in {"status", "review"}),
    ]
    assert result_block(own)["status"] == 0


def test_a_column_with_one_of_our_names_makes_ours_give_way():
    columns = ("image", "Status", "reelsheet_status", "error")
    ours = result_columns(columns)
    assert ours[:3] == ("reelsheet_status_2", "reelsheet_error", "error_code")


def test_the_wanted_columns_are_needed_for_a_header_to_do():
    assert is_usable(["image", "x"], {})
    assert not is_usable(["image", "x"], {"prompt": "y"})
    assert is_usable(["image", "x"], {"prompt": "X"})


names = st.sampled_from(
    [*RESULT_COLUMNS, "image", "prompt", "notes", "STATUS ", "reelsheet_status", "reelsheet_review_2"]
)


@given(st.lists(names, max_size=12))
def test_what_we_add_is_found_again_whatever_the_input_columns_are_called(columns):
    block = result_block([*columns, *result_columns(columns)])
    assert block == {name: len(columns) + at for at, name in enumerate(RESULT_COLUMNS)}
    assert len({*columns, *result_columns(columns)}) == len(set(columns)) + len(RESULT_COLUMNS)
