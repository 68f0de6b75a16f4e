"""Logs exceptions. Without it, an exception is a trap without text."""

import functools

from wit_world.imports import log


def logged(function):
    """Writes an exception of a hook to the log, with its file and line."""

    @functools.wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except Exception as error:
            # The module `traceback` reads source files, which a sandbox does not have.
            at = error.__traceback__
            while at.tb_next is not None:
                at = at.tb_next
            where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
            log.write(log.Level.WARN, f"{type(error).__name__}: {error} ({where})")
            raise

    return call
