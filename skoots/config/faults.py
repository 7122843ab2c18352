"""The faults of one config, gathered as they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skoots.errors import ConfigError, Fault

MANY = 50


class Faults(list[Fault]):
    """Faults as they are found; the search ends at the fiftieth, for nobody reads on.

    Args:
        source: the file that they stand in, for messages.
    """

    def __init__(self, source: str = "") -> None:
        super().__init__()
        self.source = source
        self.as_written: Callable[[Fault], Fault] = lambda fault: fault  # under the path that the user wrote

    def append(self, fault: Fault) -> None:
        """Add a fault.

        Raises:
            ConfigError: it is the last one that is gathered.
        """
        super().append(fault)
        if len(self) == MANY:
            super().append(Fault("", "and perhaps more: the check ends here"))
            self.end()

    def extend(self, faults: Iterable[Fault]) -> None:
        """Add several, see ``append``."""
        for fault in faults:
            self.append(fault)

    def end(self) -> None:
        """Say what was found.

        Raises:
            ConfigError: with every fault, if there is one.
        """
        if self:
            raise ConfigError(list(dict.fromkeys(map(self.as_written, self))), self.source)
