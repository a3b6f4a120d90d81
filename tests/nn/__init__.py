"""Tests of the layers, initialisers and containers."""
