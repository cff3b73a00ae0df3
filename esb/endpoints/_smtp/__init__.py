"""The parts of the ``smtp`` endpoint."""
