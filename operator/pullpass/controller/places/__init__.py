"""One namespace that gets the password of a RegistryToken: its pull secret and its ServiceAccount entries."""
