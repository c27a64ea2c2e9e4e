"""Where clips and tables are stored: buckets and folders, and how a clip gets there.

`destination` is the interface and how to add another kind; `clip_copy` brings a clip from the provider's host to it.
"""
