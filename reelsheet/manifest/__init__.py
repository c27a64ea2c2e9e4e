"""From a spreadsheet to rows.

source          an address or path → bytes
encoding        the bytes of a CSV file → text
table           bytes → a header and records of text; recognises the file format
xlsx            Excel's format: the archive, its sheets, links
worksheet       the XML of one of its sheets and of its drawings
number_formats  Excel's numbers and dates → text
hints           where the column names are, if not in the first line
columns         which column is the picture, the prompt, …: the accepted names
rows            records → a DataFrame of text, and rows with what is wrong with each
cells           one cell of a row: the picture, the prompt, the switches
prompt_template one prompt for many rows
prompt_sent     a prompt as a cell of the results, and back
failed_cells    errors of formulas and unfilled templates
wrapped_url     takes an address out of what is around it
image_url       checks a picture's address
picture_file    a picture that is a file
earlier         what the results of an earlier run say of a row
identity        a hash of what the provider would be asked for
"""
