"""What is odd about a clip beside its picture and the other clips of the run: a person should look at it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from reelsheet import messages
from reelsheet.outcomes import RowResult, Status
from reelsheet.planning.plan import Plan, RowGroup

SAME_SHAPE: Final = 0.05  # of width / height; providers round to even numbers, or to multiples of 16
SAME_LENGTH: Final = 0.1  # of the usual length
FAR: Final = 0.25  # of the usual length
FAR_S: Final = 0.5
FEWEST: Final = 3  # clips among which one can be told to be unusual
MOST_AGREE: Final = 2 / 3  # of the clips have the usual length; else there is none


def add(results: Sequence[RowResult], plan: Plan) -> None:
    """Put the warnings into `results`, one for each row of the plan's manifest.

    What concerns a row alone goes into its group as well, with which it is kept in the ledger: the size of a picture is
    only known while the run goes.
    """
    clips = [
        (group, results[group.order])
        for group in plan.groups.values()
        if results[group.order].status is Status.SUCCEEDED
    ]
    warnings: dict[str, list[str]] = defaultdict(list)  # by identity
    for group, clip in clips:
        for warning in _of_shape(group, clip, plan):
            warnings[group.identity].append(warning)
            if warning not in group.warnings:
                group.warnings.append(warning)
    for identity, warning in (*_of_lengths(clips), *_of_bytes(clips, plan)):
        warnings[identity].append(warning)
    for identity, new in warnings.items():
        for position in plan.groups[identity].positions:
            result = results[position]
            result.warnings = tuple(dict.fromkeys((*result.warnings, *new)))


def _of_shape(group: RowGroup, clip: RowResult, plan: Plan) -> Iterator[str]:
    check = plan.image_checks.get(group.row.image)
    picture = check.picture if check else None
    if picture is None or not (picture.width and picture.height and clip.width and clip.height):
        return
    shape, wanted = clip.width / clip.height, picture.width / picture.height
    if max(shape, wanted) / min(shape, wanted) > 1 + SAME_SHAPE:
        yield messages.clip_shape_differs((clip.width, clip.height), (picture.width, picture.height))


def _of_lengths(clips: Sequence[tuple[RowGroup, RowResult]]) -> Iterator[tuple[str, str]]:
    lengths = {group.identity: clip.duration_s for group, clip in clips if clip.duration_s}
    if len(lengths) < FEWEST:
        return
    usual_s = median(lengths.values())
    agreeing = sum(abs(length_s - usual_s) <= SAME_LENGTH * usual_s for length_s in lengths.values())
    if agreeing < MOST_AGREE * len(lengths):
        return
    for identity, length_s in lengths.items():
        if abs(length_s - usual_s) > max(FAR_S, FAR * usual_s):
            yield identity, messages.clip_length_differs(length_s, usual_s)


def _of_bytes(clips: Sequence[tuple[RowGroup, RowResult]], plan: Plan) -> Iterator[tuple[str, str]]:
    """Rows of one identity share their clip, and are one group."""
    same: dict[str, list[RowGroup]] = defaultdict(list)
    for group, clip in clips:
        if clip.video_sha256:
            same[clip.video_sha256].append(group)
    for groups in same.values():
        for group in groups if len(groups) > 1 else ():
            other = groups[0] if group is not groups[0] else groups[1]
            yield group.identity, messages.clip_bytes_equal(plan.manifest.rows[other.order].name)
