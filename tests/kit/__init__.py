"""What the suites share: a real hub, real repositories, BuildKit's own record."""
