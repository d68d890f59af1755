"""Text that UTF-8 can carry. JSON's escapes may bring half of a UTF-16 pair, and a client that sends it back with the
history is refused."""


def well_formed(text: str) -> str:
    """Two halves side by side are one character. A half alone is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Pieces:
    """Those of one text. Two of them may have the halves of a character."""

    def __init__(self) -> None:
        self._half = ""

    def well_formed(self, piece: str) -> str:
        """The first half at its end is kept for the next one."""
        piece = self._half + piece
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        return well_formed(piece.removesuffix(self._half))
