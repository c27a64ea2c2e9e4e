"""A stand-in for the provider, with real clips and a count of its charges; beside it a simulated S3.

Needs the extra `sandbox`; nothing here is part of a production install.
"""
