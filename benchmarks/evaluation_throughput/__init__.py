"""Documents per second of our chat model and of lmms-eval's."""
