"""A profile for those who read it: a terminal, a page, a trace, a scraper, a pull request."""
