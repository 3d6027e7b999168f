"""Looks for a fault schedule that breaks a promise, and makes it as small as it gets."""
