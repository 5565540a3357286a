"""How shapes are checked while the tests run: beartype looks once at what is given and once at what comes back, and
jaxtyping holds the sizes of one call together.

The decorator that jaxtyping's import hook takes by itself looks at everything given twice and binds it to a signature,
which took the tests a quarter of their time, and says nothing about an annotation that is none.
"""

from dataclasses import is_dataclass
from functools import wraps

from beartype import beartype
from jaxtyping import jaxtyped


def checked(it):
    """A function, method, property or dataclass that refuses what has another shape than its types say."""
    if isinstance(it, type):
        if is_dataclass(it):
            it.__init__ = checked(it.__init__)
        return it
    if isinstance(it, classmethod | staticmethod):
        return type(it)(checked(it.__func__))
    if isinstance(it, property):
        return property(checked(it.fget))
    typed, types = beartype(it), " ".join(map(str, it.__annotations__.values()))
    if typed is it or "[Tensor, " not in types:  # nothing to check, or no sizes to hold together
        return typed
    if "{" in types:  # a size that is the value of an argument
        return jaxtyped(typed, typechecker=None)

    @wraps(it)
    def call(*given, **named):
        with jaxtyped("context"):
            return typed(*given, **named)

    return call
