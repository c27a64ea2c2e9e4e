"""What can go wrong for a whole command, as typed exceptions.

    ReelsheetError                a sentence for a person; `exit_code` for the command line
    ├── UsageError                2  flags that do not fit together, a missing consent
    ├── ManifestError             2  the sheet cannot be read at all
    ├── ConfigurationError        2  key, bucket, ledger or address not usable; nothing was spent
    │   ├── LedgerError           2  the ledger cannot be opened, read or trusted
    │   │   └── LedgerAway        2  it does not answer just now, and may be back soon
    │   └── WorkerError           2  this machine is not set up like the run's
    ├── BlockedAddress            2  an address that must never be fetched
    ├── UnknownHost               2  a host name that does not resolve (web/addresses.py)
    ├── FetchError                2  an address that could not be fetched (web/guarded_http.py)
    ├── StorageError              3  a bucket or folder did not do what was asked (its kinds: storage/errors.py)
    └── Stopped                   3  a signal, key refused, no balance, provider or storage down

What goes wrong for one row is not an exception, but that row's outcome (`reelsheet.outcomes`).
"""


class ReelsheetError(Exception):
    """One sentence that says what happened and what to do. Never holds a secret."""

    exit_code = 2


class UsageError(ReelsheetError):
    """The flags do not fit together, or consent is missing."""


class ManifestError(ReelsheetError):
    """The sheet cannot be read at all; nothing was spent."""


class ConfigurationError(ReelsheetError):
    """Something that a run needs is not configured, reachable or writable; nothing was spent."""


class LedgerError(ConfigurationError):
    """The ledger cannot be opened, is newer than this program, or does not answer."""


class LedgerAway(LedgerError):
    """The ledger's database does not answer: it is restarted, moved or cut off, and may be back soon."""


class WorkerError(ConfigurationError):
    """This machine is not set up like the run that it should take part in; another one may be."""


class BlockedAddress(ReelsheetError):
    """The address is private, link-local or otherwise never to be fetched."""


class Stopped(ReelsheetError):
    """The run stopped early for a reason that concerns every row."""

    exit_code = 3
