"""Texts that have broken, or might break, something that writes G-code, and hypothesis strategies made of them."""

from __future__ import annotations

from hypothesis import strategies as st

NASTY = (
    "",
    " ",
    "'",
    '"',
    "\\",
    "'; M112",
    "\nM112",
    "\n\nM112\n",
    "\rM112\r\n",
    "M112",
    "x y",
    " x ",
    "a=b",
    "x B=1",
    "x B=1 '='",
    '" B="1',
    "' B='1",
    '" B=1 #',
    "' B=1 #",
    "\\' B=1 #",
    '\\" B=1 #',
    "#",
    ";",
    "*",
    "a#b*c;d",
    "*12",
    "x*99",
    "/",
    "N5 M112",
    "{a}",
    "{b}",
    "$(reboot)",
    "ß",
    "ı",
    "ſ",
    "ﬁ",
    "É",
    "😀",
    "\x00",
    "\x03",
    "\x0b",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2028",
    "\u2029",
    "\ufeff",
    "nan",
    "1e5",
    "-1.5",
    "12",
    ".5",
    "1 Y2",
    "1Y2",
    "S1",
)

# No lone surrogates: they cannot come out of a frame (see test_messages).
LETTERS = st.one_of(
    st.sampled_from(" '\"\\#;*=\n\r\t/{}AbN1_.\x00\x0b\x1c\x85\xa0\u2028ßı😀"),
    st.characters(exclude_categories=["Cs"]),
)
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.text(LETTERS, max_size=12),
    st.lists(st.sampled_from(NASTY), max_size=4).map("".join),
)
