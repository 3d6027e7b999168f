"""The stores that tiers are made of: hot, warm and cold, each behind one small interface."""
