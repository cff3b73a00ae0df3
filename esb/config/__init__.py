"""From the files of a workspace to what the runtime works from: YAML nodes, references, checks and diagnostics."""
