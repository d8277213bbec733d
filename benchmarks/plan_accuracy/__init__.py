"""How near `mordal plan` comes to what a study then spends."""
