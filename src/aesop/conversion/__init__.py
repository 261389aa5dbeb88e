"""Networks in the formats of other programs: writing, running, and comparing them."""
