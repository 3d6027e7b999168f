"""Tests of the oracle and of the published vectors."""
