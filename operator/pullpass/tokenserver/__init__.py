"""The token server: parses a token request, authenticates, authorizes, issues. Answers from memory alone."""
