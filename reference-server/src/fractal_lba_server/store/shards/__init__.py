"""Engines that keep the entries of a dedup shard: one file each, one contract."""
