"""Real servers for tests, each started privately on loopback and ended by its own process id."""
