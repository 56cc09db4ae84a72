"""The console: a process that serves the web page and passes its requests on to the headend's REST API.

It knows the headend by REST alone, and keeps nothing but open connections.
"""
