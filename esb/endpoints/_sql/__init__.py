"""The parts of the ``sql`` endpoint: threads and connections, polling, sending, dialects, values."""
