"""KV segments: memory, sharing, exact prefix reuse, eviction."""
