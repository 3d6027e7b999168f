"""The report: what a planner hands to an auditor, as one page and as lines in a terminal."""
