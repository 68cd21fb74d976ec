"""What an output added to its input, beside what the input has."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.job.output import in_step
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location
from knnvote.data.reading import ImageFile
from knnvote.data.text import describe_error

_BATCH = 16_384


def beside_input(
    images: ImageFile, columns: Sequence[str], earlier: Location, added: pa.Schema
) -> Iterator[tuple[list[pa.Array], list[pa.Array]]]:
    """Some rows at a time, the columns of an input that go on, and what an output added to them."""
    answers = _read_added(earlier, added)
    if not columns:
        return (([], batch) for batch in answers)
    kept = ([batch[name] for name in columns] for batch in images.rows.batches(columns, _BATCH))
    return in_step(kept, answers, (images.source, earlier))


def names_of(added: pa.Schema) -> list[str]:
    """The added columns without their prefix, which is before that of the first, the prediction."""
    prefix = added.names[0].removesuffix("prediction")
    return [name.removeprefix(prefix) for name in added.names]


def _read_added(output: Location, added: pa.Schema) -> Iterator[list[pa.Array]]:
    try:
        with output.open() as stream:
            for batch in pq.ParquetFile(stream, pre_buffer=False).iter_batches(_BATCH, columns=added.names):
                yield [batch[field.name].cast(field.type) for field in added]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise KnnvoteError(f"cannot read {output}: {describe_error(error)}; remove it and run the job again") from error
