"""An approval is waited for while Prefect's server is away, by one process only."""

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.exceptions import Abort
from prefect.states import AwaitingRetry, Crashed, Paused, Pending, Running, State

from flows import approval

ANSWER = approval.Approval(decision="approve")
AWAY = httpx.ConnectError("the server is away")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`server.says(…)`: state and number of processes of the run, one after another, after the pause was interrupted."""
    monkeypatch.setattr(approval, "POLL_INTERVAL_S", 0)
    monkeypatch.setattr(approval, "flow_run", SimpleNamespace(id=str(uuid.uuid4())))
    asked: list[str] = []

    async def pause(*, key: str, **_: Any) -> approval.Approval:
        asked.append(key)
        if len(asked) == 1:
            raise AWAY
        return ANSWER

    def says(answers: Iterable[tuple[State[Any], int] | Exception]) -> list[str]:
        left, history = list(answers), [Pending()]

        async def read_flow_run(_id: uuid.UUID) -> SimpleNamespace:
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            state, history[1:] = answer[0], [Pending()] * (answer[1] - 1)
            return SimpleNamespace(state=state)

        async def read_flow_run_states(_id: uuid.UUID) -> list[State[Any]]:
            return [*history, Running(), Paused()]

        @asynccontextmanager
        async def client() -> AsyncIterator[SimpleNamespace]:
            yield SimpleNamespace(read_flow_run=read_flow_run, read_flow_run_states=read_flow_run_states)

        monkeypatch.setattr(approval, "get_client", client)
        return asked

    monkeypatch.setattr(approval, "apause_flow_run", pause)
    return SimpleNamespace(says=says)


async def test_an_answer_given_while_the_server_was_away_is_heard_when_it_is_back(server: Any) -> None:
    asked = server.says([AWAY, AWAY, (Paused(), 1), AWAY, (Running(), 1)])
    assert await approval._paused(approval.Approval, 60, "approval-1") is ANSWER
    assert asked == ["approval-1", "approval-1"]


@pytest.mark.parametrize(
    ("state", "processes"), [(Crashed(), 1), (AwaitingRetry(), 1), (Pending(), 1), (Running(), 2), (Paused(), 2)]
)
async def test_a_process_whose_run_was_taken_for_lost_ends_and_leaves_the_question_to_the_next(
    server: Any, state: State[Any], processes: int
) -> None:
    asked = server.says([AWAY, (state, processes)])
    with pytest.raises(Abort):
        await approval._paused(approval.Approval, 60, "approval-1")
    assert len(asked) == 1
