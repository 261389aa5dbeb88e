from aesop.cli import app

app()
