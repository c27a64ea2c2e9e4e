"""The files of a run, and the reading of earlier ones.

table          results.csv, failed.csv, manifest.csv and the totals
workbook       results.xlsx
gallery        gallery.html
parts          a long table in parts, each with a gallery and a workbook of its own
publication    writes these files to the destination: at the start, every few seconds, at the end
earlier        reads results tables of earlier runs
review         reads review files of the gallery
notification   the message at the end of a run
"""
