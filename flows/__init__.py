"""What happens, in which order. Each flow reads like a table of contents."""
