"""The SFTP driver behind the `sftp` endpoint; loads only where a route uses it."""
