"""Memory strategies: which frames are stored, which one goes, and how they are read."""

from __future__ import annotations

from lazyvos.memory.base import Memory, Readout, Want
from lazyvos.memory.fifo import FifoMemory, Unbounded
from lazyvos.memory.interval import Interval
from lazyvos.memory.longterm import LongTermMemory
from lazyvos.memory.qdmn import QdmnBank
from lazyvos.memory.readmem import ReadMem, ReadMemConfig

__all__ = ["FifoMemory", "Interval", "LongTermMemory", "Memory", "QdmnBank", "ReadMem", "ReadMemConfig", "Readout", "Unbounded", "Want"]
