"""All mutants, in the order of the traps they fall into; those of no trap last."""

from tests.mutants import (
    of_engine,
    of_files,
    of_groups,
    of_losses,
    of_maps,
    of_moco,
    of_pipeline,
    of_planning,
    of_processes,
    of_protocols,
    of_python,
    of_quality,
    of_sources,
    of_studies,
    of_surface,
    of_surveys,
    of_trackers,
    of_transfer,
    of_values,
    of_vectors,
    of_views,
    of_weights,
)
from tests.mutants.mutant import Mutant

NOT_YET: dict[int, str] = {}
"""Traps that nothing here can fall into so far."""

MUTANTS: list[Mutant] = sorted(
    [
        *of_moco.MUTANTS,
        *of_losses.MUTANTS,
        *of_views.MUTANTS,
        *of_engine.MUTANTS,
        *of_processes.MUTANTS,
        *of_python.MUTANTS,
        *of_files.MUTANTS,
        *of_protocols.MUTANTS,
        *of_quality.MUTANTS,
        *of_planning.MUTANTS,
        *of_pipeline.MUTANTS,
        *of_surface.MUTANTS,
        *of_transfer.MUTANTS,
        *of_vectors.MUTANTS,
        *of_maps.MUTANTS,
        *of_values.MUTANTS,
        *of_weights.MUTANTS,
        *of_sources.MUTANTS,
        *of_studies.MUTANTS,
        *of_surveys.MUTANTS,
        *of_trackers.MUTANTS,
        *of_groups.MUTANTS,
    ],
    key=lambda mutant: 99 if mutant.trap is None else mutant.trap,
)
