"""`python -m mordal_optuna`: the command line, for launchers that start modules."""

from mordal_optuna.cli.app import main

main()
