"""The one error a caller's input can raise; the command line turns it into one line and exit status 2."""


class InputError(ValueError):
    """Input that cannot be used: says what was asked, what was got and what to do, in one line."""
