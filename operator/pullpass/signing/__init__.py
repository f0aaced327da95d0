"""Keys, certificates and signed access tokens: pure functions, the clock is an argument."""
