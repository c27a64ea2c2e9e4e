"""The statements of a row's way, built once: to build one takes longer than to run it.

Parameters that are no columns begin with an underscore; what else is given is what is set.
"""

from sqlalchemy import bindparam, delete, insert, select, update

from reelsheet.ledger.schema import attempts, days, deliveries, grants, runs

MONEY = ("confirmed_cents", "reserved_cents", "at_risk_cents")

OF_IDENTITY = (
    select(attempts).where(attempts.c.identity == bindparam("_identity")).order_by(attempts.c.number).with_for_update()
)
SAME = select(attempts).where(attempts.c.id == bindparam("_id")).with_for_update()
HOLDER = select(attempts).where(attempts.c.prediction_id == bindparam("_prediction"))
NEW = insert(attempts)
CHANGE = update(attempts).where(attempts.c.id == bindparam("_id"))

SHIFT_RUN = (
    update(runs)
    .where(runs.c.run_id == bindparam("_run"))
    .values({name: runs.c[name] + bindparam(f"_{name}") for name in MONEY})
)
SHIFT_DAY = (
    update(days)
    .where(days.c.day == bindparam("_day"))
    .values({name: days.c[name] + bindparam(f"_{name}") for name in MONEY})
)

# Reserving holds the caps in the same statement that takes the money, so that no two can both fit.
RESERVE_RUN = (
    update(runs)
    .where(
        runs.c.run_id == bindparam("_run"),
        runs.c.cap_cents.is_(None)
        | (
            runs.c.confirmed_cents + runs.c.reserved_cents + runs.c.at_risk_cents + bindparam("_price")
            <= runs.c.cap_cents
        ),
    )
    .values(reserved_cents=runs.c.reserved_cents + bindparam("_price"))
)
RESERVE_DAY = (
    update(days)
    .where(days.c.day == bindparam("_day"))
    .values(reserved_cents=days.c.reserved_cents + bindparam("_price"))
)
RESERVE_DAY_CAPPED = RESERVE_DAY.where(
    days.c.confirmed_cents + days.c.reserved_cents + days.c.at_risk_cents + bindparam("_price") <= bindparam("_cap")
)

GRANTED = (
    select(grants.c.replaces)
    .join(runs, runs.c.permit == grants.c.permit)
    .where(runs.c.run_id == bindparam("_run"), grants.c.identity == bindparam("_identity"))
)

FORGET_DELIVERY = delete(deliveries).where(
    deliveries.c.attempt_id == bindparam("_attempt"),
    deliveries.c.destination == bindparam("_destination"),
    deliveries.c.output == bindparam("_output"),
)
NEW_DELIVERY = insert(deliveries)

ATTEMPTS_OF = (
    select(attempts)
    .where(attempts.c.identity.in_(bindparam("_identities", expanding=True)))
    .order_by(attempts.c.number)
)
DELIVERIES_OF = (
    select(deliveries)
    .join(attempts, attempts.c.id == deliveries.c.attempt_id)
    .where(attempts.c.identity.in_(bindparam("_identities", expanding=True)))
)
