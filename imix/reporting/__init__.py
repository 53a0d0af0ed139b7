"""Turn the metrics of a study into the tables, plots and pages of reports/."""
