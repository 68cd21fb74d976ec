"""Files in which other libraries save arrays, which are not read, and Python that makes NumPy's file of them."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from knnvote.data.text import python_command

_TRUST = ", and to load one runs whatever it says; where you trust it, "
_ARRAYS = "; a = d if isinstance(d, dict) else dict(enumerate(d if isinstance(d, tuple) else [d]))"


@dataclass(frozen=True)
class _Format:
    """How files of a library are told and read.

    Attributes:
        kind: what a file is.
        endings: of their names.
        begins: their first bytes, as a regular expression.
        code: Python that has the arrays that a file holds as ``a``, by name, with its path left open.
        value: what makes a plain array of one of them, ``v``.
        is_pickle: it runs what the file says, and may give a DataFrame, ``d``.
    """

    kind: str
    endings: tuple[str, ...]
    begins: re.Pattern[bytes]
    code: str
    value: str = "v"
    is_pickle: bool = False

    def told(self, path: str) -> str:
        """What makes NumPy's file of one of them."""
        arrays, table = (f"{re.sub(r'[.][^./]+$', '', path)}.new.{ending}" for ending in ("npz", "parquet"))
        save = f"np.savez({arrays!r}, **{{str(k): {self.value} for k, v in a.items()}})"
        if self.is_pickle:
            save = f"d.to_parquet({table!r}) if hasattr(d, 'to_parquet') else {save}"
        command = python_command(f"{self.code.format(path=path)}; {save}")
        made = f"{arrays} of it{f', or {table} of a DataFrame' if self.is_pickle else ''}"
        return f"it is {self.kind}{_TRUST if self.is_pickle else ': '}{command} makes {made}"


_FORMATS = (
    _Format(
        "a file of PyTorch",
        (".pt", ".pth"),
        re.compile(rb"PK\x03\x04.{26}[^\0]*data\.pkl", re.DOTALL),
        "import torch, numpy as np; d = torch.load({path!r}, map_location='cpu', weights_only=True)" + _ARRAYS,
        "np.asarray(v.detach() if torch.is_tensor(v) else v)",
    ),
    _Format(
        "a safetensors file",
        (".safetensors",),
        re.compile(rb".{5}\0{3}\{\"", re.DOTALL),
        "import numpy as np; from safetensors.numpy import load_file; a = load_file({path!r})",
    ),
    _Format(
        "an HDF5 file",
        (".h5", ".hdf5"),
        re.compile(rb"\x89HDF\r\n"),
        "import h5py, numpy as np; f = h5py.File({path!r}); a = {{k: f[k][()] for k in f if hasattr(f[k], 'shape')}}",
        "np.array(v.tolist()) if v.dtype == object else v",
    ),
    _Format(
        "a file of joblib",
        (".joblib",),
        re.compile(rb"(?!)"),
        "import joblib, numpy as np; d = joblib.load({path!r})" + _ARRAYS,
        is_pickle=True,
    ),
    _Format(
        "a pickle",
        (".pkl", ".pickle"),
        re.compile(rb"\x80[\x02-\x05]"),
        "import pickle, numpy as np; d = pickle.load(open({path!r}, 'rb'))" + _ARRAYS,
        is_pickle=True,
    ),
)
SAVED_ENDINGS = tuple(ending for saved in _FORMATS for ending in saved.endings)


def saved_arrays(path: str, head: bytes) -> str | None:
    """What a file is, by its name or else its first bytes, if another library saves arrays so; and what to do."""
    ending = PurePosixPath(path).suffix.lower()
    by_name = [saved for saved in _FORMATS if ending in saved.endings]
    found = next((saved for saved in (*by_name, *_FORMATS) if saved in by_name or saved.begins.match(head)), None)
    return None if found is None else found.told(path)
