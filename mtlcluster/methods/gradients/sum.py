from typing import ClassVar, Literal

from mtlcluster.methods.base import Gradient


class Sum(Gradient):
    """The gradient of the weighted sum: one plain backward, nothing more."""

    needs: ClassVar[Literal["nothing"]] = "nothing"
