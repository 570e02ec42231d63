"""Segue: offline-to-online reinforcement learning without the drop."""
