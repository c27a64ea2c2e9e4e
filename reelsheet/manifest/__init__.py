"""From a spreadsheet to rows.

source          an address or path → bytes
table           bytes → a header and records of text; recognises the file format
xlsx            Excel's format
number_formats  Excel's numbers and dates → text
columns         which column is the picture, the prompt, …: the accepted names
rows            records → a DataFrame of text, and rows with what is wrong with each
image_url       checks a picture's address
identity        a hash of what the provider would be asked for
"""
