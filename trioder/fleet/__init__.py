"""The fleet file: parsed, checked, and written. And scenario files: parsed and checked against a fleet."""

from trioder.fleet.check import asset_from_document, load_fleet
from trioder.fleet.faults import Fault, FleetFileError, ScenarioFileError
from trioder.fleet.scenario import load_scenario, scenario_from_document, scenario_to_document
from trioder.fleet.write import asset_to_document, dump_fleet

__all__ = [
    "Fault",
    "FleetFileError",
    "ScenarioFileError",
    "asset_from_document",
    "asset_to_document",
    "dump_fleet",
    "load_fleet",
    "load_scenario",
    "scenario_from_document",
    "scenario_to_document",
]
