"""What is between the network and the requests: connections, TLS, the certificate, proxies, answers."""
