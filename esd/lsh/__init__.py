"""Attention by locality-sensitive hashing: what a token is compared with are the tokens of its own buckets."""
