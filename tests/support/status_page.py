"""What the status page is tried with: names that would like to be more than names, and values with their texts."""

HOSTILE = [
    "<script>document.title='owned'</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</td></table><!--",
    "{{script}} ${style} %s",
    "שלום 🦙",
    "x" * 240,
]

# No model can be called so, but an object or what is wrong with it can; and as a reader should see it.
INVISIBLE = "\u202egnp.exe"
INVISIBLE_SHOWN = "\\u202egnp.exe"


# form, value, and the text of it
FORMED = [
    ("text", "", "–"),  # noqa: RUF001
    ("text", "x", "x"),
    ("text", "x" * 601, "x" * 599 + "…"),
    ("name", "x" * 700, "x" * 599 + "…"),
    ("text", "a\u2028b\x00\t", "a\\u2028b\\x00\\t"),
    ("name", "", "(none)"),
    ("name", "\u202egnp.exe", "\\u202egnp.exe"),
    ("name", "a\u200bb\xadc\ufeff\U000e0041", "a\\u200bb\\xadc\\ufeff\\U000e0041"),
    ("name", "modèle 模型 שלום 🦙", "modèle 模型 שלום 🦙"),
    ("count", None, "–"),  # noqa: RUF001
    ("count", 0, "0"),
    ("count", 1234567, "1,234,567"),
    ("rate", None, "–"),  # noqa: RUF001
    ("rate", 0.0, "0"),
    ("rate", 0.01, "< 0.1"),
    ("rate", 0.25, "0.3"),
    ("rate", 3.0, "3"),
    ("rate", 99.94, "99.9"),
    ("rate", 1234.5, "1,235"),
    ("share", None, "–"),  # noqa: RUF001
    ("share", 0.0, "0%"),
    ("share", 0.0004, "< 0.1%"),
    ("share", 0.0125, "1.3%"),
    ("share", 1.0, "100%"),
    ("bytes", 0, "0 B"),
    ("bytes", 1023, "1023 B"),
    ("bytes", 1280, "1.3 KiB"),
    ("bytes", 512 << 20, "512 MiB"),
    ("bytes", (1 << 20) - 1, "1024 KiB"),
    ("bytes", 5000 << 30, "5000 GiB"),
    ("duration", 59.99, "59 s"),
    ("duration", 60, "1 min"),
    ("duration", 3725, "1 h 2 min"),
    ("duration", 90_000, "1 d 1 h"),
    ("ago", 61, "1 min ago"),
    ("bound", None, "–"),  # noqa: RUF001
    ("bound", {"at_most_seconds": 0.00002}, "≤ 0.02 ms"),
    ("bound", {"at_most_seconds": 0.00025}, "≤ 0.25 ms"),
    ("bound", {"at_most_seconds": 0.1}, "≤ 100 ms"),
    ("bound", {"at_most_seconds": 5.0}, "≤ 5 s"),
    ("bound", {"more_than_seconds": 60.0}, "> 60 s"),
    ("clock", 1_700_000_000.0, "2023-11-14 22:13:20 UTC"),
    ("state", True, "ready"),
    ("state", False, "not ready"),
    ("whether", True, "yes"),
    ("whether", False, "no"),
]
