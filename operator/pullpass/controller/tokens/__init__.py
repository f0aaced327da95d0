"""The passwords of a RegistryToken, and what people are told about it."""
