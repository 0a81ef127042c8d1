"""The benchmark of Klipper Router: cases, load generators, peers to compare with, statistics, tables and plots.

Each case starts what it measures and its peers side by side, and lets them take turns (`rounds.interleaved`), so that
a noisy minute of the machine hits all of them. What is measured runs on one core, the load generators and the
stand-in Klippys in processes of their own on another (`machine`). To add cases: write a module that decorates
functions with `cases.case`, and name it in `cases.MODULES`.
"""
