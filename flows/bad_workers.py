"""A worker that is not set up like the run that it takes up: it is named, and passed over."""

import socket

from prefect.client.schemas.objects import FlowRun

from reelsheet.errors import ReelsheetError, WorkerError

PUT_BACK = "Put back: "  # begins the message of a run's state
_BLAMED = f"{PUT_BACK}the worker on "


def shard_refused(error: ReelsheetError) -> WorkerError:
    """Why this machine cannot do a shard."""
    return WorkerError(f"The worker on {socket.gethostname()} cannot take part: {error}")


def put_back(error: ReelsheetError) -> str:
    """Why a run goes to another worker, or to this one in a while."""
    if isinstance(error, WorkerError):
        return f"{_BLAMED}{socket.gethostname()} cannot continue it; another one tries in a minute. {error}"
    return f"{PUT_BACK}a worker tries again in a minute. {error}"


def is_blamed_by(run: FlowRun) -> bool:
    """The worker that had this run is not set up like the run."""
    state = run.state
    if state is None:
        return False
    return (state.message or "").startswith(_BLAMED) or (is_not_started(run) and "shard" in run.tags)


def is_not_started(run: FlowRun) -> bool:
    """It ended as `states.not_started` says."""
    return run.state is not None and run.state.name == "NotStarted"
