"""Answers to polls in other words and forms than the API's page has: understood where they can mean one thing only."""

import json

import pytest

from reelsheet.outcomes import ErrorCode
from reelsheet.provider.prediction import Phase, PollResult, read_prediction

CLIP = "https://assets.example.com/0.mp4"
DONE = {"id": "p-1", "status": "completed", "outputs": [CLIP]}


def read(answer: object) -> PollResult:
    return read_prediction("p-1", json.dumps(answer).encode(), lambda text: text if isinstance(text, str) else "")


def test_an_answer_as_the_page_has_it_is_not_odd():
    assert read(DONE) == PollResult(Phase.COMPLETED, outputs=(CLIP,))
    assert read({"id": "p-1", "status": "failed", "outputs": None, "error": "no"}).odd == ""
    assert read({"id": "p-1", "status": "processing", "outputs": None}) == PollResult(Phase.RUNNING)


@pytest.mark.parametrize(
    "status",
    [
        "COMPLETED",
        "Completed ",
        "complete",
        "succeed",
        "SUCCEEDED",
        "success",
        "Successful",
        "done",
        "finished",
        "ready",
        "Completed!",
        "completed.",
        "JOB_STATE_SUCCEEDED",
        "TASK_STATUS_COMPLETED",
        "processed",
        "VIDEO_COMPLETED",
        "GenerationCompleted",
    ],
)
def test_other_words_for_completed_are_named_in_a_warning(status):
    result = read(DONE | {"status": status})
    assert (result.phase, result.outputs) == (Phase.COMPLETED, (CLIP,))
    assert f"the status {status.strip()!r}" in result.odd


@pytest.mark.parametrize(
    "status",
    [
        "fail",
        "FAILED",
        "failure",
        "Error",
        "cancelled",
        "CANCELED",
        "timed out",
        "aborted",
        "terminated",
        "Failed!",
        "TimedOut",
        "generation_failed",
    ],
)
def test_other_words_for_failed_are_named_in_a_warning(status):
    result = read({"id": "p-1", "status": status, "outputs": None, "error": "the picture is too small"})
    assert (result.phase, result.message) == (Phase.FAILED, "the picture is too small")
    assert result.error_code is ErrorCode.GENERATION_FAILED
    assert f"the status {status!r}" in result.odd


@pytest.mark.parametrize("status", ["blocked", "NSFW", "flagged", "Content Moderated", "request-moderated"])
def test_words_for_moderated_are_moderation(status):
    assert read({"id": "p-1", "status": status}).error_code is ErrorCode.MODERATED


@pytest.mark.parametrize(
    "status", ["Queueing", "IN_QUEUE", "in progress", "waiting", "submitted", "generating", "created", "InProgress"]
)
def test_other_words_for_processing_are_no_matter(status):
    assert read({"id": "p-1", "status": status}) == PollResult(Phase.RUNNING)


@pytest.mark.parametrize("status", ["dreaming", "", 2, ["completed"], {"state": "completed"}, True])
def test_a_status_that_nobody_knows_is_named_and_waited_for(status):
    result = read(DONE | {"status": status})
    assert result.phase is Phase.RUNNING
    assert result.message.startswith("an unknown status")


@pytest.mark.parametrize("status", ["ready", "ok", "available"])
def test_a_word_that_may_mean_the_beginning_needs_an_output(status):
    assert read({"id": "p-1", "status": status, "outputs": []}).message == f"an unknown status {status!r}"


@pytest.mark.parametrize(
    ("outputs", "place"),
    [
        ({"outputs": [{"url": CLIP}]}, "outputs (in another form)"),
        ({"outputs": CLIP}, "outputs (in another form)"),
        ({"outputs": json.dumps([CLIP])}, "outputs (in another form)"),
        ({"outputs": None, "result": json.dumps({"video": {"url": CLIP}})}, "result"),
        ({"outputs": [[{"src": CLIP, "type": "video/mp4"}]]}, "outputs (in another form)"),
        ({"outputs": [{"link": CLIP}]}, "outputs (in another form)"),
        ({"outputs": {"video": {"url": CLIP, "content_type": "video/mp4"}}}, "outputs (in another form)"),
        ({"outputs": [{"video": {"uri": CLIP}}]}, "outputs (in another form)"),
        ({"outputs": None, "output": CLIP}, "output"),
        ({"outputs": [], "output": [CLIP]}, "output"),
        ({"outputs": None, "output": {"video_url": CLIP}}, "output"),
        ({"outputs": None, "video": {"url": CLIP}}, "video"),
        ({"outputs": None, "videoUrl": CLIP}, "videoUrl"),
        ({"outputs": None, "result": {"videos": [{"url": CLIP}]}}, "result"),
        ({"outputs": None, "data": {"outputs": [CLIP]}}, ""),
        ({"outputs": None, "data": {"output": CLIP}}, "output"),
    ],
)
def test_outputs_elsewhere_are_found_and_named(outputs, place):
    result = read(DONE | outputs)
    assert (result.phase, result.outputs) == (Phase.COMPLETED, (CLIP,))
    assert result.odd == (f"the clip under {place!r}" if place else "")


@pytest.mark.parametrize(
    "outputs",
    [{"output": "done"}, {"url": "/relative.mp4"}, {"video": True}, {"result": [[[[[[CLIP]]]]]]},
     {"output": "ftp://example.com/0.mp4"}],
)  # fmt: skip
def test_what_is_no_output_is_none(outputs):
    assert read({"id": "p-1", "status": "completed", "outputs": None} | outputs) == PollResult(Phase.COMPLETED)


def test_pictures_beside_a_clip_are_no_clips():
    preview = "https://assets.example.com/0.jpg?size=1"
    assert read(DONE | {"outputs": [preview, CLIP]}).outputs == (CLIP,)
    assert read(DONE | {"outputs": [preview]}).outputs == (preview,)  # what it is, is said when it is fetched
    assert read(DONE | {"outputs": ["https://assets.example.com/0", preview]}).outputs[1:] == (preview,)


def test_an_answer_that_has_no_status_is_named_so():
    for answer in ({"id": "p-1", "outputs": [CLIP]}, DONE | {"status": None}):
        assert read(answer) == PollResult(Phase.RUNNING, "an answer without a status")
    assert (
        read({"id": "p-1", "status": {"state": "completed"}}).message
        == """an unknown status '{"state": "completed"}'"""
    )


@pytest.mark.parametrize("name", ["failure_reason", "failureReason", "error_message", "detail"])
def test_why_it_failed_is_found_under_its_usual_names(name):
    assert read({"id": "p-1", "status": "fail", name: "dark picture"}).message == "dark picture"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"prompt": ["is too long"]}, "prompt: is too long"),
        ({"cause": {"stage": "upscale"}}, '{"cause": {"stage": "upscale"}}'),
        (1234, "1234"),
    ],
)
def test_why_it_failed_is_said_in_whatever_shape_it_came(error, words):
    assert read({"id": "p-1", "status": "failed", "outputs": None, "error": error}).message == words


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ({"assets": {"video": CLIP, "image": "https://cdn.example/a.jpg"}}, "assets"),
        ({"task_result": {"videos": [{"address": CLIP}]}}, "task_result"),
        ({"output": {"text": CLIP}}, "output"),
        ({"outputs": None, "generated_video": CLIP, "webhook": "https://shop.example/hook"}, "generated_video"),
        ({"outputs": {"0": {"content": CLIP}}}, "outputs (in another form)"),
        ({"outputs": [], "creations": [{"a": CLIP}, {"b": CLIP}]}, "creations"),
    ],
)
def test_the_only_film_of_an_answer_is_the_clip_wherever_it_stands(answer, place):
    result = read({"id": "p-1", "status": "completed"} | answer)
    assert (result.phase, result.outputs) == (Phase.COMPLETED, (CLIP,))
    assert result.odd == f"the clip under {place!r}"


def test_of_several_films_in_unknown_places_none_is_chosen():
    other = CLIP.replace(".mp4", "-small.mp4")
    result = read({"id": "p-1", "status": "completed", "outputs": None, "files": {"full": CLIP, "small": other}})
    assert (result.phase, result.outputs) == (Phase.COMPLETED, ())


def test_a_number_of_thousands_of_digits_hides_no_clip():
    body = json.dumps(DONE)[:-1] + f', "seed": {"9" * 5000}}}'
    assert read_prediction("p-1", body.encode(), str).outputs == (CLIP,)


@pytest.mark.parametrize("envelope", ["data", "prediction", "result"])
@pytest.mark.parametrize(
    "around", [{}, {"code": 200, "message": "success"}, {"status": "success"}, {"id": "request-7"}]
)
def test_a_prediction_in_an_envelope_is_found_and_named(envelope, around):
    result = read({**around, envelope: DONE})
    assert (result.phase, result.outputs) == (Phase.COMPLETED, (CLIP,))
    assert result.odd == f"the prediction inside {envelope!r}"
    assert read({**around, envelope: {"id": "p-1", "status": "processing"}}).phase is Phase.RUNNING
    failed = read({**around, envelope: {"id": "p-1", "status": "failed", "error": "no"}})
    assert (failed.phase, failed.message) == (Phase.FAILED, "no")


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "completed", "outputs": [CLIP]},
        {"data": {"status": "completed", "outputs": [CLIP]}},
        {"data": {**DONE, "id": "p-2"}},
        {**DONE, "id": "p-2"},
        {**DONE, "id": 1},
        {**DONE, "prediction_id": "p-2"},
        {"data": [DONE]},
        {"anything": DONE},
    ],
)
def test_an_answer_without_the_asked_id_in_one_place_is_not_believed(answer):
    assert read(answer) == PollResult(Phase.BLIP, "an answer about another prediction")


def test_what_is_another_prediction_s_is_left_alone():
    other = {"id": "p-2", "outputs": [CLIP]}
    for beside in ({"data": other}, {"history": [other]}, {"batch": {"first": {"prediction_id": "p-2", "file": CLIP}}}):
        assert read({"id": "p-1", "status": "completed"} | beside) == PollResult(Phase.COMPLETED)


@pytest.mark.parametrize(("outer", "inner"), [("success", "processing"), ("completed", "failed"), ("failed", "done")])
def test_statuses_that_contradict_each_other_decide_nothing(outer, inner):
    result = read({"id": "p-1", "status": outer, "data": {"id": "p-1", "status": inner, "outputs": [CLIP]}})
    assert result == PollResult(Phase.RUNNING, "an answer with statuses that contradict each other")


def test_an_unknown_word_beside_a_known_one_is_no_contradiction():
    assert read(DONE | {"state": "archived"}).phase is Phase.COMPLETED
    assert (
        read({"id": "p-1", "state": "succeeded", "outputs": [CLIP]}).odd
        == "the status 'succeeded', the status under 'state'"
    )
