"""The operator: Kopf fills a cache and a work queue; tokens, places and keys each have passes of their own."""
