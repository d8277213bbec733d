"""What trains and scores candidates on this machine; loads torch."""
