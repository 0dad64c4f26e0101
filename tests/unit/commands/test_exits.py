from bbr.commands.exits import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandError


def test_statuses_are_a_shells():
    assert (EXIT_OK, EXIT_FAILED, EXIT_USAGE) == (0, 1, 2)


def test_an_error_is_a_sentence_and_a_status():
    error = CommandError(EXIT_USAGE, OSError("no such file"))
    assert (str(error), error.status) == ("no such file", 2)
