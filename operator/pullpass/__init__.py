"""pullpass: repository-scoped registry tokens for Kubernetes. The map of the packages is in docs/architecture.md."""
