"""Ratios of bunflare to a floor that is measured in the same run: ``make bench``."""
