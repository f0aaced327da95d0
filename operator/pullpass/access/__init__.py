"""What a token may do: actions, repository patterns, `scope` strings and their intersection. Pure."""
