"""What Prefect shows of a row's task."""

import pytest
from prefect.states import Completed, Failed

from reelsheet.manifest.rows import Row
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowGroup
from tasks.generate_video import is_unexpected, state_of


def group(status: Status | None) -> RowGroup:
    row = RowGroup("a" * 64, Row(0, 2), [0])
    if status is not None:
        row.set_outcome(status, ErrorCode.GENERATION_FAILED, "The provider failed it.")
    return row


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN])
def test_a_row_without_its_clip_is_failed_with_its_sentence_and_not_tried_again(status):
    state = state_of(group(status), "SKU-001")
    assert (state.type.value, state.message) == ("FAILED", "SKU-001: The provider failed it.")
    assert not is_unexpected(None, None, state)


def test_a_skipped_row_is_no_failure():
    assert state_of(group(Status.SKIPPED), "SKU-001").name == "Skipped"
    assert state_of(group(None), "SKU-001").is_completed()


def test_only_what_no_code_foresaw_is_tried_again():
    assert is_unexpected(None, None, Failed(message="KeyError"))
    assert is_unexpected(None, None, Completed())
