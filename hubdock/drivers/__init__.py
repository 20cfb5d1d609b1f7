"""Floor 1: git, BuildKit, the Docker Engine and DVC, as plain functions. The exceptions of vendors stop here."""
