"""Who may do what: certificates and identities of agents, tokens of people and programs."""
