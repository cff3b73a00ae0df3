"""The inside of the HTTP endpoints. Nothing here is a component, and nothing is imported before a socket is opened."""
