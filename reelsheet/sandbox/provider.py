# ruff: noqa: N815 - the provider's own spelling of its fields
"""The provider's REST API as its own page describes it.

`/api/v1/...` and `/assets/...` are the stand-in; `/sandbox/...` is for whoever tests against it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import FileResponse, HTMLResponse, Response

from reelsheet.sandbox import docs, samples
from reelsheet.sandbox.clips import Clips, cache_home, padding
from reelsheet.sandbox.configuration import Behaviour, Configuration
from reelsheet.sandbox.predictions import FAILURES, Prediction, Predictions, timestamp

MODELS: Final = {
    "i2v-pro": "MiniMax Hailuo 2.3 Pro",
    "i2v-fast": "MiniMax Hailuo 2.3 Fast",  # a second one, so that clients can be tried with another
}


class Submission(BaseModel):
    """What a generation is made from."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "example": {
                "prompt": "A beautiful sunset over mountains with golden light",
                "image": "https://example.com/your-image.jpg",
                "enable_prompt_expansion": False,
            }
        },
    )

    prompt: str = Field("", description="A text prompt to guide motion, camera style, or lighting.")
    image: str = Field(
        pattern="^[Hh][Tt][Tt][Pp][Ss]?://",
        description="Public image URL of the scene or subject. Accepted: JPEG, PNG, GIF, WebP.",
    )
    enable_prompt_expansion: bool = Field(
        default=False, description="Automatically optimizes the prompt; also activates the safety checker."
    )


class Submitted(BaseModel):
    """The answer to a submission: the prediction is accepted and charged."""

    id: str = Field(description="Unique prediction ID (UUID).")
    status: str = Field(description="Always processing here.")
    statusUrl: str = Field(description="Where the result can be polled.")
    estimatedTime: str = Field(description="For people: 5 seconds.")
    costCents: float = Field(description="What is charged, in US cents.")
    createdAt: str = Field(description="ISO 8601 timestamp of the submission.")


class Result(BaseModel):
    """A prediction as polling shows it."""

    id: str = Field(description="Unique prediction ID (UUID).")
    modelId: str = Field(description="ID of the model used for generation.")
    modelName: str = Field(description="Human-readable model name.")
    status: str = Field(description="One of: processing, completed, failed.")
    outputs: list[str] | None = Field(description="Direct download links; null while processing or failed.")
    error: str | None = Field(description="Why the generation failed; null otherwise.")
    createdAt: str = Field(description="ISO 8601 timestamp of the submission.")
    completedAt: str | None = Field(description="ISO 8601 timestamp of the end; null while processing.")


class Problem(BaseModel):
    """An answer other than 200. The provider does not say what its own look like."""

    error: str = Field(description="A stable code.")
    message: str = Field(description="A sentence.")


class Changes(Behaviour):
    """Any of these fields; what is not given stays as it is."""

    model_config = ConfigDict(json_schema_extra={"example": {"latency": 2.5, "capacity": 8}})


class StandIn:
    """What the handlers share, and the application (`app`) that they make up.

    `api` and `assets` are the origins that it is served at: http://127.0.0.1:PORT.
    """

    def __init__(self, configuration: Configuration, *, api: str, assets: str) -> None:
        self.configuration = configuration
        self.api = api
        self.assets = assets
        self.clips = Clips((configuration.cache or cache_home()) / "sandbox")
        self.predictions = Predictions(configuration.behaviour(), self.clips, seed=configuration.seed)
        self.app = _application()
        self.app.state.stand_in = self

    def knows_key(self, headers: Mapping[str, str]) -> bool:
        expected = f"Bearer {self.configuration.key}"
        return hmac.compare_digest(headers.get("authorization", "").encode(), expected.encode())

    def output_url(self, prediction: Prediction, number: int = 0) -> str:
        """The address of its `number`-th clip."""
        ended = prediction.completed or prediction.due
        return f"{self.assets}/assets/outputs/{prediction.id}/{int(ended.timestamp() * 1000)}-{number}.mp4"

    def submitted(self, prediction: Prediction) -> dict[str, Any]:
        """A `Submitted`."""
        seconds = max(1, round((prediction.due - prediction.created).total_seconds()))
        return {
            "id": prediction.id,
            "status": "processing",
            "statusUrl": f"{self.api}/api/v1/predictions/{prediction.id}",
            "estimatedTime": f"{seconds} seconds",
            "costCents": prediction.cents,
            "createdAt": timestamp(prediction.created),
        }

    def result(self, prediction: Prediction) -> dict[str, Any]:
        """A `Result`."""
        status = prediction.status
        return {
            "id": prediction.id,
            "modelId": prediction.model,
            "modelName": MODELS[prediction.model],
            "status": status,
            "outputs": [self.output_url(prediction)] if status == "completed" else None,
            "error": (prediction.error or FAILURES[1]) if status == "failed" else None,
            "createdAt": timestamp(prediction.created),
            "completedAt": timestamp(prediction.completed) if prediction.completed else None,
        }

    async def clip(self, prediction: Prediction, number: int) -> tuple[bytes, str]:
        """A clip and its ETag; no two predictions have the same."""
        behaviour = self.predictions.behaviour
        stamp = f"{prediction.id}/{number} "
        if behaviour.clips == "tiny":
            content = await self.clips.tiny(behaviour.clip_bytes, stamp)
        else:
            path = await self.clips.rendered(prediction.image, prediction.prompt)
            content = path.read_bytes() + padding(8 + len(stamp), stamp)
        return content, f'"{hashlib.sha256(f"{stamp}{len(content)}".encode()).hexdigest()[:32]}"'


class Json(Response):
    """No model is validated on the way out."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def problem(status: int, code: str, message: str) -> Response:
    return Json({"error": code, "message": message}, status_code=status)


REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No key, or another one than the sandbox was given."}
}
KEY_IS_NEEDED: Final[dict[str, Any]] = {"security": [{"key": []}]}
api = APIRouter(tags=["provider"])
control = APIRouter(prefix="/sandbox", tags=["sandbox"])


def _stand_in(request: Request) -> StandIn:
    return request.app.state.stand_in  # type: ignore[no-any-return]


@api.post(
    "/api/v1/models/{model}/generate",
    name="Submit a request",
    responses={
        200: {"model": Submitted, "description": "Accepted and charged; poll its id."},
        400: {"model": Problem, "description": "Not accepted: the body is not what the schema says."},
        **REFUSED,
        404: {"model": Problem, "description": "No such model."},
        429: {"model": Problem, "description": "Not accepted: too many at once; see Retry-After."},
    },
    openapi_extra={
        **KEY_IS_NEEDED,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Submission.model_json_schema()}},
        },
    },
)
async def generate(
    model: Annotated[str, PathParameter(description="The model's ID: i2v-pro.")], request: Request
) -> Response:
    """Starts a generation and returns at once with a prediction ID for polling."""
    stand_in = _stand_in(request)
    if not stand_in.knows_key(request.headers):
        return problem(401, "unauthorized", "Invalid or missing API key.")
    body = json_object(await request.body())
    if body is None:
        return problem(400, "invalid_body", "The body is no JSON object.")
    stand_in.predictions.count_post(body)
    if model not in MODELS:
        return problem(404, "model_not_found", f"There is no model {model}.")
    try:
        Submission.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        return problem(400, f"invalid_{first['loc'][0]}", f"{first['loc'][0]}: {first['msg']}.")
    refusal = stand_in.predictions.refusal()
    if refusal:
        response = problem(429, "rate_limited", "Too many requests; try again later.")
        response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response
    return Json(stand_in.submitted(stand_in.predictions.accept(model, body)))


@api.get(
    "/api/v1/predictions/{prediction_id}",
    name="Get the result",
    responses={
        200: {"model": Result, "description": "Poll every 1-2s until status is completed or failed."},
        **REFUSED,
        404: {"model": Problem, "description": "No such prediction."},
    },
    openapi_extra=KEY_IS_NEEDED,
)
async def poll(prediction_id: str, request: Request) -> Response:
    """The prediction's state, and its clips when it is completed."""
    stand_in = _stand_in(request)
    if not stand_in.knows_key(request.headers):
        return problem(401, "unauthorized", "Invalid or missing API key.")
    stand_in.predictions.count_poll(prediction_id)
    prediction = stand_in.predictions.by_id.get(prediction_id)
    return Json(stand_in.result(prediction)) if prediction else problem(404, "not_found", "No such prediction.")


@api.get(
    "/assets/outputs/{prediction_id}/{name}.mp4",
    name="Download a clip",
    responses={
        200: {"content": {"video/mp4": {}}, "description": "The clip."},
        206: {"content": {"video/mp4": {}}, "description": "The range of it that was asked for."},
        404: {"model": Problem, "description": "No such clip."},
    },
)
async def download(prediction_id: str, name: str, request: Request) -> Response:
    """A clip's bytes. No key is wanted here, and one that is sent is written down as a leak."""
    stand_in = _stand_in(request)
    stand_in.predictions.downloads += 1
    if "authorization" in request.headers:
        stand_in.predictions.downloads_with_key.append(request.url.path)
    prediction = stand_in.predictions.by_id.get(prediction_id)
    number = name.rpartition("-")[2]
    if prediction is None or prediction.error is not None or not number.isdecimal():
        return problem(404, "not_found", "No such file.")
    content, tag = await stand_in.clip(prediction, int(number))
    return _in_range(request, content, tag)


@api.get("/pictures/{name}", include_in_schema=False)
async def picture(name: str) -> Response:
    """A picture of the sample manifest."""
    path = samples.picture(name)
    return FileResponse(path) if path else problem(404, "not_found", "No such picture.")


@api.get("/manifest.csv", include_in_schema=False)
async def manifest(request: Request) -> Response:
    """The sample manifest, its pictures here."""
    return Response(samples.demo_manifest(_stand_in(request).api), media_type="text/csv; charset=utf-8")


@control.get("/activity", name="What happened")
async def show_activity(request: Request) -> Response:
    """Every charge, how often each body was posted, each prediction's times, most in flight, downloads."""
    return Json(_stand_in(request).predictions.activity())


@control.get("/settings", name="The settings")
async def show_settings(request: Request) -> Response:
    """How it behaves now."""
    return Json(_stand_in(request).predictions.behaviour.model_dump())


@control.post("/settings", name="Change settings", responses={400: {"description": "The body is no text."}})
async def change_settings(changes: Changes, request: Request) -> Response:
    """Changes what is given, at once."""
    predictions = _stand_in(request).predictions
    given = changes.model_dump(exclude_unset=True)
    try:
        predictions.behaviour = Behaviour.model_validate(predictions.behaviour.model_dump() | given)
    except ValidationError as error:
        return problem(422, "invalid_settings", str(error))
    return Json(predictions.behaviour.model_dump())


@control.post("/reset", status_code=204, name="Forget everything")
async def reset(request: Request) -> Response:
    """Predictions, counts and settings as at the start."""
    stand_in = _stand_in(request)
    stand_in.predictions.clear()
    stand_in.predictions.behaviour = stand_in.configuration.behaviour()
    return Response(status_code=204)


async def show_docs(request: Request) -> Response:
    """The reference of this API; the page needs nothing from elsewhere."""
    return HTMLResponse(docs.page(request.app.openapi(), _stand_in(request).api))


def _application() -> FastAPI:
    app = FastAPI(
        title="Sandbox of the image-to-video API",
        version="1",
        summary="A stand-in for the provider: same addresses, same fields, no money.",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(api)
    app.include_router(control)
    app.add_route("/docs", show_docs)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        """With the key; without FastAPI's own 422, which the provider's operations never answer."""
        schema = described()
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for operations in schema["paths"].values():
            for operation in operations.values():
                if operation["tags"] == ["provider"]:
                    operation["responses"].pop("422", None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def json_object(content: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _in_range(request: Request, content: bytes, tag: str) -> Response:
    """The complete clip, or the one range that was asked for of the same clip."""
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "public, max-age=3600"}
    start, dash, end = request.headers.get("range", "").removeprefix("bytes=").partition("-")
    if request.headers.get("if-range", tag) == tag and dash and start.isdecimal() and (not end or end.isdecimal()):
        first, last = int(start), min(int(end or len(content)), len(content) - 1)
        if first > last:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Response(content[first : last + 1], 206, headers, "video/mp4")
    return Response(content, headers=headers, media_type="video/mp4")
