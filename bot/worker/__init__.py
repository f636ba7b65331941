"""The child process: everything that interprets strangers' tensors runs here, without a token.

`protocol` and `processes` are standard library only and are shared with the daemon's side of the
pipe (`bot.executors`); the other modules are imported in the child alone.
"""
