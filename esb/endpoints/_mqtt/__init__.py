"""The parts of the ``mqtt`` endpoint."""
