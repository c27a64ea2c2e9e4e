"""Rows that repeat another one in other spelling: hardly two orders, so the plan points them out."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from reelsheet.manifest.identity import image_key_of, prompt_key
from reelsheet.manifest.rows import Row
from reelsheet.money import dollars
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.words import counted, listed

PAIRS_SHOWN: Final = 3
_SIGNS: Final = re.compile(r"[\W_]+")
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)

Pair = tuple[Row, Row]  # a row, and the earlier one that it repeats


def notes(plan: Plan) -> Iterator[str]:
    """One note for rows that are paid for once all the same, one for rows that are paid for each."""
    same = list(_spelt_otherwise(plan))
    if same:
        yield (
            f"{counted(len(same), 'row')} {'asks' if len(same) == 1 else 'ask'} for the same as an earlier row in other"
            f" spelling ({_shown(same)}): paid for once, delivered to each. A take column with 2, 3 … makes more clips."
        )
    near = list(_near(plan))
    if near:
        cost = dollars(len(near) * plan.price_cents)
        yield (
            f"{counted(len(near), 'row')} nearly {'repeats' if len(near) == 1 else 'repeat'} another one"
            f" ({_shown(near)}): prompt and link differ only in capitals, blanks, punctuation or spelling."
            f" {'It is' if len(near) == 1 else 'Each is'} paid for ({cost}); make the texts equal, or take rows out, if"
            " that is not meant."
        )


def _spelt_otherwise(plan: Plan) -> Iterator[Pair]:
    for group in plan.groups.values():
        for row in (plan.manifest.rows[position] for position in group.positions[1:]):
            if row.left_out is None and _as_written(plan, row) != _as_written(plan, group.row):
                yield row, group.row


def _as_written(plan: Plan, row: Row) -> tuple[str, str]:
    image = plan.manifest.table.iat[row.position, plan.manifest.roles["image"]]
    return str(image), row.prompt or ""


def _near(plan: Plan) -> Iterator[Pair]:
    """Each row group that would be paid for, and the group that it nearly repeats."""
    alike: dict[tuple[object, ...], list[RowGroup]] = {}
    for group in plan.groups.values():
        if group.left_out is None and group.step is not Step.REFUSE:
            alike.setdefault(_key(group.row), []).append(group)
    for groups in alike.values():
        # what is paid for already comes first: the others repeat it
        first, *others = sorted(groups, key=lambda group: (group.step is Step.SUBMIT, group.order))
        yield from ((group.row, first.row) for group in others if group.step is Step.SUBMIT and group.is_chosen)


def _key(row: Row) -> tuple[object, ...]:
    """What two rows have in common that differ only in spelling. Another take, or expansion, is another order."""
    prompt = prompt_key(row.prompt) or ""
    plain = _SIGNS.sub("", unicodedata.normalize("NFKC", prompt).casefold()) or prompt
    image = unquote(_SCHEME.sub("", image_key_of(row))).rstrip("/")
    return image, plain, row.expansion, row.take


def _shown(pairs: Sequence[Pair]) -> str:
    return listed([f"{_name(row)} like {_name(other)}" for row, other in pairs], PAIRS_SHOWN)


def _name(row: Row) -> str:
    return f"{row.name} in line {row.line}" if row.id else row.name
