"""The units that Prefect retries, names and shows: thin typed lines over `reelsheet`.

A repeated body is safe: it asks the ledger first, and only the ledger decides whether money moves.
"""
