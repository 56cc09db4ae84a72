"""The headend: agent sessions, the latest state, dispatch and the tick loop; REST is in `api`."""
