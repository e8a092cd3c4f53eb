"""The page: what was found, with the figures and the tables, in one file that opens from disk."""

from reports.page.build import write_report as write_report
