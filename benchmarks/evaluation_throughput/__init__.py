"""Documents a second of our chat model and of lmms-eval's own."""
