"""Memory strategies: which frames are stored, which one goes, and how they are read."""

from __future__ import annotations

from lazyvos.memory.base import Memory, Readout, Want
from lazyvos.memory.dam4sam import Dam4SamConfig, Dam4SamMemory
from lazyvos.memory.fifo import FifoMemory, Unbounded
from lazyvos.memory.interval import Interval
from lazyvos.memory.longterm import LongTermMemory
from lazyvos.memory.qdmn import QdmnBank
from lazyvos.memory.readmem import ReadMem, ReadMemConfig
from lazyvos.memory.rmem import RMem
from lazyvos.memory.sam2long import PathTree, Sam2LongMemory

__all__ = [
    "Dam4SamConfig", "Dam4SamMemory", "FifoMemory", "Interval", "LongTermMemory", "Memory", "PathTree", "QdmnBank", "RMem", "ReadMem",
    "ReadMemConfig", "Readout", "Sam2LongMemory", "Unbounded", "Want",
]  # fmt: skip
