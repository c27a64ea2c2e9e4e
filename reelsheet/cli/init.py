"""`init`: a folder to start from. Files that exist already stay as they are."""

import os
import sys
from pathlib import Path
from typing import Final

from reelsheet.errors import UsageError

MANIFEST: Final = """\
sku,image,prompt,campaign
DRESS-01,https://example.com/pictures/dress-01.jpg,"Slow push in, the fabric moves in a light breeze",Spring
MUG-07,https://example.com/pictures/mug-07.jpg,Gentle tilt up following the steam,Spring
SHOE-12,https://example.com/pictures/shoe-12.png,Half an orbit around the shoe on its plinth,Spring
"""

ENV: Final = """\
# Settings for reelsheet. The environment beats this file; a flag beats both.

# The provider's key. It is sent to the provider and nowhere else.
VIBEDREAM_API_KEY=

# S3, as every AWS tool reads it. A folder as --to needs none of these.
# AWS_PROFILE=
# AWS_ACCESS_KEY_ID=
# AWS_SECRET_ACCESS_KEY=
# AWS_DEFAULT_REGION=eu-central-1
# An S3 other than Amazon's:
# AWS_ENDPOINT_URL_S3=

# The most that all runs of one UTC day may spend.
# REELSHEET_DAILY_CAP_USD=100

# Gets a message when a run is finished: an Apprise address (Slack, Teams, mail, a JSON webhook).
# REELSHEET_NOTIFY_URL=

# The database of what was paid for; without it, a file of this user on this machine.
# REELSHEET_LEDGER_URL=postgresql://reelsheet:password@db.example.com/reelsheet
"""

README: Final = """\
# Clips from a spreadsheet

1. Put your rows into `manifest.csv`, or use an Excel file: a picture's address and what should move in it.
2. Put the provider's key into `.env`.
3. `reelsheet doctor` says what is missing; `reelsheet demo` does the whole job without an account.
4. `reelsheet plan manifest.csv` checks every row and says what it would cost. It spends nothing.
5. `reelsheet run manifest.csv --to s3://bucket/prefix` (or `--to clips`) shows the plan, asks, and makes the clips.
6. Look through `gallery.html` in the run's folder; `results.csv` has one line for each row.
7. The same command again pays for nothing twice; `reelsheet retry clips` resumes the unfinished rows.
"""

FILES: Final = {"manifest.csv": MANIFEST, ".env": ENV, "README.md": README}


def write_starter(folder: str) -> int:
    """Write the files that do not exist yet, and say which were written. Raises UsageError."""
    home = Path(folder).expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
        written = {name: _write(home / name, content) for name, content in FILES.items()}
        if _is_in_git(home):
            written[".gitignore"] = _write(home / ".gitignore", ".env\n")
    except OSError as error:
        raise UsageError(f"{home} cannot be written ({error.strerror}); name another folder.") from error
    for name, is_new in written.items():
        sys.stdout.write(f"{home / name}{'' if is_new else ' exists already and stays as it is'}\n")
    if not written.get(".gitignore", True) and not _ignores_env(home / ".gitignore"):
        sys.stdout.write(f"Add a line `.env` to {home / '.gitignore'}, so that the key stays out of git.\n")
    where = "" if home.resolve() == Path.cwd() else f" in {home}, where .env is read"
    sys.stdout.write(f"Next: put your rows into manifest.csv and the key into .env. Run `reelsheet doctor`{where}.\n")
    return 0


def _write(path: Path, content: str) -> bool:
    """Only where nothing has that name, not even a broken link."""
    mode = 0o600 if path.name == ".env" else 0o666
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(content)
    return True


def _is_in_git(folder: Path) -> bool:
    return any((place / ".git").exists() for place in (folder.resolve(), *folder.resolve().parents))


def _ignores_env(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.strip().lstrip("/") in {".env", ".env*", "*.env"} for line in lines)
