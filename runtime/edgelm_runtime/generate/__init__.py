"""Text generation: options, sampling, the KV cache and the decode loop."""
