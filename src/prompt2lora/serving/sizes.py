"""How large an engine is unless something else is said."""

MAX_BATCH_SIZE = 16  # requests answered at once
ADAPTER_CACHE_SIZE = 128  # adapters in memory
PREFIX_CACHE_MB = 256
