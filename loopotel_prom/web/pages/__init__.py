"""The pages for people: rendered here, complete without a script."""

from loopotel_prom.web.pages.runbooks import add_runbooks
from loopotel_prom.web.pages.views import add_pages

__all__ = ["add_pages", "add_runbooks"]
