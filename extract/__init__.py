"""Machines, costs, candidates and schedules: chooses what runs."""
