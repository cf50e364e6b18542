"""Models: what answers a request, what it counts, and what it costs."""
