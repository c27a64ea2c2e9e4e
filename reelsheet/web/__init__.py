"""Requests to addresses that a sheet or the provider names."""
