"""The fleet file: parsed, checked, and written."""

from trioder.fleet.check import asset_from_document, load_fleet
from trioder.fleet.parse import Fault, FleetFileError
from trioder.fleet.write import asset_to_document, dump_fleet

__all__ = [
    "Fault",
    "FleetFileError",
    "asset_from_document",
    "asset_to_document",
    "dump_fleet",
    "load_fleet",
]
