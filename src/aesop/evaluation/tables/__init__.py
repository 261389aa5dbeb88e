"""Tables of compared methods: one neutral `Table`, rendered for the terminal, Markdown, and LaTeX; also CSV and JSON."""
