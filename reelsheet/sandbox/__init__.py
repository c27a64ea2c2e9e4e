"""A stand-in for the provider, with real clips, its own books and scripted faults; beside it a simulated S3.

Needs the extra `sandbox`; nothing here is part of a production install.
"""
