"""What a run would do and cost, before it spends anything.

preparation    reads the sheet, opens ledger and destination, checks the pictures, makes the plan
plan           the next step of each row group, and the total cost
permissions    which rows may be paid for again
adoption       finds clips that are already at the destination
retry_source   what `retry` reads: a results file, a run or a destination
"""
