"""Conformance to the backend contract, one file for each family of methods."""
