"""Requests to addresses that a sheet or the provider names.

guarded_http   the only client for them: checks every address and redirect
addresses      which IP addresses are allowed
share_links    Google Drive and Dropbox links → links to the file itself
retry_after    the header Retry-After
"""
