"""Converting networks to the formats of other programs."""
