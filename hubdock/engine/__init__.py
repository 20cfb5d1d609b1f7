"""Floor 2: the engine. What is to be done (plan), and doing each thing once (builds)."""
