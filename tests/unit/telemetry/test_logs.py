import asyncio
import gc
import io
import json
import logging
import os
import sys
import threading
import warnings

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from bbr.system import writer as unblocked
from bbr.telemetry import logs
from bbr.text import is_visible

log = logging.getLogger("bbr.test_logs")


@pytest.fixture
def give_back(monkeypatch):
    """Undo what `set_up` does to the process."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root = logging.getLogger()
    handlers = list(root.handlers)
    loggers = [root, logging.getLogger("bbr"), logging.getLogger(logs.ACCESS)]
    levels = [each.level for each in loggers]
    yield
    logging.captureWarnings(False)
    for each in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(each)
        each.close()
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


class Output(io.StringIO):
    """A stream in memory, perhaps a terminal's."""

    terminal = False

    def isatty(self):
        return super().isatty() or self.terminal

    @property
    def lines(self):
        return self.getvalue().splitlines()

    @property
    def records(self):
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def output(give_back):
    stream = Output()
    assert logs.set_up("debug", "json", stream) == "json"
    return stream


def raised(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


def made(message, *arguments, name="bbr.test", level=logging.INFO, exc_info=None, **extra):
    record = logging.LogRecord(name, level, __file__, 1, message, arguments, exc_info)
    record.created = 1_700_000_000.1239
    vars(record).update(extra)
    return record


def test_json():
    line = logs.as_json(made("%s is %d", "it", 7, outcome="refused", share=0.5, early=False), " (2 more)")
    assert line == (
        '{"time":"2023-11-14T22:13:20.123Z","level":"info","logger":"bbr.test","message":"it is 7 (2 more)",'
        '"outcome":"refused","share":0.5,"early":false}'
    )


def test_text():
    line = logs.as_text(made("%s is %d", "it", 7, outcome="refused", model='a "b" \\', early=False), "")
    assert line == (
        '2023-11-14T22:13:20.123Z INFO bbr.test: it is 7 outcome=refused model="a \\"b\\" \\\\" early=false'
    )


NASTY = [
    pytest.param("a\nb", "a\nb", "a\\nb", id="a line's end"),
    pytest.param("a\r\x1b[31m\x00b", "a\r\x1b[31m\x00b", "a\\r\\x1b[31m\\x00b", id="escape sequences"),
    pytest.param("a\x7f\x85\u2028b", "a\x7f\x85\u2028b", "a\\x7f\\x85\\u2028b", id="line ends of Unicode's"),
    pytest.param("a\u202eb", "a\u202eb", "a\\u202eb", id="a change of direction"),
    pytest.param("a\u200b\ufeff\u2060b", "a\u200b\ufeff\u2060b", "a\\u200b\\ufeff\\u2060b", id="no width"),
    pytest.param("a\u200e\u061cb", "a\u200e\u061cb", "a\\u200e\\u061cb", id="marks of direction"),
    pytest.param("a\u3164\ufe0fb", "a\u3164\ufe0fb", "a\\u3164\\ufe0fb", id="letters that are not to be seen"),
    pytest.param("a\U000e0041b", "a\U000e0041b", "a\\U000e0041b", id="a tag beyond U+FFFF"),
    pytest.param("a\udcffb", "a\\udcffb", "a\\udcffb", id="a lone surrogate"),
    pytest.param("模型 é 😀", "模型 é 😀", "模型 é 😀", id="letters of the world"),
]


@pytest.mark.parametrize(("text", "in_json", "in_text"), NASTY)
def test_whatever_a_record_holds_is_one_line(give_back, text, in_json, in_text):
    for form in ("json", "text"):
        stream = Output()
        logs.set_up("info", form, stream)
        log.info("%s", text, extra={"model": text})
        (line,) = stream.lines
        assert is_visible(line)
        if form == "json":
            assert json.loads(line)["message"] == json.loads(line)["model"] == in_json
        else:
            assert f": {in_text} model=" in line


@given(st.text(st.characters()))
def test_no_text_breaks_a_line_or_is_lost(text):
    for make in (logs.as_json, logs.as_text):
        line = make(made("%s", text, model=text), "")
        assert line.splitlines() == [line]
        assert is_visible(line)
        line.encode("utf-8", "backslashreplace")
    found = json.loads(logs.as_json(made("x", model=text), ""))["model"]
    assert found == text.encode("utf-8", "backslashreplace").decode()


def test_values_of_other_kinds():
    value = {"n": 1 << 70, 3: ["\ud800"], "t": (1,), "o": log}
    found = json.loads(logs.as_json(made("x", value=value), ""))["value"]
    assert found == {"n": str(1 << 70), "3": ["\\ud800"], "t": [1], "o": "<Logger>"}
    assert 'value="{\\"n\\":' in logs.as_text(made("x", value=value), "")


def test_extra_fields_can_not_pass_for_others():
    record = made("x", time="never", stack="none", logger="root")
    record.level = "none"
    found = json.loads(logs.as_json(record, ""))
    assert (found["level"], found["logger"], found["time"][:4]) == ("info", "bbr.test", "2023")
    assert "stack" not in found


def test_long_texts_are_cut():
    found = json.loads(logs.as_json(made("%s", "x" * 5000, path="y" * 4097), ""))
    assert found["message"] == "x" * 4096 + "... (904 more characters)"
    assert found["path"] == "y" * 4096 + "... (1 more characters)"


def chained():
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer\nwords") from error
    except ValueError:
        return sys.exc_info()


def test_errors_are_a_field_with_their_causes():
    found = json.loads(logs.as_json(made("it failed", exc_info=chained()), ""))
    stack = found["stack"]
    assert stack.index("KeyError: 'inner'") < stack.index("which led to:") < stack.index("ValueError: outer\nwords")
    assert stack.count(f'File "{__file__}"') == 2
    assert "stack" not in json.loads(logs.as_json(made("x", exc_info=(None, None, None)), ""))


def test_in_text_an_error_stands_below_its_line_and_can_not_forge_another():
    lines = logs.as_text(made("it failed", exc_info=chained()), "").split("\n")
    assert lines[0].endswith("bbr.test: it failed")
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-1] == "    words"


def test_an_error_from_none_and_one_that_leads_to_itself():
    alone = ValueError("outer")
    alone.__context__ = KeyError("inner")
    for suppressed in (True, False):
        alone.__suppress_context__ = suppressed
        stack = json.loads(logs.as_json(made("x", exc_info=(ValueError, alone, None)), ""))["stack"]
        assert ("KeyError" in stack) != suppressed
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    stack = json.loads(logs.as_json(made("x", exc_info=(ValueError, one, None)), ""))["stack"]
    assert (stack.count("ValueError"), stack.count("KeyError")) == (1, 1)


@pytest.mark.parametrize("name", ["bbr.transports.uv", "bbr.admin.http", "grpc._cython.cygrpc", "asyncio"])
def test_where_clients_octets_are_held_errors_have_no_words(name):
    stack = json.loads(logs.as_json(made("x", name=name, exc_info=chained()), ""))["stack"]
    assert "builtins.ValueError" in stack
    assert "builtins.KeyError" in stack
    assert f'File "{__file__}"' in stack
    assert "outer" not in stack.replace("outer\\nwords", "")  # the source line is ours
    assert stack.splitlines()[-1] == "builtins.ValueError"


def test_other_values_than_texts_are_cut_too():
    several = ["x" * 4096, {"y": 1}]
    found = json.loads(logs.as_json(made("%s", "said", several=several, few=["x"], nothing=None, number=1.5), ""))
    assert found["several"].startswith('["xxx')
    assert found["several"].endswith(" more characters)")
    assert (found["few"], found["nothing"], found["number"]) == (["x"], None, 1.5)


def test_a_long_stack_keeps_its_end():
    def deeper(left):
        if left:
            deeper(left - 1)
        else:
            raise ValueError("the end")

    try:
        deeper(500)
    except ValueError:
        record = made("x", exc_info=sys.exc_info())
    for name in ("bbr.test", "bbr.transports.uv"):
        record.name = name
        stack = json.loads(logs.as_json(record, ""))["stack"]
        assert len(stack) < logs.MAX_STACK + 50
        assert stack.endswith("ValueError: the end" if name == "bbr.test" else "builtins.ValueError")


FORMS = [
    pytest.param("auto", True, "text", id="a terminal"),
    pytest.param("auto", False, "json", id="no terminal"),
    pytest.param("text", False, "text", id="text"),
    pytest.param("json", True, "json", id="json"),
]


@pytest.mark.parametrize(("form", "terminal", "chosen"), FORMS)
def test_form(give_back, form, terminal, chosen):
    stream = Output()
    stream.terminal = terminal
    assert logs.set_up("info", form, stream) == chosen
    log.info("hello")
    assert stream.getvalue().startswith("{") == (chosen == "json")


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_level_is_about_our_lines_and_never_about_libraries_debugging(give_back, level, written):
    stream = Output()
    logs.set_up(level, "json", stream)
    for each in ("debug", "info", "warning", "error"):
        getattr(log, each)(each)
    assert [each["level"] for each in stream.records] == ["debug", "info", "warning", "error"][-written:]
    logging.getLogger("hpack.hpack").debug("Decoded secret")
    logging.getLogger(logs.ACCESS).info("a request")
    logging.getLogger("library").error("an error of its")
    assert [each["message"] for each in stream.records[written:]] == ["a request", "an error of its"]


def test_set_up_again_takes_the_place_of_what_was(output):
    other = Output()
    logs.set_up("info", "text", other)
    log.info("hello")
    assert output.lines == []
    assert len(other.lines) == 1


def repeat(times, level=logging.WARNING, name="bbr.test_logs"):
    for number in range(times):
        logging.getLogger(name).log(level, "again %d", number)


@pytest.fixture
def timed(give_back):
    stream = Output()
    clock = iter(())
    handler = logs.Lines(lambda octets: stream.write(octets.decode()), logs.as_json, lambda: next(clock))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)

    def set_clock(*times):
        nonlocal clock
        clock = iter(times)

    return stream, handler, set_clock


def test_the_same_line_comes_so_often_and_then_is_counted(timed):
    stream, handler, set_clock = timed
    set_clock(*[100.0] * 30, *[110.0] * 25)
    repeat(55)
    messages = [each["message"] for each in stream.records]
    assert messages[:20] == [f"again {number}" for number in range(20)]
    assert messages[20] == "again 30 (10 more since the last such line)"
    assert messages[21:] == [f"again {number}" for number in range(31, 50)]
    handler.close()
    assert stream.records[-1]["message"].startswith("5 lines of test_logs.py:")
    assert stream.records[-1]["message"].endswith(" were left out since the last one")


def test_other_places_requests_and_debugging_have_their_lines_all_the_same(timed):
    stream, handler, set_clock = timed
    set_clock(*[100.0] * 26)
    repeat(25)
    log.warning("another")
    assert stream.records[-1]["message"] == "another"
    before = len(stream.lines)
    repeat(25, name=logs.ACCESS)
    repeat(25, level=logging.DEBUG)
    assert len(stream.lines) == before + 50
    handler.close()


def test_warnings(output):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(True)  # catch_warnings has put pytest's way back
        warnings.showwarning = logging._showwarning
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
    (record,) = output.records
    assert (record["level"], record["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: old\nways" in record["message"]


def test_uncaught_errors(output, capsys):
    sys.excepthook(*raised(ValueError("words")))
    sys.excepthook(*raised(KeyboardInterrupt()))
    (record,) = output.records
    assert (record["level"], record["message"]) == ("critical", "an error was not caught: the process ends")
    assert record["stack"].endswith("ValueError: words")
    assert "KeyboardInterrupt" in capsys.readouterr().err


def fail(error):
    raise error


def test_errors_of_threads(output):
    for error in (ValueError("words"), SystemExit()):
        thread = threading.Thread(target=fail, args=(error,), name="worker")
        thread.start()
        thread.join()
    (record,) = output.records
    assert record["message"] == "an error ended the thread worker"
    assert record["stack"].endswith("ValueError: words")
    threading.excepthook(threading.ExceptHookArgs((*raised(ValueError("words")), None)))
    assert output.records[-1]["message"] == "an error ended the thread unknown"


def test_errors_that_can_not_be_raised(output):
    class Fragile:
        def __del__(self):
            raise ValueError("words")

        def __repr__(self):
            return "whose words?"

    Fragile()
    gc.collect()
    (record,) = output.records
    assert record["message"] == "an error could not be raised"
    assert record["stack"].endswith("builtins.ValueError")


def test_errors_of_the_event_loop(output):
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(fail, ValueError("a client's words"))
        task = loop.create_task(asyncio.sleep(0), name="followed")
        task.cancel()
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "a task failed", "task": task, "exception": ValueError("words")})
        loop.call_exception_handler({"message": "no more is known"})
        return 7

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(logs.watched(main())) == 7
    first, second, third = output.records
    assert first["message"] == "in the event loop: an error in a callback"
    assert first["stack"].endswith("builtins.ValueError")
    assert "client's" not in json.dumps(output.records)
    assert (second["message"], second["task"]) == ("in the event loop: a task failed", "followed")
    assert third["message"] == "in the event loop: no more is known"
    assert "stack" not in third


def test_a_line_that_can_not_be_made_is_told_without_what_it_holds(output):
    lines = next(each for each in logging.getLogger().handlers if isinstance(each, logs.Lines))
    lines.handle(made("%d", "secret"))  # and not by pytest's handlers, which raise
    (record,) = output.records
    assert record["message"].startswith("a line could not be written: TypeError at test_logs.py:")
    assert "secret" not in output.getvalue()


def test_a_closed_stream_takes_lines_away_and_nothing_else(output, capsys):
    lines = next(each for each in logging.getLogger().handlers if isinstance(each, logs.Lines))
    output.close()
    log.info("hello")
    lines.handle(made("%d", "x"))
    assert capsys.readouterr() == ("", "")
    assert logs.set_up("info", "auto", output) == "json"


def test_a_broken_pipe_takes_lines_away_and_nothing_else(give_back, capsys):
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as stream:
        logs.set_up("info", "auto", stream)
        log.info("模")
        assert json.loads(os.read(reader, 1000))["message"] == "模"
        os.close(reader)
        log.info("lost")
    assert capsys.readouterr() == ("", "")


def test_a_pipe_that_nobody_reads_takes_lines_away_and_the_next_one_tells_how_many(give_back, monkeypatch):
    monkeypatch.setattr(unblocked, "PATIENCE_SECONDS", 0.001)
    requests = logging.getLogger(logs.ACCESS)
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as stream, open(reader, encoding="ascii") as lines:
        logs.set_up("info", "auto", stream)
        for number in range(1000):
            requests.info("%s", str(number) * 100)
        os.set_blocking(reader, False)
        found = [json.loads(line)["message"] for line in lines.read().splitlines() if line.endswith("}")]
        requests.info("next")
        (told,) = [json.loads(line) for line in lines.read().splitlines() if line]
    assert told["message"] == f"next ({1000 - len(found)} lines before it could not be written)"


def test_without_stderr_nothing_is_written(give_back, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert logs.set_up() == "json"
    log.info("hello")
