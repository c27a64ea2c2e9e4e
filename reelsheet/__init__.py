"""reelsheet: a spreadsheet of pictures and prompts in, finished clips in S3 out.

Nothing here knows of Prefect: `flows` and `tasks` call these parts, never the other way round
(the command line in `reelsheet.cli` is the outermost door and calls the flows).
"""

__version__ = "0.1.0"
