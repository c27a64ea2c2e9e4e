"""What a person sees on the way: the plan on one screen, the run while it goes, the closing lines.

terminal   where it is written, and in which words counts, times and names are said
screen     the plan, for people and as JSON
tally      rows and money of a running run, counted as they change
live       the display that is redrawn, or plain lines where nothing can be
closing    what was made, what it cost, and what to do next
"""

from reelsheet.display.closing import show_closing
from reelsheet.display.live import watch
from reelsheet.display.plan_screen import plan_json, show_plan
from reelsheet.display.terminal import looking, waiting

__all__ = ["looking", "plan_json", "show_closing", "show_plan", "waiting", "watch"]
