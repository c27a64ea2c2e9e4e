"""`init`: a folder to start from. Files that exist already stay as they are."""

import os
import sys
from pathlib import Path
from typing import Final

from reelsheet.cli.init_pictures import flag_for, sheet_of
from reelsheet.errors import UsageError
from reelsheet.paths import expanded
from reelsheet.sandbox import samples
from reelsheet.words import counted

ENV: Final = """\
# Settings for reelsheet. The environment beats this file; a flag beats both.

# The provider's key. It is sent to the provider and nowhere else.
VIBEDREAM_API_KEY=

# S3, as every AWS tool reads it. The sample pictures are uploaded there, for the provider to fetch.
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

1. Put the provider's key and your S3 settings into `.env`. `reelsheet doctor` says what is missing.
2. `reelsheet plan manifest.csv --to s3://BUCKET/spring` checks every row and says what it would cost; it spends
   nothing.
3. `reelsheet run manifest.csv --to s3://BUCKET/spring --limit 3` shows the plan, asks, and makes three clips.
4. Open the gallery at the link that it prints; `results.csv` has one line for each row.
5. Put in your own rows: a picture's address, or a file in `pictures`, and what should move in it. Excel works, too.
6. The same command without `--limit` makes the rest; it never pays twice. `reelsheet retry s3://BUCKET/spring` resumes
   unfinished rows, and makes again those that you mark `redo`.
"""

FILES: Final = {".env": ENV, "README.md": README}


def write_starter(folder: str, pictures: str | None = None) -> int:
    """Write the files that do not exist yet, and say which were written. Raises UsageError.

    `pictures`: a folder; the manifest has a row for each picture in it.
    """
    home = expanded(folder)
    sheet, count = (samples.starter_manifest(), 0) if pictures is None else sheet_of(pictures)
    contents = {"manifest.csv": sheet.encode()} | {name: text.encode() for name, text in FILES.items()}
    if pictures is None:
        contents |= {f"pictures/{path.name}": path.read_bytes() for path in samples.pictures()}
    try:
        written = {name: _write(home / name, content) for name, content in contents.items()}
        if _is_in_git(home):
            written[".gitignore"] = _write(home / ".gitignore", b".env\n")
    except OSError as error:
        raise UsageError(f"{home} cannot be written ({error.strerror}); name another folder.") from error
    for name, is_new in written.items():
        if not (is_new and name.startswith("pictures/")):  # the sample pictures are one line
            sys.stdout.write(f"{home / name}{'' if is_new else ' exists already and stays as it is'}\n")
    if any(is_new for name, is_new in written.items() if name.startswith("pictures/")):
        sys.stdout.write(f"{home / 'pictures'}: sample pictures\n")
    if not written.get(".gitignore", True) and not _ignores_env(home / ".gitignore"):
        sys.stdout.write(f"Add a line `.env` to {home / '.gitignore'}, so that the key stays out of git.\n")
    where = "" if home.resolve() == Path.cwd() else f" in {home}, where .env is read"
    if pictures is not None and written["manifest.csv"]:
        flag = flag_for(home, pictures)
        sys.stdout.write(
            f"manifest.csv has {counted(count, 'row')}, one for each picture. Next: write the prompts "
            f"into it and the key into .env. Run `reelsheet plan manifest.csv{flag}`{where}.\n"
        )
        return 0
    sys.stdout.write(f"Next: put the key and your S3 settings into .env. Run `reelsheet doctor`{where}.\n")
    return 0


def _write(path: Path, content: bytes) -> bool:
    """Only where nothing has that name, not even a broken link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.name == ".env" else 0o666
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return True


def _is_in_git(folder: Path) -> bool:
    return any((place / ".git").exists() for place in (folder.resolve(), *folder.resolve().parents))


def _ignores_env(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.strip().lstrip("/") in {".env", ".env*", "*.env"} for line in lines)
