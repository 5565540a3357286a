"""How shapes are checked while the tests run: beartype looks once at what is given and once at what comes back, and
jaxtyping holds the sizes of one call together.

The decorator that jaxtyping's import hook takes by itself looks at everything given twice, which took the tests a
quarter of their time, and says nothing about an annotation that is none.
"""

from dataclasses import is_dataclass

from beartype import beartype
from jaxtyping import jaxtyped


def checked(it):
    """A function, method, property or dataclass that refuses what has another shape than its types say."""
    if not isinstance(it, type):
        return jaxtyped(beartype(it), typechecker=None)
    if is_dataclass(it):
        it.__init__ = checked(it.__init__)
    return it
