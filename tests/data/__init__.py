"""Tests of minidl.data."""
