"""Something that must never be unpickled."""


class Trap:
    """Whoever unpickles this makes a file, which tells on him."""

    def __init__(self, place) -> None:
        self.file = str(place.trap)

    def __reduce__(self):
        return open, (self.file, "w")
