"""Kernels compiled for x86-64-v2, or whatever another architecture has."""
