"""Route tests: the real runtime on a clock of its own, with answers in place of the systems around it."""
