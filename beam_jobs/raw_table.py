"""One table of the raw folder: its files, how they are written, and which of their columns are ours."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence

from beam_jobs import bigquery, columns, dialects, formats, json_rows, parquet_rows, raw_files
from beam_jobs.formats import RawDataError, rows_of
from beam_jobs.raw_rows import TIMES, RawFile, RawRow
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

LOG = logging.getLogger(__name__)

HEAD_ROWS = 1_000  # Rows of a file that its columns, times and ids are recognised by.
MOST_SAMPLED = 200  # Files of a table whose first rows are read.


@dataclasses.dataclass
class RawTable:
    """One table of the raw folder, as it was recognised.

    Attributes:
        names: file -> its columns, those of its folders `name=value` among them.
        samples: file -> column, by our name or its own -> first values.
    """

    name: str
    names: dict[str, list[str]]
    files: list[RawFile]
    matched: dict[str, columns.Matched]
    samples: dict[str, dict[str, list[str]]]
    told: list[str]
    warnings: list[str]

    @classmethod
    def inspect(cls, raw: str, name: str, settings: RawSettings, encoding: str = "") -> "RawTable":
        address = settings.table(name)
        if address:
            listing = raw_files.Found((address,), {address: ()}, ())
        else:
            listing = raw_files.find_files(raw, name, settings.follow_links, optional=name == schema.RAW_USERS)
        table = cls(name, {}, [], {}, {}, [], list(listing.left_out))
        if not listing.files:
            return table
        headers: dict[str, list[str]] = {}
        by_path = {address: dialects.Dialect("bigquery")} if address else dialects.detect_all(listing.files, encoding)
        for path, dialect in by_path.items():
            headers[path] = formats.columns_of(path, dialect, every_row=name != schema.RAW_EVENTS)
            if not headers[path]:  # As `[]` of JSON.
                dialect = dataclasses.replace(dialect, format="empty")
            table.files.append(RawFile(path, dialect, tuple(headers[path]), zone=settings.timezone))
        if all(file.dialect.format == "empty" for file in table.files):
            raise RawDataError(f"{table.files[0].path} is empty")
        for file in table.files:
            if file.dialect.format != "empty":
                table._match(file, headers[file.path], listing.partitions[file.path], settings)
        step = max(1, len(table.files) // MOST_SAMPLED)
        for file in table.files[::step]:
            table.samples[file.path] = _sample(file)
        table.files = [table._only_ours(file, settings.context_columns) for file in table.files]
        table._tell(listing)
        return table

    def _match(
        self, file: RawFile, header: list[str], partitions: Sequence[tuple[str, str]], settings: RawSettings
    ) -> None:
        in_file = set(map(columns.plain, header))
        of_folders = {name: value for name, value in partitions if columns.plain(name) not in in_file}
        self.names[file.path] = names = [*header, *of_folders]
        matched = columns.match(file.path, self.name, names, settings)
        try:
            columns.require(file.path, self.name, matched, names)
        except RawDataError as error:
            if around := json_rows.list_of_rows(file.path, file.dialect):
                raise RawDataError(
                    f"{file.path} is one object, and its field '{printable(around)}' holds the rows: write the list "
                    f"alone, for example by jq '.[\"{printable(around)}\"]'"
                ) from error
            raise
        told = [*matched.told]
        if self.name != schema.RAW_EVENTS and (
            dates := raw_files.dates_among(of_folders) & {n for _, n in matched.further}
        ):
            told.append(f"folders {', '.join(sorted(dates))}=... tell when rows were written, and are no columns")
            matched = dataclasses.replace(
                matched, further=tuple(pair for pair in matched.further if pair[1] not in dates)
            )
        self.told += [line for line in (f"{self.name}: {text}" for text in told) if line not in self.told]
        self.matched[file.path] = matched
        types = parquet_rows.types_of(file.path, file.dialect)
        pairs = (*matched.columns, *matched.further)
        image = dict(matched.columns).get("image", "")
        replaced = dataclasses.replace(
            file,
            columns=tuple(pair for pair in pairs if pair[1] not in of_folders),
            constants=tuple((n, of_folders[source]) for n, source in pairs if source in of_folders),
            typed_times=tuple(n for n, source in matched.columns if n in TIMES and source in types
                              and parquet_rows.is_time(types[source])),
            photo=image in types and parquet_rows.holds_photos(types[image]) and parquet_rows.are_photos(file, image),
        )  # fmt: skip
        self.files[self.files.index(file)] = replaced
        for n, source in matched.columns:
            if n == "timestamp" and source in types and parquet_rows.is_short(types[source]):
                self.warnings.append(
                    f"{file.path}, column '{printable(source)}' has 32 bits, which hold times to two minutes"
                )

    def _only_ours(self, file: RawFile, context: Sequence[str]) -> RawFile:
        """A file of events without the columns that no event needs, and another one without columns of bytes."""
        if file.dialect.format == "empty":
            return file
        matched = self.matched[file.path]
        if self.name == schema.RAW_EVENTS:
            read = {*matched.names, *context}
            pairs = tuple(pair for pair in file.columns if pair[0] in read)
            if file.dialect.format in ("jsonl", "json"):  # Later rows may have what the first do not.
                given = {*dict(pairs), *dict(file.constants)}
                expected = (*schema.IMPRESSION_LOG_COLUMNS, *context)
                pairs += tuple((n, n) for n in expected if n not in given and n not in file.header)
            return dataclasses.replace(
                file, columns=pairs, constants=tuple(pair for pair in file.constants if pair[0] in read)
            )
        types = parquet_rows.types_of(file.path, file.dialect)
        left = [n for n, source in matched.further if source in types and parquet_rows.holds_photos(types[source])
                and parquet_rows.are_photos(file, source)]  # fmt: skip
        told = {n for n in left if any(f"column '{printable(n)}' holds bytes" in line for line in self.warnings)}
        self.warnings += [
            f"{file.path}, column '{printable(n)}' holds bytes and is left out"
            + (f": --columns image={printable(n)} reads it as photos" if self.name == schema.RAW_ITEMS else "")
            for n in left
            if n not in told
        ]
        return dataclasses.replace(file, columns=tuple(pair for pair in file.columns if pair[0] not in left))

    def all_values(self, path: str, column: str) -> Iterator[str]:
        """The values of a column in all rows of a file. None of a table of BigQuery, which is not read twice."""
        matched = self.matched[path]
        source = dict((*matched.columns, *matched.further))[column]
        file = next(file for file in self.files if file.path == path)
        if source in file.header and file.dialect.format != bigquery.FORMAT:
            LOG.info("%s: looking for a value of '%s'", printable(path), printable(column))
            for row in rows_of(dataclasses.replace(file, columns=((column, source),), constants=())):
                if isinstance(row, RawRow):
                    yield row.fields.get(column, "")

    def _tell(self, listing: raw_files.Found) -> None:
        kinds: dict[str, int] = {}
        for file in self.files:
            kinds[str(file.dialect)] = kinds.get(str(file.dialect), 0) + 1
        shown = [printable(file.path) for file in self.files]
        if len(shown) > 20:
            shown = [*shown[:10], f"({len(shown) - 20} more)", *shown[-10:]]
        self.told.insert(0, f"{self.name}: {len(self.files)} file{'s' * (len(self.files) > 1)}: {', '.join(shown)}")
        self.told.insert(1, f"{self.name}: " + "; ".join(f"{kind} ({number})" for kind, number in kinds.items()))
        odd = sorted({file.dialect.encoding for file in self.files} - {"utf-8"})
        guessed = [name for name in odd if not name.startswith("utf")]
        if guessed:
            self.warnings.append(
                f"{self.name}: the text is not UTF-8, and is read as {', '.join(guessed)}, as its letters suggest; "
                "where that is wrong, convert the files: iconv -f ENCODING -t UTF-8"
            )
        names = frozenset().union(*(matched.names for matched in self.matched.values()))
        if self.name == schema.RAW_ITEMS:
            for name in ("category", "title"):
                if name not in names:
                    self.told.append(f"items: there is no column '{name}', so it is empty")
            if "image" not in names:
                self.warnings.append(
                    "items: there is no column 'image', so no item has a photo: --columns image=COLUMN"
                )
        of_files = [] if self.files[0].dialect.format == bigquery.FORMAT else raw_files.copies(listing.files)
        for first, other, *more in of_files:
            further = f", and {len(more)} more," if more else ""
            self.warnings.append(f"{first} and {other}{further} may be copies: they begin alike and are of one size")


def _sample(file: RawFile) -> dict[str, list[str]]:
    """The first values of each column of a file, one of each row. A row of JSON without the field has an empty one."""
    sample: dict[str, list[str]] = {}
    number = 0
    for row in itertools.islice(rows_of(file), HEAD_ROWS):
        if isinstance(row, RawRow):
            for name, text in row.fields.items():
                sample.setdefault(name, []).extend(itertools.repeat("", number - len(sample[name])))
                sample[name].append(text)
            number += 1
    for texts in sample.values():
        texts.extend(itertools.repeat("", number - len(texts)))
    return sample
