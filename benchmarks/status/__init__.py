"""Time of `mordal status` on a large study."""
