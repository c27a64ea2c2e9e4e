"""Faults that tests script: which request, what goes wrong, and whether the provider charged in spite of it."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Place = Literal["submit", "poll", "asset"]


class Match(BaseModel):
    """Which requests are meant; everything given must fit, nothing given means every request."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(None, description="A part of the prompt.")
    image: str | None = Field(None, description="A part of the image's address.")
    id: str | None = Field(None, description="The prediction's id, for polls and assets.")
    nth: int | list[int] | None = Field(
        None, description="Only the n-th request (from 1) of those that fit, counted from when the rule was set."
    )


class Answer(BaseModel):
    """An answer in place of the normal one."""

    model_config = ConfigDict(extra="forbid")

    status: int = Field(200, ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = Field(None, description="Text is sent as it is, anything else as JSON; null is an empty body.")
    base64: str | None = Field(None, description="The body as bytes.")


class Do(BaseModel):
    """What goes wrong. `answer` or the normal answer, altered by the fields below it, sent the way the rest says."""

    model_config = ConfigDict(extra="forbid")

    answer: Answer | None = None
    redirect: str | None = Field(None, description="Answer 307 (or `answer.status`) with this Location.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers laid over the answer's own.")
    patch: dict[str, Any] = Field(default_factory=dict, description="Fields laid over the normal JSON answer.")
    drop: list[str] = Field(default_factory=list, description="Fields taken out of the normal JSON answer.")

    status: list[Any] | str | None = Field(
        None, description="Poll: the statuses answered one after another, the last for ever."
    )
    outputs: Any = Field(
        None, description="Poll: null, [], a number of clips, or a list; {assets} and {id} are filled in."
    )
    fail: str | None = Field(None, description="The prediction fails with this error.")
    cents: Any = Field(None, description="Submit: what costCents says this time.")

    delay: float = Field(0, ge=0, description="Seconds before anything is answered.")
    hang: bool = Field(default=False, description="Read the request, never answer.")
    close: Literal["before", "after"] | None = Field(
        None, description="Drop the connection before or after the request's body is read, without an answer."
    )
    reset: Literal["before", "after"] | None = Field(None, description="The same with a TCP reset.")
    cut: int | None = Field(None, ge=0, description="Send this many bytes of the body, then drop the connection.")
    framing: Literal["length", "none", "chunked"] = Field(
        "length", description="How a cut or dripped body is announced."
    )
    declare: int | None = Field(None, ge=0, description="The Content-Length that is announced, whatever is sent.")
    drip: float | None = Field(None, gt=0, description="Send the body at this many bytes a second.")

    def gives(self, name: str) -> bool:
        """True where the field was given, be it null."""
        return name in self.model_fields_set

    @property
    def replaces(self) -> bool:
        """The normal answer is not given: by default the provider has not accepted anything."""
        return bool(self.answer or self.redirect is not None or self.hang or self.close or self.reset)


class Rule(BaseModel):
    """One scripted fault. The first rule that fits and is not used up is applied."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"at": "submit", "match": {"prompt": "sunset"}, "do": {"close": "after"}, "charged": True}
        },
    )

    at: Place = Field(description="Which request: the paid POST, the GET of a prediction, the download of a clip.")
    match: Match = Field(default_factory=Match)
    times: int = Field(1, ge=-1, description="How often it is applied; -1 for ever.")
    do: Do = Field(default_factory=Do)
    charged: bool | None = Field(
        None,
        description="Submit: whether a prediction is created and charged in spite of the fault. By default only where "
        "the normal answer is given (be it altered, cut or late).",
    )

    @model_validator(mode="after")
    def _scripts_last(self) -> "Rule":
        if "times" not in self.model_fields_set and (self.do.gives("status") or self.do.gives("outputs")):
            self.times = -1
        return self

    @property
    def early(self) -> bool:
        """It strikes before the body is read, so it cannot look at the body."""
        before = "before" in (self.do.close, self.do.reset)
        return before and self.at == "submit" and not (self.accepts or self.match.prompt or self.match.image)

    @property
    def accepts(self) -> bool:
        """Whether the provider creates and charges a prediction."""
        return not self.do.replaces if self.charged is None else self.charged


@dataclass(slots=True)
class _Armed:
    number: int
    rule: Rule
    seen: int = 0
    applied: int = 0
    steps: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, prompt: str, image: str, identifier: str) -> bool:
        match = self.rule.match
        fits = (
            (match.prompt is None or match.prompt in prompt)
            and (match.image is None or match.image in image)
            and (match.id is None or match.id == identifier)
        )
        if not fits:
            return False
        self.seen += 1
        wanted = match.nth
        if wanted is not None and self.seen not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
        if self.rule.times != -1 and self.applied >= self.rule.times:
            return False
        self.applied += 1
        return True


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that fits this very request; `step` counts its applications to this prediction from 0."""

    rule: Rule
    step: int

    @property
    def do(self) -> Do:
        return self.rule.do


class Faults:
    """The rules that are set, in order."""

    def __init__(self) -> None:
        self._rules: list[_Armed] = []
        self._numbers = count(1)

    def add(self, rule: Rule) -> int:
        """The number under which `listing` shows it."""
        armed = _Armed(next(self._numbers), rule)
        self._rules.append(armed)
        return armed.number

    def clear(self) -> None:
        self._rules.clear()

    def pick(
        self, at: Place, *, prompt: str = "", image: str = "", identifier: str = "", early: bool = False
    ) -> Applied | None:
        """The rule for this request, used once by this call; None nearly always."""
        for armed in self._rules:
            if armed.rule.at == at and armed.rule.early == early and armed.take(prompt, image, identifier):
                step = armed.steps[identifier]
                armed.steps[identifier] += 1
                return Applied(armed.rule, step)
        return None

    def listing(self) -> list[dict[str, Any]]:
        """What is set, and how often each rule fitted and was applied."""
        return [
            {
                "number": armed.number,
                "rule": armed.rule.model_dump(exclude_unset=True),
                "seen": armed.seen,
                "applied": armed.applied,
            }
            for armed in self._rules
        ]
