"""The plan engine: flows of records instead of records, days of traffic in seconds."""
