"""Passwords of RegistryTokens: their form, their hashes, the record kept of them, and when they rotate. Pure."""
