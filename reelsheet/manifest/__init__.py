"""From a spreadsheet to rows."""
