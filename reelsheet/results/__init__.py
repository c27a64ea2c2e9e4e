"""Tables, workbook, gallery and notification of a run."""
