"""The client library of the headend's REST API and live feed."""
