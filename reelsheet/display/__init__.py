"""What a person sees: the plan on one screen, the run while it is going, the closing lines.

terminal      the terminal, and the words for counts and times
plan_screen   the plan, for people and as JSON
tally         rows and money of a running run, counted as they change
live          the display that is redrawn, or plain lines in a log
closing       what was made, what it cost, and what to do next
"""

from reelsheet.display.closing import show_closing
from reelsheet.display.live import watch
from reelsheet.display.plan_screen import plan_json, show_plan
from reelsheet.display.terminal import preparing, status_line

__all__ = ["plan_json", "preparing", "show_closing", "show_plan", "status_line", "watch"]
