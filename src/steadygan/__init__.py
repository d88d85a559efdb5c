"""steadygan trains GANs that do not fall over, and says why.

The five lines for one's own loop::

    from steadygan import Game
    game = Game("nonsaturating", ["js:gamma=0.1"])
    game.critic_loss(D, real, fake.detach()).backward()      # then step D's optimizer
    game.generator_loss(D, real, fake).backward()            # then step G's optimizer
"""

from .core import (
    Context,
    Game,
    SteadyganError,
    build,
    convert_gamma,
    describe,
    names,
    register,
    spec,
)

__version__ = "0.1.0"
__all__ = [
    "Context",
    "Game",
    "SteadyganError",
    "__version__",
    "build",
    "convert_gamma",
    "describe",
    "names",
    "register",
    "spec",
]
