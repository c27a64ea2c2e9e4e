"""How many predictions are in flight, how fast they are submitted, when they are polled."""
