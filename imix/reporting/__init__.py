"""From metrics files to the tables and plots of reports/. Needs no torch."""
