"""Keys by their names in the DOM (`KeyboardEvent.key`), as DevTools wants them."""

from dataclasses import dataclass
from typing import Any

_MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
# Name: code, Windows virtual key code, text.
_NAMED = {
    "Alt": ("AltLeft", 18, ""),
    "Control": ("ControlLeft", 17, ""),
    "Meta": ("MetaLeft", 91, ""),
    "Shift": ("ShiftLeft", 16, ""),
    "Backspace": ("Backspace", 8, ""),
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "PageUp": ("PageUp", 33, ""),
    "PageDown": ("PageDown", 34, ""),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Delete": ("Delete", 46, ""),
}
_PUNCTUATION = {
    ";": ("Semicolon", 186),
    "=": ("Equal", 187),
    ",": ("Comma", 188),
    "-": ("Minus", 189),
    ".": ("Period", 190),
    "/": ("Slash", 191),
    "?": ("Slash", 191),
    "+": ("Equal", 187),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key and the modifiers that are held with it."""

    key: str
    code: str
    number: int
    text: str
    modifiers: int = 0

    def event(self, kind: str) -> dict[str, Any]:
        """Return the parameters of Input.dispatchKeyEvent, for `keyDown` or `keyUp`."""
        params: dict[str, Any] = {
            "type": kind if self.text or kind == "keyUp" else "rawKeyDown",
            "key": self.key,
            "code": self.code,
            "windowsVirtualKeyCode": self.number,
            "modifiers": self.modifiers,
        }
        if self.text and kind == "keyDown":
            params |= {"text": self.text, "unmodifiedText": self.text}
        # What a desktop binds to the keys; a headless browser has to get it by name.
        if self.modifiers == _MODIFIERS["Control"] and self.key == "a" and kind == "keyDown":
            params["commands"] = ["selectAll"]
        return params


def parse_keys(text: str) -> list[Key]:
    """Return the keys of a chord, the modifiers first: of `Escape`, `a`, `Control+k` or `Shift+Tab`.

    Raises:
        ValueError: there is no such key.
    """
    *names, last = text.split("+") if len(text) > 1 else [text]
    modifiers = 0
    keys = []
    for name in names:
        if name not in _MODIFIERS:
            raise ValueError(f"{text!r}: {name!r} is no modifier; there are {', '.join(_MODIFIERS)}")
        modifiers |= _MODIFIERS[name]
        keys.append(_key(name, modifiers))
    return [*keys, _key(last, modifiers)]


def _key(name: str, modifiers: int) -> Key:
    if name in _NAMED:
        code, number, text = _NAMED[name]
    elif len(name) == 1:
        code, number = _character(name)
        text = name
    elif name.startswith("F") and name[1:].isdecimal():
        code, number, text = name, 111 + int(name[1:]), ""
    else:
        raise ValueError(
            f"{name!r} is no key; there are single characters, F1 to F12 and {', '.join(_NAMED)}"
        )
    # With Control, Alt or Meta a key writes nothing.
    if modifiers & ~_MODIFIERS["Shift"]:
        text = ""
    return Key(key=name, code=code, number=number, text=text, modifiers=modifiers)


def _character(character: str) -> tuple[str, int]:
    if character.isascii() and character.isalpha():
        return f"Key{character.upper()}", ord(character.upper())
    if character.isascii() and character.isdecimal():
        return f"Digit{character}", ord(character)
    return _PUNCTUATION.get(character, ("", 0))
