"""The search methods: one module a method, the table of all of them, and the builder of a plan."""
