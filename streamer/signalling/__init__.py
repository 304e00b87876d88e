"""How a call is agreed on: WHIP (RFC 9725) in, WHEP out, the page's own session, all over HTTP.

What is decided from text alone (description, fragment, conditions, credentials, placement) has no I/O; the routes in
whip.py, whep.py and page.py only carry it.
"""
