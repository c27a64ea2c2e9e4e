"""What a run would do and cost, before it spends anything.

preparation    reads the sheet, opens ledger and destination, checks the pictures, makes the plan
plan           the next step of each row group, and the total cost
permissions    which rows may be paid for again
pictures       pictures that are files: can the provider fetch them, what is uploaded
near_duplicates  rows that repeat another one in other spelling
adoption       finds clips that are already at the destination
choice         which rows --where chooses
retry_source   what `retry` reads: a results file, a run, a destination or a review file
"""
