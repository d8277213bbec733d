"""What people see: progress, tables, figures, the HTML report, the dashboard. Loads no torch."""
