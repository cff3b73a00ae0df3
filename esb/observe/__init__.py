"""What the bus tells about itself: logs and metrics."""
