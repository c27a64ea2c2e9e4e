"""What a person sees: the plan on one screen, the run while it is going, the closing lines.

waiting       what is waited for, on one line
terminal      the terminal, and texts of others for it
plan_screen   the plan, for people and as JSON
tally         rows and money of a running run, counted as they change
live          the display that is redrawn, or plain lines in a log
closing       what was made, what it cost, and what to do next
"""
