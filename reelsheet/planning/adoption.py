"""Clips that lie at the destination and carry a row's identity are its clips, whatever this ledger knows."""

import re
import time
from collections.abc import Sequence

from reelsheet.ledger import Attempt, Delivery, ImportedAttempt, Ledger, State
from reelsheet.options import Options
from reelsheet.planning.permissions import MayRepay
from reelsheet.planning.plan import Plan, RowGroup, Step, object_key
from reelsheet.provider.classification import usable_id
from reelsheet.provider.prediction import OUTPUTS_LIMIT
from reelsheet.storage.destination import Destination
from reelsheet.storage.stored_object import StoredObject

MAX_ATTEMPTS = 20  # of one row that are searched for at a destination


def adopt_clips(
    plan: Plan,
    ledger: Ledger,
    destination: Destination,
    objects: frozenset[str],
    options: Options,
    may_repay: MayRepay,
) -> None:
    """Import stored clips as attempts and deliveries, and set the steps again. `objects`: keys at the destination."""
    for group in plan.groups.values():
        if group.step not in {Step.SUBMIT, Step.COPY}:
            continue
        if group.history is None:
            numbers = range(1, MAX_ATTEMPTS + 1)
        elif group.step is Step.COPY:
            numbers = range(group.history.latest.number, group.history.latest.number + 1)
        else:
            continue
        stored = [(n, _stored_outputs(plan, group, n, destination, objects, options)) for n in numbers]
        proven = [(n, outputs) for n, outputs in stored if _is_attempt(group, n, [clip for _, clip in outputs])]
        if proven:
            imports = [_attempt(plan, group, n, outputs, destination.address) for n, outputs in proven]
            ledger.import_attempts(imports)
            group.history = ledger.history(group.identity)
            group.replan(destination.address, objects, may_repay=may_repay(group))


def _stored_outputs(
    plan: Plan, group: RowGroup, number: int, destination: Destination, objects: frozenset[str], options: Options
) -> list[tuple[str, StoredObject]]:
    """Keys and objects of an attempt's outputs; [] unless every listed one can be read."""
    keys: list[str] = []
    for output in range(OUTPUTS_LIMIT):
        key = object_key(options, plan.manifest, group, number, output)
        if key not in objects:
            break
        keys.append(key)
    stored = [(key, clip) for key in keys if (clip := destination.stat(key)) is not None]
    return stored if len(stored) == len(keys) else []


def _is_attempt(group: RowGroup, number: int, clips: Sequence[StoredObject]) -> bool:
    """The clips' own metadata say that they are this attempt of this row."""
    if not clips:
        return False
    prediction_id = clips[0].metadata.get("prediction-id")
    proof = {"identity": group.identity, "attempt": str(number), "prediction-id": prediction_id}
    if any(clip.metadata.get(name) != value for clip in clips for name, value in proof.items()):
        return False
    usable = usable_id(prediction_id)
    return bool(usable) and (group.latest is None or group.latest.prediction_id == usable)


def _attempt(
    plan: Plan, group: RowGroup, number: int, outputs: Sequence[tuple[str, StoredObject]], destination: str
) -> ImportedAttempt:
    first = outputs[0][1]
    price = first.metadata.get("cost-cents", "")
    cents = int(price) if re.fullmatch(r"\d{1,7}", price) else plan.price_cents
    moment = first.modified.timestamp() if first.modified else time.time()
    attempt = Attempt(
        id=0, identity=group.identity, number=number, state=State.COMPLETED, owner=None,
        run_id=first.metadata.get("run-id", "")[:64], day=time.strftime("%Y-%m-%d", time.gmtime(moment)),
        price_cents=cents, quoted_cents=cents, prediction_id=usable_id(first.metadata.get("prediction-id")),
        claimed_at=moment, submitted_at=moment, completed_at=moment, imported=True,
    )  # fmt: skip
    deliveries = [
        Delivery(
            number, destination, output, len(outputs), key, clip.size_bytes, clip.metadata.get("sha256", "")[:64],
            None, None, None,
        )
        for output, (key, clip) in enumerate(outputs)
    ]  # fmt: skip
    return ImportedAttempt(attempt, deliveries)
