"""`python -m prompt2lora`: the command line of the Python that is running, where its scripts are not on the path."""

from prompt2lora.cli.main import main

main()
