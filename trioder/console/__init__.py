"""The console: a web page over the headend's REST API and live feed."""
