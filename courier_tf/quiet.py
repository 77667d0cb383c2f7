"""Libraries' warnings that no user can act on, silenced one by one, with the reason."""

import logging
import warnings


def silence() -> None:
    """To be called by a program, never by a library import: it changes what the whole process prints."""
    # KerasCV's Backbone looks through its own attributes, among them deprecated ones, whenever it is saved.
    warnings.filterwarnings("ignore", message=r".*(state_updates|layer\.updates).*will be removed")
    # Rankers and encoders are saved by our own config and weights; Keras's own format is not used.
    logging.getLogger("tensorflow").addFilter(
        lambda record: not any(text in record.getMessage() for text in ("non-serializable", "Skipping full serial"))
    )
