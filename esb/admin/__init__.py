"""The admin listener: health, metrics and the API behind command line and pages."""
