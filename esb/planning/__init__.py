"""What a change of the workspace would do, found out before it is live."""
