"""The files of a run, and the reading of earlier ones.

table          results.csv, failed.csv, manifest.csv and the totals
workbook       results.xlsx
gallery        gallery.html
publication    writes these files to the destination: at the start, every few seconds, at the end
earlier        reads results tables of earlier runs
review         reads review files of the gallery
notification   the message at the end of a run
"""
