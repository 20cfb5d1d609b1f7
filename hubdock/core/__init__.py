"""Floor 0: the pure part of hubdock. No I/O, no asyncio, no traitlets."""
