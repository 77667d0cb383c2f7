"""What a run starts from: the results of an earlier run."""

import dataclasses
from pathlib import Path

from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.settings.checked import SettingsError

NOTHING = "none"  # The value that lets a stage start from nothing, whatever `previous` says.


@dataclasses.dataclass(frozen=True)
class PreviousSettings:
    """The earlier run that encoder, clusters and rankers start from.

    >>> settings = PreviousSettings(previous="W/promoted", previous_encoder="none")
    >>> settings.encoder(), settings.rankers()
    (None, PosixPath('W/promoted/rank'))
    """

    previous: str | None = None
    """Workdir of a previous run to start from, or its snapshot. `courier export --promote` writes the snapshot,
    WORKDIR/promoted. The encoder, the clusters and the rankers start from it. It is refused if it was trained on events
    after the train span of this run, or its rankers on events after the valid span."""
    previous_encoder: str | None = None
    """Start the encoder from the pretrain stage in this directory. `none` starts without a previous encoder."""
    previous_clusters: str | None = None
    """Keep the cluster IDs of the cluster stage in this directory, as far as items stay together. `none` starts
    without previous clusters."""
    previous_rankers: str | None = None
    """Start the rankers from the rank stage in this directory. `none` starts without previous rankers."""

    def encoder(self) -> Place | None:
        """Directory of the pretrain stage to start from."""
        return self._directory(self.previous_encoder, "pretrain")

    def clusters(self) -> Place | None:
        """Directory of the cluster stage to start from."""
        return self._directory(self.previous_clusters, "cluster")

    def rankers(self) -> Place | None:
        """Directory of the rank stage to start from."""
        return self._directory(self.previous_rankers, "rank")

    def _directory(self, named: str | None, stage: str) -> Place | None:
        if named is not None:
            return None if named == NOTHING else place_of(named)
        return place_of(self.previous) / stage if self.previous else None

    def directories(self) -> dict[str, Place]:
        """Option -> the stage directory that it names, or that `previous` names in its place."""
        named = {
            "previous_encoder": self.encoder(),
            "previous_clusters": self.clusters(),
            "previous_rankers": self.rankers(),
        }
        return {option: directory for option, directory in named.items() if directory is not None}

    def require_existing(self) -> None:
        """Refuses to start from what is not there, before any stage finds out.

        Raises:
            SettingsError: names the option and the directory.
        """
        if self.previous and not _is_there(place_of(self.previous)):
            raise SettingsError(f"previous={self.previous} does not exist")
        for option, directory in self.directories().items():
            if not _is_there(directory):
                without = "" if getattr(self, option) else f" (to start without it: {option}={NOTHING})"
                raise SettingsError(f"{option}={directory} does not exist{without}")


def _is_there(place: Place) -> bool:
    return place.is_dir() if isinstance(place, Path) else transfer.exists(place)
