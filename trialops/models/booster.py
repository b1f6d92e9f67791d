"""LightGBM prediction through the library's C interface.

Importing the lightgbm package pulls pandas and scikit-learn (about two seconds and 190 MB); a model server
needs neither. The C interface is public and stable, and its predictions are the package's own, bit for bit.
Where the shared library is not found, the package is used instead.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import struct
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np

_FLOAT64, _ROW_MAJOR, _FROM_FIRST, _ALL_ROUNDS = 1, 1, 0, -1
_PREDICT_PROBABILITY, _PREDICT_CONTRIBUTIONS = 0, 3
_ONE_THREAD = b"num_threads=1 verbosity=-1"


_RANGE = re.compile(r"\[[^\s\]]+:[^\s\]]+\]")


def without_ranges(text: str) -> str:
    """A LightGBM text model without the training set's extremes.

    The header line ``feature_infos`` states the smallest and largest value of each feature, each the value of a
    single subject (the oldest one's age). Predicting does not use them.

    Args:
        text: LightGBM's text form.

    Returns:
        The text with every range replaced by ``[-inf:inf]``; its predictions are the same, bit for bit.
    """
    header, trees = text.split("\nTree=0\n", 1) if "\nTree=0\n" in text else (text, None)
    lines = [
        _RANGE.sub("[-inf:inf]", line) if line.startswith("feature_infos=") else line for line in header.split("\n")
    ]
    masked = "\n".join(lines)
    return masked if trees is None else f"{masked}\nTree=0\n{trees}"


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The shared library of the installed lightgbm package, found without importing the package."""
    spec = importlib.util.find_spec("lightgbm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("**/lib_lightgbm.*")):
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            library.LGBM_GetLastError.restype = ctypes.c_char_p
            return library
    return None


class TextBooster:
    """A LightGBM model read from its text form. Predicting is thread-safe.

    Args:
        text: Content of `booster.lgb`.

    Raises:
        TrialOpsError: LightGBM does not accept the text.
    """

    def __init__(self, text: str) -> None:
        self._handle: ctypes.c_void_p | None = None
        self._package: Any = None
        self._single: _OneRow | None = None
        self._native = _library()
        if self._native is None:
            import lightgbm

            self._package = lightgbm.Booster(model_str=text)
            return
        handle, rounds = ctypes.c_void_p(), ctypes.c_int()
        self._call("LGBM_BoosterLoadModelFromString", text.encode(), ctypes.byref(rounds), ctypes.byref(handle))
        self._handle = handle

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(-1 if self._native is None else getattr(self._native, name)(*arguments))

    def _check(self, code: int) -> None:
        library = self._native
        if code != 0:
            detail = library.LGBM_GetLastError().decode(errors="replace") if library else "not loaded"
            raise TrialOpsError(
                f"LightGBM refused the model: {detail}",
                where="booster.lgb",
                fix="Restore the bundle from the registry.",
            )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n,) for a float64 matrix of shape (n, p), NaN where missing."""
        import numpy as np

        if self._package is not None:
            return np.asarray(self._package.predict(x, num_threads=1), dtype=np.float64)
        if 0 < len(x) <= _FEW and (one := self._one_row(x.shape[1])) is not None:
            return one(x)
        return self._predict(x, _PREDICT_PROBABILITY, 1).ravel()

    def predict_row(self, row: Sequence[float]) -> float:
        """Probability of one row of p values, NaN where missing, as :meth:`predict` gives it."""
        if (one := self._one_row(len(row))) is not None:
            return one.predict(row)
        import numpy as np

        return float(self.predict(np.array([row], dtype=np.float64))[0])

    def contributions(self, x: np.ndarray) -> np.ndarray:
        """SHAP values of shape (n, p + 1) for a float64 matrix of shape (n, p); the base value comes last."""
        import numpy as np

        if self._package is not None:
            return np.asarray(self._package.predict(x, pred_contrib=True, num_threads=1), dtype=np.float64)
        return self._predict(x, _PREDICT_CONTRIBUTIONS, x.shape[1] + 1)

    def _predict(self, x: np.ndarray, what: int, width: int) -> np.ndarray:
        import numpy as np

        x = np.ascontiguousarray(x, dtype=np.float64)
        out, length = np.empty((x.shape[0], width), dtype=np.float64), ctypes.c_int64()
        if x.shape[0] == 0:
            return out
        self._call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            x.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(x.shape[0]),
            ctypes.c_int32(x.shape[1]),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(what),
            ctypes.c_int(_FROM_FIRST),
            ctypes.c_int(_ALL_ROUNDS),
            _ONE_THREAD,
            ctypes.byref(length),
            out.ctypes.data_as(ctypes.POINTER(ctypes.c_double)),
        )
        return out

    def _one_row(self, width: int) -> _OneRow | None:
        """The prepared predictor of single rows; None where the model has another number of features.

        LightGBM reads the parameters of a prediction on every call; prepared once, a row costs a third.
        """
        if self._native is None:
            return None
        if self._single is None:
            features = ctypes.c_int()
            self._call("LGBM_BoosterGetNumFeature", self._handle, ctypes.byref(features))
            handle = ctypes.c_void_p()
            self._call(
                "LGBM_BoosterPredictForMatSingleRowFastInit",
                self._handle,
                ctypes.c_int(_PREDICT_PROBABILITY),
                ctypes.c_int(_FROM_FIRST),
                ctypes.c_int(_ALL_ROUNDS),
                ctypes.c_int(_FLOAT64),
                ctypes.c_int32(features.value),
                _ONE_THREAD,
                ctypes.byref(handle),
            )
            self._single = _OneRow(self, self._native, handle, features.value)
        return self._single if self._single.width == width else None

    def __del__(self) -> None:
        if self._handle is not None and self._native is not None:
            if self._single is not None:
                self._native.LGBM_FastConfigFree(self._single.handle)
            self._native.LGBM_BoosterFree(self._handle)
            self._handle = None


_FEW = 16
"""Up to this many rows, one prepared call for each costs less than one call that reads its parameters again."""


class _OneRow:
    """Predicts row by row into a buffer of its own; a lock keeps two threads from sharing it."""

    def __init__(self, booster: TextBooster, library: ctypes.CDLL, handle: ctypes.c_void_p, width: int) -> None:
        self.handle, self.width = handle, width
        self._check = weakref.WeakMethod(booster._check)
        self._lock = threading.Lock()
        self._row, self._out, self._length = (ctypes.c_double * width)(), ctypes.c_double(), ctypes.c_int64()
        self._pack = struct.Struct(f"={width}d").pack_into
        # Called with the interpreter's lock held: to give it away and get it back takes longer than the trees do.
        prototype = ctypes.PYFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
        self._function = prototype(("LGBM_BoosterPredictForMatSingleRowFast", library))
        buffers = (self._row, self._length, self._out)
        self._arguments = (handle, *(ctypes.c_void_p(ctypes.addressof(buffer)) for buffer in buffers))

    def predict(self, row: Sequence[float]) -> float:
        with self._lock:
            self._pack(self._row, 0, *row)
            if self._function(*self._arguments) != 0 and (check := self._check()) is not None:
                check(-1)
            return self._out.value

    def __call__(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.array([self.predict(row) for row in x.tolist()])
