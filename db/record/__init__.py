"""Write one outcome, with the event that tells a person about it.

Recording an outcome twice changes nothing, except the time of a listing that was read again or of a
choice that was made again.
"""

from db.record import candidates, publications, soups  # each registers its recorders
from db.record.rows import record

__all__ = ["candidates", "publications", "record", "soups"]
