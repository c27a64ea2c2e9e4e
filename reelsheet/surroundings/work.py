"""What a process needs that sends, polls or copies rows: for commands, for flows and for the parts of a large run."""

from typing import TYPE_CHECKING

from reelsheet.surroundings import machine, network
from reelsheet.surroundings.problems import demand

if TYPE_CHECKING:
    from reelsheet.settings import Settings


def demand_for_work(settings: "Settings", *, at_once: int, asks_provider: bool = True) -> None:
    """Try this machine and the way to the provider. Raises UnusableSurroundings. Blocks: call it in a thread.

    `at_once`: rows under way at the same time, at most. S3 is tried where its client is made, Prefect by the command.
    """
    demand(machine.limits(), machine.threads())
    demand(machine.time_zone(), machine.temporary_folder(), machine.open_files(at_once))
    if asks_provider:
        demand(network.certificates(), network.proxies())
        if not settings.is_play_money:  # nothing on this machine is reached through a proxy
            demand(network.way_to(settings.base_url))
