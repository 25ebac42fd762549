"""The benchmarks. Importing this package registers them, in the order of the table."""

# isort: off
from benchmarks.suite import steps as steps
from benchmarks.suite import memory as memory
from benchmarks.suite import taps as taps
from benchmarks.suite import codecs as codecs
from benchmarks.suite import muon_steps as muon_steps
from benchmarks.suite import newton_schulz as newton_schulz
from benchmarks.suite import muon_torch as muon_torch
from benchmarks.suite import compilation as compilation
from benchmarks.suite import python_cost as python_cost
from benchmarks.suite import loops as loops
from benchmarks.suite import collectives as collectives
from benchmarks.suite import meshes as meshes
from benchmarks.suite import bases as bases
from benchmarks.suite import bases_on_meshes as bases_on_meshes
from benchmarks.suite import planning as planning
from benchmarks.suite import tpu as tpu
from benchmarks.suite import on_gpu as on_gpu
