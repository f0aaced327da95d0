"""Keys of registries and servers: signing leaf and CA, server certificates, their storage, replacement of a CA."""
