"""Who may do what on the admin listener: roles and rights, users, API tokens, signatures, second persons, masks of payloads."""
