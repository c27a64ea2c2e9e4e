"""The sheet's pictures.

preflight       checks each picture before anything is paid
local_pictures  pictures that are files, below one folder
picture_rows    rows whose pictures are files
sniff           kind and size of a picture, from its first bytes
thumbnails      small pictures for the workbook and the gallery
"""
