"""The language server: what `esb lint` knows, while somebody writes."""
