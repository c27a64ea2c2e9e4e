"""The sheet's pictures.

preflight    checks each picture before anything is paid
sniff        kind and size of a picture, from its first bytes
thumbnails   small pictures for the workbook and the gallery
"""
