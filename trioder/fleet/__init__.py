"""The fleet file: read and checked, cut into shards, and written."""

from trioder.fleet.documents import asset_from_document, asset_to_document
from trioder.fleet.dump import dump_fleet
from trioder.fleet.faults import Fault, FleetFileError
from trioder.fleet.load import load_fleet

__all__ = [
    "Fault",
    "FleetFileError",
    "asset_from_document",
    "asset_to_document",
    "dump_fleet",
    "load_fleet",
]
