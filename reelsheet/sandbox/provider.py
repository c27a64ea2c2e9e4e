"""The provider's REST API as its own page describes it, with books and scripted faults beside it.

`/api/v1/...` and the assets are the stand-in; `/sandbox/...` is for whoever tests against it.
"""

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi import Path as PathParameter
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import FileResponse, HTMLResponse, Response

from reelsheet.sandbox import docs, samples
from reelsheet.sandbox.behaviour import Behaviour, Changes
from reelsheet.sandbox.books import Books
from reelsheet.sandbox.clips import Clips, cache_home, padding
from reelsheet.sandbox.faults import Applied, Do, Faults, Rule
from reelsheet.sandbox.queue import FAILURES, Prediction, Queue, timestamp
from reelsheet.sandbox.wire import deliver

MODELS: Final = {
    "i2v-pro": "MiniMax Hailuo 2.3 Pro",
    "i2v-fast": "MiniMax Hailuo 2.3 Fast",  # a second one, so that clients can be tried with another
}
DEFAULT_KEY: Final = "sandbox-key"


@dataclass(frozen=True, slots=True)
class Options:
    """What is fixed at the start; `behaviour` is what it begins with."""

    key: str = DEFAULT_KEY
    state: Path | None = None  # a folder: predictions and charges survive a kill
    cache: Path | None = None  # rendered clips, by default $XDG_CACHE_HOME/reelsheet
    seed: int = 0
    behaviour: Behaviour = field(default_factory=Behaviour)


SUBMISSION: Final = {
    "title": "GenerateInput",
    "type": "object",
    "required": ["image"],
    "properties": {
        "prompt": {"type": "string", "description": "A text prompt to guide motion, camera style, or lighting."},
        "image": {
            "type": "string",
            "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
            "description": "Public image URL of the scene or subject. Accepted: JPEG, PNG, GIF, WebP.",
        },
        "enable_prompt_expansion": {
            "type": "boolean",
            "description": "Automatically optimizes the prompt; also activates the safety checker.",
        },
    },
    "example": {
        "prompt": "A beautiful sunset over mountains with golden light",
        "image": "https://example.com/your-image.jpg",
        "enable_prompt_expansion": False,
    },
}


class Submitted(BaseModel):
    """The answer to a submission: the prediction is accepted and charged."""

    id: str = Field(description="Unique prediction ID (UUID).")
    status: str = Field(description="Always processing here.")
    statusUrl: str = Field(description="Where the result can be polled.")  # noqa: N815 - the provider's spelling
    estimatedTime: str = Field(description="For people: 5 seconds.")  # noqa: N815 - the provider's spelling
    costCents: float = Field(description="What is charged, in US cents.")  # noqa: N815 - the provider's spelling
    createdAt: str = Field(description="ISO 8601 timestamp of the submission.")  # noqa: N815 - the provider's spelling


class Result(BaseModel):
    """A prediction as polling shows it."""

    id: str = Field(description="Unique prediction ID (UUID).")
    modelId: str = Field(description="ID of the model used for generation.")  # noqa: N815 - the provider's spelling
    modelName: str = Field(description="Human-readable model name.")  # noqa: N815 - the provider's spelling
    status: str = Field(description="One of: processing, completed, failed.")
    outputs: list[str] | None = Field(description="Direct download links; null while processing or failed.")
    error: str | None = Field(description="Why the generation failed; null otherwise.")
    createdAt: str = Field(description="ISO 8601 timestamp of the submission.")  # noqa: N815 - the provider's spelling
    completedAt: str | None = Field(  # noqa: N815 - the provider's spelling
        description="ISO 8601 timestamp of the end; null while processing."
    )


class Problem(BaseModel):
    """An answer other than 200. The provider does not say what its own look like."""

    error: str = Field(description="A stable code.")
    message: str = Field(description="A sentence.")


def create_app(options: Options, *, origin: str | None = None, assets: str | None = None) -> FastAPI:
    """The stand-in as an ASGI application.

    `origin` is its own address and `assets` the one of its asset host, by default what the requests say.
    """
    return _Standin(options, origin, assets).app


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class _Standin:
    """The handlers, and what they share. Routes answer ready responses: no model is validated on the way out."""

    def __init__(self, options: Options, origin: str | None, assets: str | None) -> None:
        self._bearer = f"Bearer {options.key}".encode()
        self._initial = options.behaviour
        self._origin = origin
        self._assets = assets or origin
        self.books = Books()
        self.faults = Faults()
        self.clips = Clips((options.cache or cache_home()) / "sandbox")
        self.queue = Queue(
            options.behaviour.model_copy(), self.books, self.clips, state=options.state, seed=options.seed
        )
        self.app = self._application()

    def _application(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> Any:
            self.queue.resume()
            yield
            self.clips.close()

        app = FastAPI(
            title="Sandbox of the image-to-video API",
            version="1",
            summary="A stand-in for the provider: same addresses, same fields, no money.",
            docs_url=None,
            redoc_url=None,
            lifespan=lifespan,
        )
        provider: dict[str, Any] = {"tags": ["provider"], "response_model": None}
        tests: dict[str, Any] = {"tags": ["sandbox"], "response_model": None}
        refused: dict[int | str, dict[str, Any]] = {
            401: {"model": Problem, "description": "No key, or another one than the sandbox was given."}
        }
        app.add_api_route(
            "/api/v1/models/{model}/generate",
            self.generate,
            methods=["POST"],
            name="Submit a request",
            responses={
                200: {"model": Submitted, "description": "Accepted and charged; poll its id."},
                400: {"model": Problem, "description": "Not accepted: the body is not what the schema says."},
                **refused,
                404: {"model": Problem, "description": "No such model."},
                429: {"model": Problem, "description": "Not accepted: too many at once; see Retry-After."},
            },
            openapi_extra={
                "security": [{"key": []}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": SUBMISSION}},
                },
            },
            **provider,
        )
        app.add_api_route(
            "/api/v1/predictions/{prediction_id}",
            self.prediction,
            methods=["GET"],
            name="Get the result",
            responses={
                200: {"model": Result, "description": "Poll every 1-2s until status is completed or failed."},
                **refused,
                404: {"model": Problem, "description": "No such prediction."},
            },
            openapi_extra={"security": [{"key": []}]},
            **provider,
        )
        app.add_api_route(
            "/assets/outputs/{prediction_id}/{name}.mp4",
            self.asset,
            methods=["GET"],
            name="Download a clip",
            responses={
                200: {"content": {"video/mp4": {}}, "description": "The clip."},
                206: {"content": {"video/mp4": {}}, "description": "The range of it that was asked for."},
                404: {"model": Problem, "description": "No such clip."},
            },
            **provider,
        )
        app.add_api_route(
            "/pictures/{name}", self.picture, methods=["GET"], name="A sample picture", include_in_schema=False
        )
        app.add_api_route("/sandbox/books", self.show_books, methods=["GET"], name="The books", **tests)
        app.add_api_route(
            "/sandbox/books", self.reset_books, methods=["DELETE"], status_code=204, name="Begin new books", **tests
        )
        app.add_api_route("/sandbox/settings", self.show_settings, methods=["GET"], name="The settings", **tests)
        unread: dict[int | str, dict[str, Any]] = {400: {"description": "The body is no text."}}
        app.add_api_route(
            "/sandbox/settings",
            self.change_settings,
            methods=["POST"],
            name="Change settings",
            responses=unread,
            **tests,
        )
        app.add_api_route("/sandbox/faults", self.show_faults, methods=["GET"], name="The faults", **tests)
        app.add_api_route(
            "/sandbox/faults",
            self.add_fault,
            methods=["POST"],
            status_code=201,
            name="Script a fault",
            responses=unread,
            **tests,
        )
        app.add_api_route(
            "/sandbox/faults", self.clear_faults, methods=["DELETE"], status_code=204, name="Clear the faults", **tests
        )
        app.add_api_route(
            "/sandbox/reset", self.reset, methods=["POST"], status_code=204, name="Forget everything", **tests
        )
        app.add_api_route("/docs", self.show_docs, methods=["GET"], include_in_schema=False)
        app.openapi = _described(app)  # type: ignore[method-assign]
        return app

    async def generate(
        self, model: Annotated[str, PathParameter(description="The model's ID: i2v-pro.")], request: Request
    ) -> Response:
        """Starts a generation and returns at once with a prediction ID for polling."""
        response = await self._generated(model, request)
        self.books.post_answers[_answered(response)] += 1
        return response

    async def _generated(self, model: str, request: Request) -> Response:
        if not self._has_key(request):
            return _refused()
        early = self.faults.pick("submit", early=True)
        if early:
            return await deliver(request, Response(), early.do)
        body = _object(await request.body())
        if body is None:
            return _problem(400, "invalid_body", "The body is no JSON object.")
        body_hash = hash_of(body)
        self.books.posted(body_hash)
        prompt, image = str(body.get("prompt") or ""), str(body.get("image") or "")
        applied = self.faults.pick("submit", prompt=prompt, image=image)
        if applied is None:
            return self._submitted(model, body, body_hash, request, None)
        do = applied.do
        if applied.rule.accepts:
            response = self._submitted(model, body, body_hash, request, do)
        elif do.replaces:
            response = Response()
        else:  # looks accepted, but nobody will ever know that id
            prediction = self.queue.draft(model, body, body_hash, quote=self._quote(do))
            response = _Json(_altered(self._accepted(prediction, request), do))
        return await deliver(request, _replaced(response, do), do)

    def _submitted(self, model: str, body: dict[str, Any], body_hash: str, request: Request, do: Do | None) -> Response:
        complaint = _complaint(model, body)
        if complaint:
            return complaint
        refusal = self.queue.refusal()
        if refusal:
            reason, wait = refusal
            self.books.refusals[reason] += 1
            response = _problem(429, "rate_limited", "Too many requests; try again later.")
            response.headers["Retry-After"] = f"{wait:g}"
            return response
        prediction = self.queue.draft(model, body, body_hash, quote=self._quote(do), fail=do.fail if do else None)
        self.queue.accept(prediction)
        answer = self._accepted(prediction, request)
        return _Json(answer if do is None else _altered(answer, do))

    def _quote(self, do: Do | None) -> Any:
        return do.cents if do and do.gives("cents") else self.queue.behaviour.cost_cents

    def _accepted(self, prediction: Prediction, request: Request) -> dict[str, Any]:
        seconds = round((prediction.due - prediction.created).total_seconds())
        return {
            "id": prediction.id,
            "status": "processing",
            "statusUrl": f"{self._origin or _origin(request)}/api/v1/predictions/{prediction.id}",
            "estimatedTime": f"{max(1, seconds)} seconds",
            "costCents": prediction.quote,
            "createdAt": timestamp(prediction.created),
        }

    async def prediction(self, prediction_id: str, request: Request) -> Response:
        """The prediction's state, and its clips when it is completed."""
        response = await self._polled(prediction_id, request)
        self.books.poll_answers[_answered(response)] += 1
        return response

    async def _polled(self, identifier: str, request: Request) -> Response:
        if not self._has_key(request):
            return _refused()
        prediction = self.queue.get(identifier)
        prompt, image = (prediction.prompt, prediction.image) if prediction else ("", "")
        applied = self.faults.pick("poll", prompt=prompt, image=image, identifier=identifier)
        if prediction is None:
            self.books.polls[identifier] += 1
            response: Response = _problem(404, "not_found", "No such prediction.")
        else:
            state = self._state(prediction, applied, request)
            self.books.polled(identifier, terminal=state["status"] in ("completed", "failed"))
            response = _Json(_altered(state, applied.do) if applied else state)
        return response if applied is None else await deliver(request, _replaced(response, applied.do), applied.do)

    def _state(self, prediction: Prediction, applied: Applied | None, request: Request) -> dict[str, Any]:
        status: Any = prediction.status
        error = prediction.error
        do = applied.do if applied else Do()
        if do.fail is not None:
            status, error = "failed", do.fail
        if applied and do.gives("status"):
            steps = do.status if isinstance(do.status, list) else [do.status]
            status = steps[min(applied.step, len(steps) - 1)]
        ended = prediction.completed or prediction.due
        completed = str(status).casefold() == "completed"
        outputs: Any = [prediction.output_url(self._assets or _origin(request))] if completed else None
        if do.gives("outputs") and completed:
            outputs = self._scripted(prediction, do.outputs, request)
        if status == "failed" and error is None:
            error = FAILURES[1]
        return {
            "id": prediction.id,
            "modelId": prediction.model,
            "modelName": MODELS.get(prediction.model, prediction.model),
            "status": status,
            "outputs": outputs,
            "error": error if status == "failed" else None,
            "createdAt": timestamp(prediction.created),
            "completedAt": timestamp(ended) if completed or status == "failed" else None,
        }

    def _scripted(self, prediction: Prediction, outputs: Any, request: Request) -> Any:
        assets = self._assets or _origin(request)
        if isinstance(outputs, int) and not isinstance(outputs, bool):
            return [prediction.output_url(assets, number) for number in range(outputs)]
        if isinstance(outputs, list):
            return [
                url.replace("{assets}", f"{assets}/assets").replace("{id}", prediction.id)
                if isinstance(url, str)
                else url
                for url in outputs
            ]
        return outputs

    async def asset(self, prediction_id: str, name: str, request: Request) -> Response:
        """A clip's bytes. No key is wanted here, and one that is sent is written down as a leak."""
        downloads = self.books.downloads
        downloads.requests += 1
        if "authorization" in request.headers:
            downloads.with_authorization.append(request.url.path)
        response = await self._downloaded(prediction_id, name, request)
        downloads.answers[_answered(response)] += 1
        downloads.bytes += len(response.body)
        return response

    async def _downloaded(self, identifier: str, name: str, request: Request) -> Response:
        prediction = self.queue.get(identifier)
        prompt, image = (prediction.prompt, prediction.image) if prediction else ("", "")
        applied = self.faults.pick("asset", prompt=prompt, image=image, identifier=identifier)
        number = name.rpartition("-")[2]
        if prediction is None or prediction.error is not None or not number.isdecimal():
            response: Response = _problem(404, "not_found", "No such file.")
        elif applied and applied.do.replaces:
            response = Response()
        else:
            content, tag = await self._clip(prediction, int(number))
            response = _ranged(request, content, tag)
        return response if applied is None else await deliver(request, _replaced(response, applied.do), applied.do)

    async def _clip(self, prediction: Prediction, number: int) -> tuple[bytes, str]:
        """A clip and its ETag."""
        behaviour = self.queue.behaviour
        stamp = f"{prediction.id}/{number} "
        if behaviour.clips == "tiny":
            stamp = stamp if behaviour.distinct else ""
            content = await self.clips.tiny(behaviour.clip_bytes, stamp)
            return content, f'"{hashlib.sha256(f"{stamp}{len(content)}".encode()).hexdigest()[:32]}"'
        path = await self.clips.rendered(prediction.image, prediction.prompt)
        content = path.read_bytes() + padding(8 + len(stamp), stamp)
        return content, f'"{hashlib.sha256(f"{stamp}{path.name}".encode()).hexdigest()[:32]}"'

    async def picture(self, name: str) -> Response:
        """A picture of the sample manifest."""
        path = samples.picture(name)
        return _problem(404, "not_found", "No such picture.") if path is None else FileResponse(path)

    async def show_books(self) -> Response:
        """Every charge, how often each body was posted, every prediction's times, most in flight, downloads."""
        return _Json(self.books.page(in_flight=self.queue.in_flight) | {"rendered": self.clips.rendered_count})

    async def reset_books(self) -> Response:
        """Begins all counts anew; predictions stay known."""
        self.books.reset()
        return Response(status_code=204)

    async def show_settings(self) -> Response:
        """How it behaves now."""
        return _Json(self.queue.behaviour.model_dump())

    async def change_settings(self, changes: Changes) -> Response:
        """Changes what is given, at once: latency, capacity, per_minute, fail_rate, cost_cents, clips and so on."""
        try:
            changed = Behaviour.model_validate(
                self.queue.behaviour.model_dump() | changes.model_dump(exclude_unset=True)
            )
        except ValidationError as error:
            return _problem(422, "invalid_settings", str(error))
        self.queue.behaviour = changed
        return _Json(changed.model_dump())

    async def show_faults(self) -> Response:
        """The rules that are set, and how often each was applied."""
        return _Json(self.faults.listing())

    async def add_fault(self, rule: Rule) -> Response:
        """Scripts one fault; rules are tried in the order they were set."""
        return _Json({"number": self.faults.add(rule)}, status_code=201)

    async def clear_faults(self) -> Response:
        """Takes every rule back."""
        self.faults.clear()
        return Response(status_code=204)

    async def reset(self) -> Response:
        """Books, faults, predictions and settings as at the start."""
        self.faults.clear()
        self.queue.forget()
        self.books.reset()
        self.queue.behaviour = self._initial.model_copy()
        return Response(status_code=204)

    async def show_docs(self, request: Request) -> Response:
        """The reference of this API; the page needs nothing from elsewhere."""
        return HTMLResponse(docs.page(self.app.openapi(), self._origin or _origin(request)))

    def _has_key(self, request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", "").encode(), self._bearer)


def hash_of(body: dict[str, Any]) -> str:
    """The name under which the books count one body, whatever the order of its fields."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _complaint(model: str, body: dict[str, Any]) -> Response | None:
    if model not in MODELS:
        return _problem(404, "model_not_found", f"No model is called {model}.")
    image = body.get("image")
    if not isinstance(image, str) or not image.lower().startswith(("http://", "https://")):
        return _problem(400, "invalid_image", "image must be a public image URL.")
    if not isinstance(body.get("prompt", ""), str):
        return _problem(400, "invalid_prompt", "prompt must be text.")
    if not isinstance(body.get("enable_prompt_expansion", False), bool):
        return _problem(400, "invalid_enable_prompt_expansion", "enable_prompt_expansion must be true or false.")
    return None


def _refused() -> Response:
    return _problem(401, "unauthorized", "Invalid or missing API key.")


def _problem(status: int, code: str, message: str) -> Response:
    return _Json({"error": code, "message": message}, status_code=status)


def _altered(answer: dict[str, Any], do: Do) -> dict[str, Any]:
    return {name: value for name, value in (answer | do.patch).items() if name not in do.drop}


def _replaced(response: Response, do: Do) -> Response:
    """The rule's own answer where it has one, and its headers over either."""
    if do.answer:
        body = do.answer.body
        if do.answer.base64 is not None:
            content, kind = b64decode(do.answer.base64), "application/octet-stream"
        elif body is None:
            content, kind = b"", None
        elif isinstance(body, str):
            content, kind = body.encode(), "text/plain; charset=utf-8"
        else:
            content, kind = orjson.dumps(body), "application/json"
        response = Response(content, do.answer.status, dict(do.answer.headers))
        if kind and "content-type" not in response.headers:
            response.headers["content-type"] = kind
    if do.redirect is not None:
        status = do.answer.status if do.answer and do.answer.status // 100 == 3 else 307
        response = Response(response.body if do.answer else b"", status, {"Location": do.redirect})
    response.headers.update(do.headers)
    return response


def _ranged(request: Request, content: bytes, tag: str) -> Response:
    """The whole clip, or the one range that was asked for of the same clip."""
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "public, max-age=3600"}
    wanted = request.headers.get("range", "")
    start, dash, end = wanted.removeprefix("bytes=").partition("-")
    if request.headers.get("if-range", tag) == tag and dash and start.isdecimal() and (not end or end.isdecimal()):
        first, last = int(start), min(int(end or len(content)), len(content) - 1)
        if first > last:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Response(content[first : last + 1], 206, headers, "video/mp4")
    return Response(content, headers=headers, media_type="video/mp4")


def _answered(response: Response) -> str:
    """For counting: the status, or `none` where no answer (or only a torn one) was given."""
    return "none" if type(response).__name__ == "_Silence" else str(response.status_code)


def _origin(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """OpenAPI with the key that the provider's own operations want."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for operations in schema["paths"].values():
                for operation in operations.values():
                    if operation["tags"] == ["provider"]:
                        operation["responses"].pop("422", None)  # FastAPI's own; these handlers never answer it
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi
