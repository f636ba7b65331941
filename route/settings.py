"""The router that this copy of the code was published with; empty in the library.

A published repository holds the content of its `router.json` here, because `custom_generate` code
sees its own modules (always those of one commit) but not the other files of its repository.
"""

ROUTER_JSON = ""
