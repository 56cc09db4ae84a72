"""The HTTP connection: what hypercorn serves, and the limits around it."""
